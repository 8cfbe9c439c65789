"""`python -m benchmarks engine`: rounds and evaluations against error for the paper's chains and criterion.

Every row of the frontier is one parallel run against the sequential one on the same noise; beside it stands the plain
sampler of as many steps as the run took rounds, which is what the same latency buys where a window is free. All are
the same on every machine of one torch version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.methods.guess import Copy, Extrapolate, Guess
from paradigms.methods.picard import Picard
from paradigms.models import Pretrained, load
from paradigms.rules import ddim, ddpm, dpmsolver
from paradigms.schedule import Schedule, linear, scaled_linear
from paradigms.solution import relative_error
from paradigms.solve import sample, sequential
from paradigms.stopping.step_noise import StepNoise
from paradigms.system import System

from ..report import table, write

TOLERANCES = (0.1, 0.03, 0.01, 0.003)
HEAD = (
    "guess",
    "tolerance",
    "rounds",
    "max of a sample",
    "evals / N",
    "max error",
    "median error",
    "few-step max error",
)


@dataclass(frozen=True)
class Chain:
    """One of the paper's chains on a schedule, and how few steps of it are made."""

    name: str
    make: Callable[[int], System]
    steps: int
    window: int


def chains(model: Pretrained, quick: bool) -> list[Chain]:
    """DDPM-1000 on the model's own schedule and on Stable Diffusion's, DDIM-200, DPMSolver-50."""
    own = linear()
    levels: dict[str, Schedule] = {"own schedule": own, "Stable Diffusion's schedule": scaled_linear().retimed(own)}
    fewer, how = (10 if quick else 1), {"prediction": model.prediction}
    return [
        Chain(f"{rule}, {name}", lambda n, make=make, s=schedule: make(s, n, **how), steps // fewer, window)  # type: ignore[misc]
        for rule, make, steps, window in (
            ("DDPM-1000", ddpm, 1000, 80),
            ("DDIM-200", ddim, 200, 32),
            ("DPMSolver-50", dpmsolver, 50, 32),
        )
        for name, schedule in levels.items()
        if not (rule == "DPMSolver-50" and schedule is own)  # one schedule shows the rule
    ]


def start(model: Pretrained, system: System, batch: int) -> tuple[Tensor, torch.Generator]:
    """Starting noise (B, C, H, W) and the generator of the noise to come."""
    generator = torch.Generator().manual_seed(0)
    return system.noise((batch, *model.shape), generator), generator


def frontier(model: Pretrained, chain: Chain, batch: int, tolerances: tuple[float, ...]) -> list[dict[str, Any]]:
    """One entry a guess and tolerance; errors are against one sequential run on the same noise."""
    system = chain.make(chain.steps)
    x, generator = start(model, system, batch)
    reference = sequential(model.model, system, x, generator=generator)
    plain: dict[int, float] = {}
    guesses: list[Guess] = [Copy(), Extrapolate()]
    found = []
    for guess in guesses:
        for tolerance in tolerances:
            x, generator = start(model, system, batch)
            how = {"window": chain.window, "tolerance": StepNoise(tolerance), "generator": generator}
            solution = sample(model.model, system, x, Picard(guess), **how)  # type: ignore[arg-type]
            error = relative_error(solution.x, reference)
            rounds = solution.sample_rounds
            if solution.rounds not in plain:
                few = chain.make(solution.rounds)
                x, generator = start(model, few, batch)
                plain[solution.rounds] = float(
                    relative_error(sequential(model.model, few, x, generator=generator), reference).max()
                )
            found.append(
                {
                    "guess": type(guess).__name__.lower(),
                    "tolerance": tolerance,
                    "rounds": float(rounds.double().mean()),
                    "max of a sample": int(rounds.max()),
                    "evals / N": solution.evaluations / (batch * len(system)),
                    "max error": float(error.max()),
                    "median error": float(error.median()),
                    "few-step max error": plain[solution.rounds],
                }
            )
    return found


def main(out: Path, quick: bool = False) -> None:
    """Runs all of it, prints the report and writes out/engine.md and out/engine.json."""
    model = load("scenes")
    batch, tolerances = (2, (0.1, 0.01)) if quick else (8, TOLERANCES)
    data: dict[str, Any] = {"batch": batch, "frontier": {}}
    sections = []
    for chain in chains(model, quick):
        found = frontier(model, chain, batch, tolerances)
        data["frontier"][chain.name] = found
        body = table(HEAD, [[entry[k] for k in HEAD] for entry in found])
        title = f"{chain.name}: {chain.steps} steps, window {chain.window}, {batch} samples"
        sections.append((title, body))
        print(f"## {title}\n\n{body}\n", flush=True)
    write(out, "engine", "The engine on `scenes`", sections, data)
    print(f"written to {out / 'engine.md'} and {out / 'engine.json'}")
