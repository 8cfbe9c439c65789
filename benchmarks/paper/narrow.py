"""The paper's pipelines by their published configurations, narrow, and networks for their scores: all weights random.

Only what `NARROW` names differs from the published ones: widths, and the size of what is sampled. Block types, numbers
of heads and of layers in a block, v-prediction and the noise levels stay. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers as df
import torch
import transformers as tr
from torch import Tensor, nn

from ..images.published import CHURCH, CHURCH_LEVELS, SD2_LEVELS, SD2_TEXT, SD2_UNET, SD2_VAE
from ..zoo import tiny

NARROW: dict[str, dict[str, Any]] = {
    "church": {"sample_size": 32, "block_out_channels": (4, 4, 8, 8, 16, 16), "norm_num_groups": 4},
    "unet": {
        "sample_size": 8, "block_out_channels": (20, 40, 80, 80), "norm_num_groups": 4, "cross_attention_dim": 32,
    },
    "text": {
        "vocab_size": 54, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "projection_dim": 32,
    },
    "vae": {"sample_size": 64, "block_out_channels": (4, 8, 8, 8), "norm_num_groups": 4},
}  # fmt: skip


def church(kind: str = "DDPMPipeline", levels: str = "DDPMScheduler") -> Any:
    """The LSUN pipelines, narrow: six levels, attention in the fifth, pictures of 32x32."""
    unet = tiny.seeded(df.UNet2DModel, **CHURCH | NARROW["church"])
    config = {k: v for k, v in CHURCH_LEVELS.items() if k != "variance_type" or levels == "DDPMScheduler"}
    return getattr(df, kind)(unet=unet, scheduler=getattr(df, levels)(**config))


def sd2() -> Any:
    """Stable Diffusion 2, narrow: latents of 8x8, pictures of 64x64, prompts in letters."""
    text = tr.CLIPTextConfig(**SD2_TEXT | NARROW["text"], bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return df.StableDiffusionPipeline(
        unet=tiny.seeded(df.UNet2DConditionModel, **SD2_UNET | NARROW["unet"]),
        vae=tiny.seeded(df.AutoencoderKL, **SD2_VAE | NARROW["vae"]),
        text_encoder=tiny.seeded(tr.CLIPTextModel, text),
        tokenizer=tiny.clip_tokenizer(),
        scheduler=df.DDIMScheduler(**SD2_LEVELS),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


PIPELINES = {"sd2": sd2, "church": church}


def save_clip(folder: Path) -> str:
    """A CLIP of pictures of 8x8 and prompts in letters, written to a folder; the folder's path."""
    config = tr.CLIPConfig(
        text_config=tiny.clip_text().config.to_dict(),
        vision_config=tiny.clip_vision().config.to_dict(),
        projection_dim=8,
    )
    tiny.seeded(tr.CLIPModel, config).save_pretrained(folder)
    tr.CLIPProcessor(tiny.clip_images(), tiny.clip_tokenizer()).save_pretrained(folder)
    return str(folder)


class Features(nn.Module):
    """Six features of bytes (B, 3, H, W), in place of Inception's 2048."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weights", torch.randn(3 * 8 * 8, 6, generator=generator, dtype=torch.float64) / 500)

    def forward(self, x: Tensor) -> Tensor:
        """The features (B, 6)."""
        small = nn.functional.adaptive_avg_pool2d(x.double(), 8)
        return small.flatten(1) @ self.weights  # type: ignore[operator]
