"""Train the pipeline in stages, each for a fixed time: the autoencoder, then U-Net and text encoder together.

    python -m training.latent.train vae|unet|decoder|write [--minutes M] [--resume] [--out DIR]

vae:  minimise |e| + sum over three scales of |e's Laplacian pyramid| + KL / 3000, each a mean, with e = decode(z) - x
unet: minimise E |eps - f(alpha z + sigma eps, t, text(caption))|^2 on the latents of a pool of scenes; a caption is
      told anew each time a scene is met, and is empty one time in eight, for classifier-free guidance.

bfloat16 autocast, one thread; the rest as in ../training.py. `unet` writes the whole pipeline to DIR/pipeline;
`decoder` goes on with the autoencoder's decoder alone, which leaves latents and U-Net as they are, and `write` writes
the pipeline again with it.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paradigms.models.latent.older import readable_by_older

from ..models.training import SEED, Course, Training, arguments
from . import parts
from .captions import caption, choices, draw_scenes
from .norm import quick_norms

HELD_OUT_SEED, POOL, DROP = 1_000_003, 12_000, 0.125


class Stage(Training):
    """What the trainings share: several modules in one, and the captions' own generator in the state on disk."""

    course: Course

    def __init__(self, modules: dict[str, nn.Module], out: Path, minutes: float | None) -> None:
        super().__init__(nn.ModuleDict(modules), replace(self.course, minutes=minutes or self.course.minutes), out)
        quick_norms(self.model)
        self.say = random.Random(SEED)

    @abstractmethod
    def held_out(self) -> float:
        """How well the averaged weights do on what training never meets."""

    def write(self) -> str:
        return f"held out {self.held_out():.5f}"

    def state(self) -> dict[str, Any]:
        return super().state() | {"say": self.say.getstate()}

    def restore(self, state: dict[str, Any]) -> None:
        if "clock" in state:  # a run's file from before it had the others' names
            state = state | dict(zip(("step", "seconds", "loss"), state["clock"], strict=True))
        super().restore(state)
        kind, numbers, gauss = state["say"]
        self.say.setstate((kind, tuple(numbers), gauss))


class Autoencoder(Stage):
    course = Course("vae", 4, 1.5e-3, 31.0, 100)

    def __init__(self, out: Path, minutes: float | None = None) -> None:
        torch.manual_seed(SEED)
        super().__init__({"vae": parts.autoencoder().to(memory_format=torch.channels_last)}, out, minutes)

    def draw_loss(self) -> Tensor:
        vae: Any = self.model["vae"]
        x = draw_scenes(choices(self.course.batch, self.generator), self.generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            code = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
            mean, logvar = code.mean.float(), code.logvar.float()
            z = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=self.generator)
            y = vae.decode(z).sample.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return difference(y, x) + kl / 3000

    @torch.no_grad()
    def held_out(self) -> float:
        """Mean absolute error of reconstructions of 64 unseen scenes."""
        x = unseen(64)[1]
        vae: Any = self.average["vae"]
        return (vae.decode(vae.encode(x).latent_dist.mean).sample - x).abs().mean().item()


class Decoder(Autoencoder):
    """The autoencoder's decoder alone, trained on where `vae` ended: pictures become sharper, latents stay."""

    course = replace(Autoencoder.course, name="decoder")

    def __init__(self, out: Path, minutes: float | None = None) -> None:
        super().__init__(out, minutes)
        start = torch.load(out / "vae.pt", weights_only=True)["average"]
        self.model.load_state_dict(start)
        self.average.load_state_dict(start)
        vae: Any = self.model["vae"]
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)


