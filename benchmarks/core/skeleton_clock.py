"""How long one sample takes with skeleton sampling, in one run beside the sequential sampler and the default method.

    python -m benchmarks skeleton --clock

Models that ship, one sample at a time, a tolerance of 1 %. The three take turns, so that what else the machine does
meets all of them alike; seconds of the processor are given, too, for a busy machine stretches those of the clock.
Written to OUT/skeleton-clock.md and .json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from paradigms import rules
from paradigms.schedule import linear
from paradigms.skeleton import Skeleton
from paradigms.solve import sample, sequential
from paradigms.system import System

from ..report import spread, table, write
from .problems import problem

TOLERANCE, SEED, REPEATS = 0.01, 6000, 3
CHAINS: tuple[tuple[str, Callable[..., System], int, int], ...] = (
    ("digits", rules.ddpm, 100, 32),
    ("digits", rules.ddim, 200, 16),
    ("scenes", rules.ddim, 200, 32),
    ("scenes", rules.ddpm, 1000, 80),
)


class Turn(NamedTuple):
    """What one run took: seconds of the clock and of the processor, share outside the model, rounds, evaluations."""

    clock: float
    processor: float
    outside: float
    rounds: int
    evaluations: int


def turn(name: str, make: Callable[..., System], steps: int, window: int, way: str, seed: int) -> Turn:
    """One sample, drawn at a seed, one way."""
    p = problem(name)
    system = make(linear(), steps, prediction=p.prediction)
    generator = torch.Generator().manual_seed(seed)
    x = system.noise((1, *p.shape), generator)
    how: dict[str, Any] = {"generator": generator, "condition": p.condition(1)}
    begin = time.perf_counter(), time.process_time()
    if way == "sequential":
        sequential(p.model, system, x, **how)
        return Turn(time.perf_counter() - begin[0], time.process_time() - begin[1], 0.0, steps, steps)
    method = Skeleton() if way == "skeleton" else None
    s = sample(p.model, system, x, method, window=window, tolerance=TOLERANCE, **how)
    took = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return Turn(*took, 100 * (1 - s.model_seconds / s.seconds), s.rounds, s.evaluations)


def main(out: Path, only: str = "", minutes: float = 60.0) -> None:
    """Measures the chains whose name holds `only`, starting none after so many minutes; prints and writes the table."""
    torch.set_num_threads(1)
    end, rows, found = time.monotonic() + 60 * minutes, list[list[Any]](), dict[str, Any]()
    for name, make, steps, window in CHAINS:
        chain = f"{name}/{make.__name__.upper()}-{steps}/w{window}"
        if only not in chain or time.monotonic() > end:
            continue
        turn(name, make, 20, 8, "skeleton", SEED)  # warms up
        ways = ("sequential", "default", "skeleton")
        turns = {way: list[Turn]() for way in ways}
        for k in range(1 if steps == 1000 else REPEATS):
            for way in ways:
                turns[way].append(turn(name, make, steps, window, way, SEED + k))
        plain = [t.clock for t in turns["sequential"]]
        for way, all_ in turns.items():
            times = [p / t.clock for p, t in zip(plain, all_, strict=True)]
            middle = [f"{median(getattr(t, k) for t in all_):.3g}" for k in ("processor", "outside", "rounds")]
            share = median(t.evaluations / steps for t in all_)
            rows.append([chain, way, spread([t.clock for t in all_]), spread(times), *middle, f"{share:.2f}"])
        found[chain] = {way: [t._asdict() for t in all_] for way, all_ in turns.items()}
        print(rows[-3:], flush=True)
    head = "chain", "way", "seconds", "times as fast", "processor s", "% outside the model", "rounds", "evaluations / N"
    print(
        write(out, "skeleton-clock", "Skeleton sampling by the clock", [("One sample, 1 %", table(head, rows))], found)
    )
