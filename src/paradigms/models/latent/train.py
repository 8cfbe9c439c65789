"""Train the pipeline in stages, each for a fixed time: the autoencoder, then U-Net and text encoder together.

    python -m paradigms.models.latent.train vae|unet|decoder|write [--minutes M] [--resume] [--out DIR]

vae:  minimise |e| + sum over three scales of |e's Laplacian pyramid| + KL / 3000, each a mean, with e = decode(z) - x
unet: minimise E |eps - f(alpha z + sigma eps, t, text(caption))|^2 on the latents of a pool of scenes; a caption is
      told anew each time a scene is met, and is empty one time in eight, for classifier-free guidance.

AdamW, bfloat16 autocast, one thread, rates that warm up for 100 steps and follow half a cosine of the time budget,
averaged weights. `unet` writes the whole pipeline to DIR/pipeline; `decoder` goes on with the autoencoder's decoder
alone, which leaves latents and U-Net as they are, and `write` writes the pipeline again with it.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import parts
from .captions import caption, choices, draw_scenes
from .norm import quick_norms

SEED, HELD_OUT_SEED, WARM_UP, SAVE_EVERY = 0, 1_000_003, 100, 180.0
POOL, DROP = 12_000, 0.125


class Stage:
    """What both trainings share: the clock, the rate, the averaged weights and the state on disk."""

    name, batch, rate, minutes = "", 16, 1e-3, 15.0

    def __init__(self, out: Path, modules: dict[str, nn.Module]) -> None:
        torch.manual_seed(SEED)
        self.out, self.modules = out, nn.ModuleDict(modules)
        self.average = copy.deepcopy(self.modules).requires_grad_(False).eval()
        quick_norms(self.modules)
        self.adam = torch.optim.AdamW(self.modules.parameters(), lr=self.rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.generator, self.say = torch.Generator().manual_seed(SEED), random.Random(SEED)
        self.step, self.seconds, self.mean = 0, 0.0, float("nan")

    def loss(self) -> Tensor:
        raise NotImplementedError

    def held_out(self) -> float:
        raise NotImplementedError

    def train(self, budget: float) -> None:
        """Steps until `budget` seconds are used up, with a checkpoint every three minutes and at the end."""
        last = saved = time.monotonic()
        while self.seconds < budget:
            used = min(1.0, self.seconds / budget)
            rate = self.rate * min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * used))
            now = self.one_step(rate)
            self.mean = now if math.isnan(self.mean) else 0.99 * self.mean + 0.01 * now
            clock = time.monotonic()
            self.seconds, last = self.seconds + clock - last, clock
            if clock - saved > SAVE_EVERY:
                self.checkpoint()
                saved = last = time.monotonic()
        self.checkpoint()

    def one_step(self, rate: float) -> float:
        self.adam.param_groups[0]["lr"] = rate
        loss = self.loss()
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.adam.step()
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.modules.parameters()), 1 - decay)
        self.step += 1
        return loss.item()

    def checkpoint(self) -> None:
        """Write the state for --resume, and say how it goes."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "modules": self.modules.state_dict(),
            "average": self.average.state_dict(),
            "adam": self.adam.state_dict(),
            "generator": self.generator.get_state(),
            "say": self.say.getstate(),
            "clock": (self.step, self.seconds, self.mean),
        }
        partial = self.out / f"{self.name}.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / f"{self.name}.pt")
        print(
            f"{self.name} {self.seconds / 60:6.1f} min  step {self.step}  pictures {self.step * self.batch}  "
            f"loss {self.mean:.5f}  held out {self.held_out():.5f}",
            flush=True,
        )

    def resume(self) -> None:
        """Go on from the state on disk."""
        state = torch.load(self.out / f"{self.name}.pt", weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.average.load_state_dict(state["average"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["generator"])
        kind, numbers, gauss = state["say"]
        self.say.setstate((kind, tuple(numbers), gauss))
        self.step, self.seconds, self.mean = state["clock"]


class Autoencoder(Stage):
    name, batch, rate, minutes = "vae", 4, 1.5e-3, 31.0

    def __init__(self, out: Path) -> None:
        torch.manual_seed(SEED)
        super().__init__(out, {"vae": parts.autoencoder().to(memory_format=torch.channels_last)})

    def loss(self) -> Tensor:
        vae: Any = self.modules["vae"]
        x = draw_scenes(choices(self.batch, self.generator), self.generator)
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

    name = "decoder"

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        start = torch.load(out / "vae.pt", weights_only=True)["average"]
        self.modules.load_state_dict(start)
        self.average.load_state_dict(start)
        vae: Any = self.modules["vae"]
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)


class Denoiser(Stage):
    name, batch, rate, minutes = "unet", 24, 1.2e-3, 31.0

    def __init__(self, out: Path) -> None:
        from diffusers import DDPMScheduler
        from diffusers.models.attention_processor import AttnProcessor

        torch.manual_seed(SEED)
        self.words = parts.tokenizer(out / "words")
        unet = parts.unet().to(memory_format=torch.channels_last)
        super().__init__(out, {"unet": unet, "text_encoder": parts.text_encoder(self.words)})
        unet.set_attn_processor(AttnProcessor())  # the fused attention's backward pass is the slow one on a CPU
        self.vae = scaled(out)
        self.rows, self.latents = pool(self.vae, out / "pool.pt")
        self.levels = DDPMScheduler(**parts.SCHEDULE)

    def loss(self) -> Tensor:
        g = self.generator
        k = torch.randint(len(self.rows), (self.batch,), generator=g)
        mean, spread = self.latents[k].float().chunk(2, dim=1)
        z = mean + spread * torch.randn(mean.shape, generator=g)
        told = ["" if self.say.random() < DROP else caption(row, self.say) for row in self.rows[k].tolist()]
        t = ((torch.arange(len(z)) + torch.rand(len(z), generator=g)) * (1000 / len(z))).long().clamp_(max=999)
        return self.error(self.modules, z, t, told, torch.randn(z.shape, generator=g))

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

    def checkpoint(self) -> None:
        """The state, and the whole pipeline."""
        super().checkpoint()
        self.write()

    def write(self) -> None:
        """The pipeline with the averaged weights, in float16."""
        parts.pipeline(self.vae, self.average["text_encoder"], self.words, self.average["unet"]).save_pretrained(
            self.out / "pipeline"
        )


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
    parser = argparse.ArgumentParser(prog="python -m paradigms.models.latent.train", description=__doc__)
    parser.add_argument("what", choices=[*STAGES, "write"])
    parser.add_argument("--minutes", type=float, default=None, help="wall-clock budget (default: as shipped)")
    parser.add_argument("--resume", action="store_true", help="continue the run whose state is in DIR")
    parser.add_argument("--out", type=Path, default=Path(".cache/train/latent"), metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "write":
        finished = Denoiser(given.out)
        finished.resume()
        return finished.write()
    stage = STAGES[given.what](given.out)
    if given.resume:
        stage.resume()
    stage.train(60 * (given.minutes or stage.minutes))


if __name__ == "__main__":
    main()
