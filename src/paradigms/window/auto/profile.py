"""What earlier calls of a model have measured: seconds of a round of window W, and rounds a row of a chain for W.

    seconds of a round   R(W) = T(W) + O(W)             in the model and outside of it; R(1) is a step
    rounds a row         rho(W) = 1 / W + q / W^(1/3)   those of full windows, and more for rows that settle late

R is measured; for a window that was not timed it is interpolated linearly. rho is counted for each window, with the
formula as its prior; q is counted over all windows, with `USUAL_LATENESS` as its prior. Both are kept as long as the
model.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import Any

from torch import Tensor

from ...execution.latency import interpolate_seconds, never_falling
from ...execution.model_key import memory

# How many of the last times of a window count. Chosen by hand.
RECENT_TIMES = 8
# The usual q sqrt(N) at a tolerance of 0.003. Counted with `Spectral` on mixture-64, digits and scenes, 20-1000 rows of
# 5 rules, windows of 4-64, seeds 0-3: 1.6-3.1.
USUAL_LATENESS = 2.5
# q rises by this share of itself for each tenth of the tolerance, counted in the same way.
LATENESS_A_DECADE = 0.4
# A tolerance below this is taken as this: it is near the rounding of float32.
LEAST_TOLERANCE = 1e-7
# The share of earlier counts that is left after one chain. Chosen by hand.
CHAIN_DECAY = 0.75
# Seconds of a round outside of the model on a CPU, until they are measured: `python -m benchmarks overhead`.
CPU = 1.3e-3
# The same on other devices.
ACCELERATOR = 4e-3


class RoundTimes:
    """Seconds of steps (W = 1) and of rounds of B samples; guess: of a round outside of the model, until measured."""

    def __init__(self, guess: float, cpu: bool = True) -> None:
        self.guess, self.cpu, self.fresh = guess, cpu, True  # fresh: all windows were timed in the same call
        self.inside: dict[int, deque[float]] = {}
        self.outside: dict[int, deque[float]] = {}
        self.chains: dict[Hashable, ChainCounts] = {}
        self.known: tuple[list[int], list[float], float] | None = None

    def record(self, W: int, inside: float | None, outside: float | None) -> None:
        """A step or a round took so many seconds in the model and outside of it, where they are known."""
        for known, seconds in ((self.inside, inside), (self.outside, outside)):
            if seconds is not None:
                known.setdefault(W, deque(maxlen=RECENT_TIMES)).append(max(seconds, 1e-9))
        self.known = None

    def curve(self) -> tuple[list[int], list[float], float]:
        """The windows that were timed, R of each, where 1 row is a round's and not a step's, and R(1)."""
        # The least of up to five times, the one after it of more: other work on a machine only adds to a time.
        T, O = ({w: sorted(v)[(len(v) - 1) // 5] for w, v in each.items()} for each in (self.inside, self.outside))  # noqa: E741
        timed = sorted(O)
        R = [T[w] + (O[max(w, timed[timed[0] == 1])] if timed != [1] else self.guess) for w in timed]
        for i in range(1, len(R) if self.fresh else 0):  # a batch takes no longer than its parts
            R[i] = min(R[i], R[i - 1] * timed[i] / timed[i - 1])
        return timed, never_falling(R), T[1] + O[1]

    def __call__(self, W: int, cost: float = 1.0) -> float:
        """R(W); of a window that was not timed its rows beyond the one before cost `cost` times what is expected."""
        timed, R, step = self.known = self.known or self.curve()
        if W == 1 or timed == [1]:  # the most optimistic case: more rows cost nothing
            return step if W == 1 else R[0]
        below = max(w for w in timed if w <= max(W, timed[0]))
        at, there = (interpolate_seconds(timed, R, w, 0) for w in (below, W))
        return at + cost * (there - at)


class ChainCounts:
    """Rounds a row of a chain of N rows; calls to `rest`, `resting` answers; debt: calls' time that windows lost."""

    def __init__(self, N: int, tolerance: float) -> None:
        self.N, self.calls, self.rest, self.debt = N, 0, 0, 0.0
        self.usual = USUAL_LATENESS / N**0.5
        self.usual *= 1 + LATENESS_A_DECADE * max(math.log10(0.003 / max(tolerance, LEAST_TOLERANCE)), 0.0)
        self.counts: dict[int, tuple[float, float]] = {}  # rounds and rows, by window
        self.resting: Any = None

    def count(self, W: int, rounds: float, rows: int) -> None:
        """So many rounds of full windows moved by so many rows; what was counted before fades."""
        keep = CHAIN_DECAY ** (rows / self.N)
        self.counts = {w: (keep * r, keep * n) for w, (r, n) in self.counts.items()}
        r, n = self.counts.get(W, (0.0, 0.0))
        self.counts[W] = r + rounds, n + rows

    def rho(self, W: int, most: float = math.inf) -> float:
        """Rounds a row of windows of W rows, with a q of at most so much."""
        late = sum(max(rounds - rows / w, 0.0) * w ** (1 / 3) for w, (rounds, rows) in self.counts.items())
        weight, counted = self.N / 4, sum(rows for _, rows in self.counts.values())
        q = min((late + weight * self.usual) / (counted + weight), most)
        rounds, rows = self.counts.get(W, (0.0, 0.0))
        return (rounds + 2 * weight * (1 / W + q / W ** (1 / 3))) / (rows + 2 * weight)


def round_times(
    model: Any, x: Tensor, call: Hashable = (), key: Hashable | None = None, guess: float | None = None
) -> RoundTimes:
    """What is known of a model on states like x (B, ...), as `model_key.py` tells models apart, or of what has a key.

    call: what else tells its calls apart. guess: seconds of a round outside of it, until they are measured.
    """
    (mine, parts), cpu = memory(model, key), x.device.type == "cpu"
    kind = x.shape, x.dtype, x.device, call, parts
    if kind not in mine:
        mine[kind] = RoundTimes(guess or (CPU if cpu else ACCELERATOR), cpu)
    return mine[kind]  # type: ignore[no-any-return]


def count_rests(model: Any) -> None:
    """A call of a model was stepped by others: it counts as one of those that are to step."""
    chains = [c for v in memory(model)[0].values() if isinstance(v, RoundTimes) for c in v.chains.values()]
    for chain in chains:
        chain.rest = max(chain.rest - 1, 0)
