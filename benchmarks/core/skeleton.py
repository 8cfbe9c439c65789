"""How skeleton sampling keeps its word, and in how many rounds, beside the windows of the default and of ParaDiGMS.

    python -m benchmarks skeleton --minutes 20

Of every cell, tolerance and method: the share of samples whose relative error is within the tolerance, the worst error
in units of it, rounds of a sample (each on its own: rows of one are not given to another), and evaluations over N. All
methods stop by `FinalError` or by their own estimate at the same tolerance. Nodes are taken everywhere, also where
`Skeleton()` would take windows. Seeds from 5000 on: nothing was tuned on them. What is done is kept after every entry,
and a second call goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paradigms import rules
from paradigms.methods.base import AbstractMethod
from paradigms.methods.picard import Picard
from paradigms.schedule import linear
from paradigms.skeleton import Skeleton
from paradigms.solution import relative_error
from paradigms.solve import sample, sequential
from paradigms.system import System

from .problems import Problem, problem, two_gaussians

FIRST = 5000
TOLERANCES = (0.01, 0.003, 0.001)
METHODS: dict[str, Callable[[], AbstractMethod | None]] = {
    "skeleton": lambda: Skeleton(pooled=False, always=True),
    "windows": lambda: None,  # the library's default method
    "Picard": Picard,  # ParaDiGMS
}
MAKE: dict[str, Callable[..., System]] = {
    "DDIM": rules.ddim,
    "DDPM": rules.ddpm,
    "DPMSolver": rules.dpmsolver,
    "flow": lambda schedule, steps, **output: rules.flow(steps, schedule=schedule, **output),
}


class Cell(NamedTuple):
    """A problem, a rule of so many steps, a window, and how many samples."""

    problem: str
    rule: str
    steps: int
    window: int
    samples: int

    @property
    def name(self) -> str:
        """The key in results."""
        return f"{self.problem}/{self.rule}-{self.steps}/w{self.window}"


CELLS = (
    Cell("mixture-64", "DDIM", 200, 32, 200),
    Cell("mixture-1024", "DDIM", 200, 8, 100),
    Cell("mixture-1024", "DDIM", 200, 32, 100),
    Cell("digits", "DDIM", 200, 16, 12),
    Cell("digits", "DDPM", 100, 32, 12),
    Cell("mixture-64", "DPMSolver", 50, 16, 200),
    Cell("mixture-64", "flow", 40, 16, 200),
    Cell("two-16", "DDIM", 200, 32, 200),
    Cell("two-16", "DDPM", 100, 32, 200),
    Cell("two-256", "DDIM", 200, 32, 200),
    Cell("mixture-1024", "DDPM", 100, 32, 100),
    Cell("mixture-64", "DDIM", 50, 16, 200),
    Cell("mixture-64", "DDPM", 1000, 80, 100),
    Cell("digits", "DDPM", 1000, 80, 3),
    Cell("scenes", "DDIM", 200, 32, 2),
)
BATCH = 50  # samples drawn together; of two Gaussians each batch has means of its own


def run(out: Path, seeds: int = FIRST, minutes: float = 60.0, only: str = "") -> dict[str, Any]:
    """All entries that are not in `out`/skeleton.json yet, for so many minutes; writes that and `out`/skeleton.md.

    seeds: the first of a batch's.
    """
    torch.set_num_threads(1)
    path, end = out / "skeleton.json", time.monotonic() + 60 * minutes
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for cell in (c for c in CELLS if only in c.name):
        batches = None
        for tolerance in TOLERANCES:
            for method, make in METHODS.items():
                key = f"{cell.name}/{tolerance:g}/{method}"
                if key in found or time.monotonic() > end:
                    continue
                batches = batches or list(drawn(cell, seeds))
                found[key] = entry(cell, batches, tolerance, make())
                path.write_text(json.dumps(found, indent=1) + "\n")
                (out / "skeleton.md").write_text(report(found))
                print(key, found[key], flush=True)
    return found


class Batch(NamedTuple):
    """Samples of one problem, and what the sequential sampler makes of them."""

    problem: Problem
    system: System
    x: Tensor
    given: dict[str, Any]
    reference: Tensor


def drawn(cell: Cell, seed: int) -> Iterable[Batch]:
    """The samples of a cell, at most BATCH at a time."""
    for first in range(0, cell.samples, BATCH):
        B, at = min(BATCH, cell.samples - first), seed + first // BATCH
        two = cell.problem.startswith("two-")
        p = two_gaussians(int(cell.problem[4:]), at) if two else problem(cell.problem)
        system = MAKE[cell.rule](linear(), cell.steps, prediction=p.prediction)
        generator = torch.Generator().manual_seed(at)
        x = system.noise((B, *p.shape), generator)
        noise = torch.randn(len(system), *x.shape, generator=generator) if any(system.drawn) else None
        given: dict[str, Any] = {"noise": noise, "condition": p.condition(B)}
        yield Batch(p, system, x, given, sequential(p.model, system, x, **given))


def entry(cell: Cell, batches: Iterable[Batch], tolerance: float, method: AbstractMethod | None) -> dict[str, float]:
    """What a method does for a cell."""
    errors, rounds, evaluations, made, seconds = list[Tensor](), list[Tensor](), 0, 0, 0.0
    for each in batches:
        how = {"window": cell.window, "tolerance": tolerance, **each.given}
        s = sample(each.problem.model, each.system, each.x, method, **how)
        errors.append(relative_error(s.x, each.reference) / tolerance)
        rounds.append(s.sample_rounds.double())
        evaluations, made = evaluations + s.evaluations, made + len({b for r in s.retries for b in r.samples})
        seconds += s.seconds - s.model_seconds
    e, r = torch.cat(errors), torch.cat(rounds)
    return {
        "samples": len(e),
        "kept": round(100 * float((e <= 1).double().mean()), 2),
        "worst": round(float(e.max()), 3),
        "median": round(float(e.median()), 4),
        "rounds": round(float(r.mean()), 2),
        "most": int(r.max()),
        "evaluations": round(evaluations / cell.steps / len(e), 3),
        "made_again": made,
        "seconds_outside": round(seconds, 2),
    }


def report(found: dict[str, Any]) -> str:
    """The entries as a table: kept %, worst / asked, mean rounds (evaluations / N)."""
    lines = [
        "# Skeleton sampling on held-out seeds",
        "",
        "Written by `python -m benchmarks skeleton`. Each entry: share of samples within the tolerance in %,",
        "worst error / asked, rounds of a sample in the mean (evaluations / N). Rows are not pooled over samples.",
        "",
        "| chain (samples) | tolerance | " + " | ".join(METHODS) + " |",
        "| --- | --- |" + " --- |" * len(METHODS),
    ]
    for cell in CELLS:
        for tolerance in TOLERANCES:
            row = [found.get(f"{cell.name}/{tolerance:g}/{m}") for m in METHODS]
            if any(row):
                told = " | ".join(said(each) if each else "-" for each in row)
                lines.append(f"| {cell.name} ({cell.samples}) | {100 * tolerance:g} % | {told} |")
    return "\n".join(lines) + "\n"


def said(e: dict[str, float]) -> str:
    """An entry in a table."""
    return f"{e['kept']:g}, {e['worst']:.2f}, {e['rounds']:.1f} ({e['evaluations']:.2f})"
