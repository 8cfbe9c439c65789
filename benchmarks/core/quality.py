"""Does parallel sampling change the pictures? Fréchet distances against their noise floor.

Sets of `count` samples: sequential A, sequential B from other seeds, and parallel ones from A's noise. The distance
A-B is what chance alone does to sets of this size: a parallel set should be no further from B than A is, and near A.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.execution.chunked import Model
from paradigms.methods.spectral import Spectral
from paradigms.models import load
from paradigms.rules import ddim, ddpm
from paradigms.schedule import linear
from paradigms.solution import relative_error
from paradigms.solve import TOLERANCE, sample, sequential
from paradigms.system import System
from training.models.frechet import features, frechet

from ..report import table, write

HEAD = ("sampler", "rounds", "evals / N", "median error", "max error", "to A", "to B")
BATCH = 10  # times the window of 32 that is 320 rows a call, which a CPU's cache still likes


@dataclass(frozen=True)
class Case:
    """A model and its chain."""

    name: str
    title: str
    model: Model
    system: System
    shape: tuple[int, ...]
    classes: int

    def start(self, seed: int) -> tuple[Tensor, dict[str, Any]]:
        """Starting noise (BATCH, C, H, W), and the generator and the condition to go on with."""
        generator = torch.Generator().manual_seed(seed)
        x = self.system.noise((BATCH, *self.shape), generator)
        label = {"label": (torch.arange(BATCH) + seed) % self.classes} if self.classes else None
        return x, {"generator": generator, "condition": label}


def make(name: str) -> Case:
    """Digits by DDPM-100, scenes by DDIM-50."""
    found, (title, rule, steps) = load(name), {"digits": ("DDPM-100", ddpm, 100), "scenes": ("DDIM-50", ddim, 50)}[name]
    system = rule(linear(), steps, prediction=found.prediction)  # type: ignore[operator]
    return Case(name, f"{name}, {title}", found.model, system, found.shape, found.classes)


def measure(case: Case, count: int, tolerance: float) -> list[dict[str, Any]]:
    """One entry a set, the sequential ones first."""
    of = features(case.name)

    def plain(first: int) -> Tensor:
        parts = []
        for seed in range(first, first + count, BATCH):
            x, how = case.start(seed)
            parts.append(sequential(case.model, case.system, x, **how))
        return torch.cat(parts)

    A, B, N = plain(0), plain(count), len(case.system)
    fa, fb = of(A.clamp(-1, 1)), of(B.clamp(-1, 1))
    floor = frechet(fa, fb)
    found: list[dict[str, Any]] = [dict(zip(HEAD, ("sequential A", float(N), 1.0, 0.0, 0.0, 0.0, floor), strict=True))]
    parts, rounds, evaluations = [], [], 0
    for seed in range(0, count, BATCH):
        x, how = case.start(seed)
        run = sample(case.model, case.system, x, Spectral(), window=32, tolerance=tolerance, **how)
        parts.append(run.x)
        rounds.append(run.sample_rounds)
        evaluations += run.evaluations
    error, f = relative_error(torch.cat(parts), A), of(torch.cat(parts).clamp(-1, 1))
    name = f"spectral secant, tolerance {tolerance:g}"
    cost = (
        float(torch.cat(rounds).double().mean()),
        evaluations / (count * N),
        float(error.median()),
        float(error.max()),
    )
    found.append(dict(zip(HEAD, (name, *cost, frechet(f, fa), frechet(f, fb)), strict=True)))
    return found


def main(out: Path, model: str = "scenes", count: int = 2000, tolerance: float | None = None) -> None:
    """Measures one model at one tolerance, prints the table and writes out/quality-MODEL.md and .json."""
    tolerance = TOLERANCE if tolerance is None else tolerance
    began, case = time.perf_counter(), make(model)
    found = measure(case, count, tolerance)
    body = table(HEAD, [[entry[k] for k in HEAD] for entry in found])
    title = f"{case.title}, window 32: {count} samples a set, {time.perf_counter() - began:.0f} s"
    about = "Quality: Fréchet distances in our classifier's features"
    print(
        write(
            out,
            f"quality-{model}" + (f"-{tolerance:g}" if tolerance != TOLERANCE else ""),
            about,
            [(title, body)],
            {"count": count, "sets": found},
        )
    )
