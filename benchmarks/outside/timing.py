"""Another library's sampler and ours on the same seeds, in turn, in seconds of CPU time, for others use the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from paradigms.solution import Solution


def timed(sample: Callable[[], Tensor], seed: int) -> tuple[Tensor, float]:
    """A sample of a seed, and its seconds of CPU time."""
    torch.manual_seed(seed)
    began = time.process_time()
    return sample(), time.process_time() - began


def both(
    theirs: Callable[[], Tensor],
    ours: Callable[[], Tensor],
    solutions: Callable[[], tuple[Solution, ...]],
    apart: Callable[[Tensor, Tensor], float],
    repeats: int,
) -> dict[str, Any]:
    """What both cost, and how far they are apart; the first of each, which is not counted, warms them up.

    solutions: how the last sample of ours was made. apart: of ours and theirs.
    """
    own, fast, errors, made = list[float](), list[float](), list[float](), list[tuple[Solution, ...]]()
    for seed in range(repeats + 1):
        wanted, slow = timed(theirs, seed)
        found, quick = timed(ours, seed)
        if seed:
            own, fast, made = [*own, slow], [*fast, quick], [*made, solutions()]
            errors.append(apart(found, wanted))
    return {
        "own": own, "ours": fast, "faster": [a / b for a, b in zip(own, fast, strict=True)], "error": max(errors),
        "rounds": median(sum(each.rounds for each in run) for run in made),
        "evaluations": median(sum(s.evaluations for s in run) / sum(s.steps * len(s.x) for s in run) for run in made),
    }  # fmt: skip
