"""What one sample costs with skeleton sampling, in one run beside the sequential sampler and the default method.

    python -m benchmarks skeleton --clock

Models that ship, one sample at a time, at 1 % with `Skeleton()` and at the default tolerance of 0.3 % with
`Skeleton(always=True)`, for windows are taken there without it. The ways take turns, so that what else the machine does
meets all of them alike; seconds of the processor are given, too, for a busy machine stretches those of the clock.
Rounds, evaluations and operator calls a round outside the model are the same on every machine. Written to
OUT/skeleton-clock.md and .json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paradigms import rules
from paradigms.execution.chunked import Model
from paradigms.schedule import linear
from paradigms.skeleton import Skeleton
from paradigms.skeleton.handover import LEAST
from paradigms.solution import Solution
from paradigms.solve import sample, sequential
from paradigms.system import System

from ..report import spread, table, write
from .counting import Operations
from .problems import Problem, problem

TOLERANCES, SEED, REPEATS = (0.01, 0.003), 6000, 3
CHAINS: tuple[tuple[str, Callable[..., System], int, int], ...] = (
    ("digits", rules.ddpm, 100, 32),
    ("digits", rules.ddim, 200, 16),
    ("latent", rules.ddim, 200, 32),
    ("scenes", rules.ddim, 200, 32),
    ("scenes", rules.ddpm, 1000, 80),
)


HEAD = (
    "chain",
    "tolerance",
    "way",
    "seconds",
    "times as fast",
    "processor s",
    "% outside the model",
    "rounds",
    "evaluations / N",
    "calls a round",
)


class Turn(NamedTuple):
    """What one run took: seconds of the clock and of the processor, share outside the model, rounds, evaluations."""

    clock: float
    processor: float
    outside: float
    rounds: int
    evaluations: int


class Chain(NamedTuple):
    """A problem, its table, and the rows of a window."""

    problem: Problem
    system: System
    window: int

    def way(self, way: str, tolerance: float, seed: int, model: Model | None = None) -> Solution | None:
        """One sample, drawn at a seed, one way; None of the sequential sampler."""
        p, generator = self.problem, torch.Generator().manual_seed(seed)
        x = self.system.noise((1, *p.shape), generator)
        how: dict[str, Any] = {"generator": generator, "condition": p.condition(1)}
        if way == "sequential":
            sequential(p.model, self.system, x, **how)
            return None
        method = Skeleton(always=tolerance < LEAST) if way == "skeleton" else None
        return sample(model or p.model, self.system, x, method, window=self.window, tolerance=tolerance, **how)

    def turn(self, way: str, tolerance: float, seed: int) -> Turn:
        """The same, timed."""
        begin = time.perf_counter(), time.process_time()
        s = self.way(way, tolerance, seed)
        took = time.perf_counter() - begin[0], time.process_time() - begin[1]
        if s is None:
            return Turn(*took, 0.0, len(self.system), len(self.system))
        return Turn(*took, 100 * (1 - s.model_seconds / s.seconds), s.rounds, s.evaluations)

    def calls(self, way: str, tolerance: float, seed: int) -> float:
        """Operator calls a round outside the model."""
        inside, operations = 0, Operations()

        def model(x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
            nonlocal inside
            before = operations.count.total()
            answer: Tensor = self.problem.model(x, t, **condition)
            inside += operations.count.total() - before
            return answer

        with operations:
            s = self.way(way, tolerance, seed, model)
        return (operations.count.total() - inside) / s.rounds if s else 0.0


def main(out: Path, only: str = "", minutes: float = 60.0) -> None:
    """Measures the chains whose name holds `only`, starting none after so many minutes; prints and writes the table."""
    torch.set_num_threads(1)
    end, rows, found = time.monotonic() + 60 * minutes, list[list[Any]](), dict[str, Any]()
    for name, make, steps, window in CHAINS:
        chain = f"{name}/{make.__name__.upper()}-{steps}/w{window}"
        if only not in chain or time.monotonic() > end:
            continue
        p = problem(name)
        this = Chain(p, make(linear(), steps, prediction=p.prediction), window)
        Chain(p, make(linear(), 20, prediction=p.prediction), 8).turn("skeleton", 0.01, SEED)  # warms up
        ways = [("sequential", 0.0), *((way, t) for t in TOLERANCES for way in ("default", "skeleton"))]
        turns = {way: list[Turn]() for way in ways}
        for k in range(1 if steps == 1000 else REPEATS):
            for how in ways:
                turns[how].append(this.turn(*how, SEED + k))
        plain = [t.clock for t in turns["sequential", 0.0]]
        for (way, tolerance), each in turns.items():
            times = [p / t.clock for p, t in zip(plain, each, strict=True)]
            middle = [f"{median(getattr(t, k) for t in each):.3g}" for k in ("processor", "outside", "rounds")]
            share, calls = median(t.evaluations / steps for t in each), this.calls(way, tolerance, SEED)
            told = [f"{100 * tolerance:g} %" if tolerance else "-", way, spread([t.clock for t in each]), spread(times)]
            rows.append([chain, *told, *middle, f"{share:.2f}", f"{calls:.0f}" if calls else "-"])
        found[chain] = {f"{way} {t:g}": [turn._asdict() for turn in each] for (way, t), each in turns.items()}
        print(rows[-len(ways) :], flush=True)
    title = "What a sample costs with skeleton sampling"
    print(write(out, "skeleton-clock", title, [("One sample", table(HEAD, rows))], found))