class Denoiser(Stage):
    course = Course("unet", 24, 1.2e-3, 31.0, 100)

    def __init__(self, out: Path, minutes: float | None = None) -> None:
        from diffusers import DDPMScheduler
        from diffusers.models.attention_processor import AttnProcessor

        torch.manual_seed(SEED)
        self.words = parts.tokenizer(out / "words")
        unet = parts.unet().to(memory_format=torch.channels_last)
        super().__init__({"unet": unet, "text_encoder": parts.text_encoder(self.words)}, out, minutes)
        unet.set_attn_processor(AttnProcessor())  # the fused attention's backward pass is the slow one on a CPU
        self.vae = scaled(out)
        self.rows, self.latents = pool(self.vae, out / "pool.pt")
        self.levels = DDPMScheduler(**parts.SCHEDULE)

    def draw_loss(self) -> Tensor:
        g = self.generator
        k = torch.randint(len(self.rows), (self.course.batch,), generator=g)
        mean, spread = self.latents[k].float().chunk(2, dim=1)
        z = mean + spread * torch.randn(mean.shape, generator=g)
        told = ["" if self.say.random() < DROP else caption(row, self.say) for row in self.rows[k].tolist()]
        t = ((torch.arange(len(z)) + torch.rand(len(z), generator=g)) * (1000 / len(z))).long().clamp_(max=999)
        return self.error(self.model, z, t, told, torch.randn(z.shape, generator=g))

    def error(self, modules: Any, z: Tensor, t: Tensor, told: list[str], eps: Tensor) -> Tensor:
        """Mean squared error of the predicted noise."""
        noisy = self.levels.add_noise(z, eps, t).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            text = modules["text_encoder"](tokens(self.words, told))[0]
            answer = modules["unet"](noisy, t, encoder_hidden_states=text).sample
        return (answer.float() - eps).square().mean()

    @torch.no_grad()
    def held_out(self) -> float:
        """The training loss on 512 unseen scenes at evenly spread t with fixed noise and captions."""
        g, say = torch.Generator().manual_seed(HELD_OUT_SEED), random.Random(HELD_OUT_SEED)
        rows, x = unseen(512)
        z = self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor
        told = [caption(row, say) for row in rows.tolist()]
        t = torch.arange(len(z)) * 1000 // len(z)
        return self.error(self.average, z, t, told, torch.randn(z.shape, generator=g)).item()

    def write(self) -> str:
        """The pipeline with the averaged weights, in float16."""
        made = parts.pipeline(self.vae, self.average["text_encoder"], self.words, self.average["unet"])
        made.save_pretrained(self.out / "pipeline")
        readable_by_older(self.out / "pipeline")
        return super().write()


STAGES: dict[str, type[Autoencoder] | type[Denoiser]] = {
    "vae": Autoencoder,
    "unet": Denoiser,
    "decoder": Decoder,
}


def difference(y: Tensor, x: Tensor) -> Tensor:
    """Mean absolute difference of pictures and of three levels of their Laplacian pyramids."""
    error = y - x
    total = error.abs().mean()
    for _ in range(3):
        coarse = functional.avg_pool2d(error, 2)
        total = total + (error - functional.interpolate(coarse, scale_factor=2, mode="bilinear")).abs().mean()
        error = coarse
    return total


def tokens(words: Any, told: list[str]) -> Tensor:
    """Token numbers (N, 24), padded as the pipeline pads them."""
    return words(told, padding="max_length", truncation=True, max_length=parts.TOKENS, return_tensors="pt").input_ids


def unseen(count: int) -> tuple[Tensor, Tensor]:
    """Scenes that no training meets: their choices and pictures."""
    g = torch.Generator().manual_seed(HELD_OUT_SEED)
    rows = choices(count, g)
    return rows, draw_scenes(rows, g)


@torch.no_grad()
def scaled(out: Path) -> Any:
    """The trained autoencoder of `out`, its scaling_factor such that latents of unseen scenes have variance 1."""
    vae = parts.autoencoder()
    path = out / "decoder.pt" if (out / "decoder.pt").is_file() else out / "vae.pt"
    weights = torch.load(path, weights_only=True)["average"]
    vae.load_state_dict({name.removeprefix("vae."): value for name, value in weights.items()})
    vae.eval().requires_grad_(False)
    z = vae.encode(unseen(256)[1]).latent_dist.sample(torch.Generator().manual_seed(SEED))
    vae.register_to_config(scaling_factor=round(1 / z.std().item(), 4))
    return vae


@torch.no_grad()
def pool(vae: Any, path: Path) -> tuple[Tensor, Tensor]:
    """POOL scenes' choices and latents (mean and spread, scaled), drawn and encoded once and kept at `path`."""
    if path.is_file():
        rows, latents = torch.load(path, weights_only=True)
        return rows, latents
    g, found = torch.Generator().manual_seed(SEED + 1), []
    rows = choices(POOL, g)
    for part in rows.split(500):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            codes = [vae.encode(x).latent_dist for x in draw_scenes(part, g).split(50)]
        found += [torch.cat([c.mean.float(), c.std.float()], dim=1) * vae.config.scaling_factor for c in codes]
    latents = torch.cat(found).half()
    torch.save((rows, latents), path)
    return rows, latents


def main() -> None:
    what = [*STAGES, "write"]
    given = arguments("training.latent.train", __doc__, what, ".cache/train/latent").parse_args()
    torch.set_num_threads(1)
    if given.what == "write":
        finished = Denoiser(given.out)
        finished.resume()
        return print(finished.write())
    stage = STAGES[given.what](given.out, given.minutes)
    if given.resume:
        stage.resume()
    stage.train()


if __name__ == "__main__":
    main()
