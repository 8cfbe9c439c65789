"""What calls of a model have taught: seconds of a round by its window W, and rounds a row of a chain by W.

    seconds of a round   R(W) = T(W) + O(W)             in the model and outside of it; R(1) is a step
    rounds a row         rho(W) = 1 / W + q / W^(1/3)   those of full windows, and more for rows that settle late

R is measured; a window that was not timed lies on the line between those that were. rho is counted for each window and
leans on the formula, whose q is counted over all windows and leans on what is usual. Kept as long as the model.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import Any

from torch import Tensor

from ...execution.latency import interpolate_seconds, never_falling
from ...execution.model_key import memory

RECENT = 8  # times of a window that count
# q = USUAL / sqrt(N) at a tolerance of 0.003, HARDER more for each tenth of it: counted with `Spectral` on mixture-64,
# digits and scenes, 20-1000 rows of 5 rules, windows of 4-64, seeds 0-3: 1.6-3.1.
USUAL, HARDER, ROUNDING = 2.5, 0.4, 1e-7
FADE = 0.75  # what a chain leaves of what was counted before it
CPU, ACCELERATOR = 1.3e-3, 4e-3  # seconds of a round outside of the model, until measured: `benchmarks overhead`


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
                known.setdefault(W, deque(maxlen=RECENT)).append(max(seconds, 1e-9))
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

    def __call__(self, W: int, hope: float = 1.0) -> float:
        """R(W); of a window that was not timed its rows beyond the one before cost `hope` times what is expected."""
        timed, R, step = self.known = self.known or self.curve()
        if W == 1 or timed == [1]:  # at best more rows cost nothing
            return step if W == 1 else R[0]
        below = max(w for w in timed if w <= max(W, timed[0]))
        at, there = (interpolate_seconds(timed, R, w, 0) for w in (below, W))
        return at + hope * (there - at)


class ChainCounts:
    """Rounds a row of a chain of N rows; calls to `rest`, `resting` answers; debt: calls' time that windows lost."""

    def __init__(self, N: int, tolerance: float) -> None:
        self.N, self.calls, self.rest, self.debt = N, 0, 0, 0.0
        self.usual = USUAL / N**0.5 * (1 + HARDER * max(math.log10(0.003 / max(tolerance, ROUNDING)), 0.0))
        self.counts: dict[int, tuple[float, float]] = {}  # rounds and rows, by window
        self.resting: Any = None

    def count(self, W: int, rounds: float, rows: int) -> None:
        """So many rounds of full windows moved by so many rows; what was counted before fades."""
        keep = FADE ** (rows / self.N)
        self.counts = {w: (keep * r, keep * n) for w, (r, n) in self.counts.items()}
        r, n = self.counts.get(W, (0.0, 0.0))
        self.counts[W] = r + rounds, n + rows

    def rho(self, W: int, most: float = math.inf) -> float:
        """Rounds a row of windows of W rows, with a q of at most so much."""
        late = sum(max(rounds - rows / w, 0.0) * w ** (1 / 3) for w, (rounds, rows) in self.counts.items())
        lean, counted = self.N / 4, sum(rows for _, rows in self.counts.values())
        q = min((late + lean * self.usual) / (counted + lean), most)
        rounds, rows = self.counts.get(W, (0.0, 0.0))
        return (rounds + 2 * lean * (1 / W + q / W ** (1 / 3))) / (rows + 2 * lean)


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
