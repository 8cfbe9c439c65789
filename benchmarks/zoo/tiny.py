"""Parts of tiny pipelines: every network is made from its config, seeded, alive, and needs no download.

A freshly made denoiser often has zero output layers, so that it predicts the same whatever it sees, and a frozen
network would look right. `alive` redraws every parameter that is all zero: then each call of the network matters.
"""

from __future__ import annotations

import copy
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers as df
import torch
import transformers as tr
from torch import Tensor, nn

PROMPT = "a red fox"


@dataclass(frozen=True)
class Specimen:
    """One tiny pipeline and a call of it: `build()` makes the pipeline, `inputs()` fresh keyword arguments.

    `name` is the pipeline's class, or "class+case" for a further case of it; `family` says which architecture it is of.
    """

    name: str
    family: str
    build: Callable[[], Any]
    inputs: Callable[[], dict[str, Any]]

    @property
    def pipeline(self) -> str:
        """The name of the pipeline's class."""
        return self.name.partition("+")[0]


def call(
    *, seeds: int | list[int] | None = 0, output: str | None = "latent", steps: int | None = 5, **kwargs: Any
) -> Callable[[], dict[str, Any]]:
    """Make a function that gives fresh arguments of a call: `kwargs` copied, and new generators from `seeds`.

    `output` is the output_type, `steps` the num_inference_steps; None leaves generator, output or steps out.
    """
    named = {k: v for k, v in {"num_inference_steps": steps, "output_type": output}.items() if v is not None}

    def fresh() -> dict[str, Any]:
        given = named | copy.deepcopy(kwargs)
        if isinstance(seeds, list):
            given["generator"] = [torch.Generator().manual_seed(s) for s in seeds]
        elif seeds is not None:
            given["generator"] = torch.Generator().manual_seed(seeds)
        return given

    return fresh


def alive(module: nn.Module) -> nn.Module:
    """Redraw, in place, every parameter that is all zero or was left unset, so that no layer is silent; eval mode."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.numel() and (not p.any() or name.endswith("pad_token")):
                scale = 0.1 if p.dim() < 2 else 0.5 / p[0].numel() ** 0.5
                p.copy_(torch.randn(p.shape) * scale)
    return module.eval()


@contextmanager
def seed(number: int = 0) -> Iterator[None]:
    """The global generator starts from `number` inside, and is put back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        yield


def seeded(build: Callable[..., Any], *args: Any, draw: int = 0, **kwargs: Any) -> Any:
    """The module `build(...)`, its weights drawn from seed `draw`, alive."""
    with seed(draw):
        return alive(build(*args, **kwargs))


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers of the given shape, always the same: embeddings, images' latents."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image(size: int = 16, *, count: int = 1, channels: int = 3, seed: int = 0) -> Tensor:
    """Random images (count, channels, size, size) in [0, 1]."""
    return torch.rand((count, channels, size, size), generator=torch.Generator().manual_seed(seed))


def photo(size: int = 16, *, seed: int = 0) -> Any:
    """A random PIL image, for pipelines that take no tensors."""
    from PIL import Image

    return Image.fromarray((image(size, seed=seed)[0].permute(1, 2, 0) * 255).byte().numpy())


def mask(size: int = 16) -> Tensor:
    """A mask (1, 1, size, size) whose left half is 1: the part to be painted anew."""
    return (torch.arange(size) < size // 2).float().expand(1, 1, size, size).clone()


def clip_tokenizer() -> Any:
    """A CLIP tokenizer of single letters, 16 tokens long."""
    letters = [c + end for end in ("", "</w>") for c in "abcdefghijklmnopqrstuvwxyz"]
    vocab = {token: i for i, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    if int(tr.__version__.partition(".")[0]) >= 5:
        return tr.CLIPTokenizer(vocab, [], model_max_length=16)
    with tempfile.TemporaryDirectory() as folder:  # older ones read files
        names = [str(Path(folder) / name) for name in ("vocab.json", "merges.txt")]
        Path(names[0]).write_text(json.dumps(vocab))
        Path(names[1]).write_text("#version: 0.2\n")
        return tr.CLIPTokenizer(*names, model_max_length=16)


def clip_text(width: int = 8, *, projected: bool = False) -> Any:
    """A CLIP text encoder for `clip_tokenizer`, with or without a projection of the same width."""
    config = tr.CLIPTextConfig(
        vocab_size=54, hidden_size=width, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return seeded(tr.CLIPTextModelWithProjection if projected else tr.CLIPTextModel, config)


def clip_vision(width: int = 8) -> Any:
    """A CLIP image encoder of 8x8 images in 4x4 patches, projecting to `width`."""
    config = tr.CLIPVisionConfig(
        hidden_size=width, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=8, patch_size=4, projection_dim=width,
    )  # fmt: skip
    return seeded(tr.CLIPVisionModelWithProjection, config)


def clip_images() -> Any:
    """The preprocessor of `clip_vision`: to 8x8."""
    return tr.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})


def words() -> dict[str, int]:
    """A vocabulary of a few words, for tokenizers that split at spaces."""
    return {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *PROMPT.split(), "blue", "sea"])}


def word_tokenizer() -> Any:
    """A tokenizer of whole words that ends each prompt with </s>, as T5's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    splitter = Tokenizer(models.WordLevel(words(), unk_token="<unk>"))
    splitter.pre_tokenizer = pre_tokenizers.Whitespace()
    splitter.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tr.PreTrainedTokenizerFast(
        tokenizer_object=splitter, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=16
    )


def t5(width: int = 16) -> Any:
    """A T5 encoder for `word_tokenizer`."""
    config = tr.T5Config(vocab_size=len(words()), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return seeded(tr.T5EncoderModel, config)


def unet(**changes: Any) -> Any:
    """A conditional U-Net of two levels on latents (4, 8, 8), text width 8."""
    config: dict[str, Any] = dict(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
        cross_attention_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return seeded(df.UNet2DConditionModel, **config | changes)


def vae(**changes: Any) -> Any:
    """An autoencoder that halves the image: 16x16 pixels are latents (4, 8, 8)."""
    config: dict[str, Any] = dict(
        block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return seeded(df.AutoencoderKL, **config | changes)


def scheduler(name: str = "DDIMScheduler", **changes: Any) -> Any:
    """A scheduler of diffusers on Stable Diffusion's noise levels."""
    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    usual = {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}
    kind = getattr(df, name)
    known = inspect.signature(kind.__init__).parameters
    return kind(**levels | {k: v for k, v in usual.items() if k in known} | changes)


def flow(**changes: Any) -> Any:
    """The Euler scheduler of flow matching."""
    return df.FlowMatchEulerDiscreteScheduler(**changes)
