"""What calls of a model have taught: seconds against rows, and how far a window reaches, kept as long as the model.

    seconds of a round of M rows     T(M) + O(M)             in the model and outside of it
    rows that a round of W accepts   1 / (1 / W + q[n])      q: rounds a row more than full windows would take

q grows along a chain, for noise levels change fast at its end. It is counted by place, in sixteenths of the chain, and
where nothing was counted yet it is q = (2 + 20 (n / N)^2) / N, about what `Spectral` takes on images at a tolerance of
0.003, 0.4 of that more for each tenth of the tolerance, times how far off that was elsewhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from statistics import median_low
from typing import Any

import torch
from torch import Tensor

from ...execution.model_key import memory
from .acceptance import USUAL, AcceptanceModel
from .latency import WIDE, interpolate_seconds, never_falling

TRUSTED = 2  # measurements that are to be believed, beside one that may have prepared something
RECENT = 5  # measurements that count; of those the lower median, for what else a machine does only ever adds
PREPARED = 2e-3  # seconds that the first call of a size may have taken to prepare it, until there is a second
DOUBTED = 4e-3  # seconds that something else may have had the machine in as many measurements
NOISE = 0.04  # of a time, which is no change
SWEEP = 22  # times what a step takes outside the model is about what a round does, until it was measured


Points = tuple[list[int], list[float]]  # rows and seconds


class LatencyCurve:
    """Seconds against rows M: as last measured, in between and beyond as in `latency.py`, of one point as in `shape`.
    A shape may be absolute, in seconds, and then it is what is expected of the first point too.

    version counts the changes of more than NOISE, all others being none. `hoped` is what it may be at best: one slow
    moment of a machine must not shut out for ever what is then not tried again.
    """

    def __init__(self, shape: Callable[[float], float], absolute: bool = True, prepared: float = 0.0) -> None:
        self.shape, self.absolute, self.prepared = shape, absolute, prepared
        self.seen: dict[int, deque[float]] = {}
        self.used: dict[int, float] = {}
        self.fresh: set[int] = set()
        self.trusted: set[int] = set()  # sizes that were measured often enough
        self.version = self.most = 0  # most: rows that were ever measured
        self.through: Points | None = None  # all of `used`, made when it is asked for
        self.sure: Points | None = None  # what of it is trusted

    def record(self, M: int, seconds: float) -> None:
        """A measurement."""
        self.most = max(self.most, M)
        if M not in self.seen:
            most = max(self(M), seconds - self.prepared) if self.seen or self.absolute else seconds
            self.seen[M] = deque([min(seconds, most)], RECENT)
            self.fresh.add(M)
        elif M in self.fresh:
            self.fresh.remove(M)
            self.seen[M][0] = seconds
        else:
            self.seen[M].append(seconds)
        now, before = median_low(self.seen[M]), self.used.get(M, math.inf)
        new = len(self.seen[M]) == TRUSTED and M not in self.trusted
        if new or not abs(now - before) <= NOISE * before < math.inf:
            self.used[M], self.version = now, self.version + 1
            self.through = self.sure = None
        if new:
            self.trusted.add(M)

    def __call__(self, M: float) -> float:
        if len(self.used) > 1:
            self.through = self.through or sorted_points(self.used)
            return self.between(self.through, M)
        for m, seconds in self.used.items():
            return seconds * self.shape(M) / self.shape(m) if m != M else seconds
        return self.shape(M)

    def between(self, through: Points, M: float) -> float:
        """Seconds of M rows through the points; what has a shape in seconds goes on with the slope of all."""
        return interpolate_seconds(*through, M, 0 if self.absolute else WIDE)

    def drop_outliers(self, single: int, every: bool) -> None:
        """Forgets the sizes but one that took longer than hoped: every one, or what something else may have slowed."""
        usual = self.shape if self.absolute else lambda M: self.used.get(single, math.inf)
        late = {M: seconds - usual(M) for M, seconds in self.used.items() if single != M}
        for M in [M for M, s in late.items() if s > 0 and (every or (s < DOUBTED and len(self.seen[M]) < RECENT))]:
            del self.seen[M], self.used[M]
            self.fresh.discard(M)
            self.trusted.discard(M)
            self.through, self.sure, self.version = None, None, self.version + 1

    @property
    def alone(self) -> bool:
        """Whether single rows, or nothing, are all that was measured often enough."""
        return len(self.trusted) < 2

    def optimistic(self, M: float) -> float:
        """Seconds of M rows by what is trusted alone; a single size says that more rows cost nothing."""
        if not self.alone:
            self.sure = self.sure or sorted_points({m: self.used[m] for m in self.trusted})
            return min(self.between(self.sure, M), self(M))
        for m in self.trusted:
            return min(self.used[m] * (self.shape(M) / self.shape(m) if self.absolute else 1.0), self(M))
        return min(self.shape(M), self(M)) if self.absolute else self(M)


class ModelProfile:
    """Of a model with states of one kind: T, O of stepping and of each method, q of each chain, seconds of credit."""

    def __init__(self, x: Tensor, ranks: int = 1, sweep: tuple[float, float] | None = None) -> None:
        cpu, size = x.device.type == "cpu", x[0].numel()
        free = (4 if cpu else 64) * ranks  # rows that a call has room for beside its first, a guess until measured
        self.cpu = cpu
        self.guess = sweep or ((1.3e-3, 30e-9 * size) if cpu else (4e-3, 1e-10 * size))  # of a sweep, likewise
        self.model = LatencyCurve(lambda M: M + free, absolute=False, prepared=PREPARED)
        self.step = LatencyCurve(lambda M: 50e-6, absolute=False)
        self.sweeps: dict[Hashable, LatencyCurve] = {}
        self.acceptances: dict[Hashable, AcceptanceModel] = {}
        self.growth = 4 if cpu else 8  # how many times the largest measured batch may be tried
        self.balance = 0.0

    def shape(self, M: float) -> float:
        """O of a method that was not seen yet."""
        least, each = self.guess
        return min([least, *(SWEEP * seconds for seconds in self.step.used.values())]) + each * M

    def sweep(self, method: Hashable) -> LatencyCurve:
        """O of a method."""
        if method not in self.sweeps:
            self.sweeps[method] = LatencyCurve(self.shape, prepared=PREPARED)
        return self.sweeps[method]

    def acceptance(self, chain: Hashable, N: int, tolerance: float = USUAL) -> AcceptanceModel:
        """q of a chain under a method and a criterion."""
        found = self.acceptances.get(chain)
        if found is None:
            found = self.acceptances[chain] = AcceptanceModel(N, tolerance)
        return found


def sorted_points(used: dict[int, float]) -> Points:
    """Points in the order of their rows, that never fall."""
    rows = sorted(used)
    return rows, never_falling([used[M] for M in rows])


def profile_of(
    model: Any,
    x: Tensor,
    kind: Sequence[Hashable] = (),
    ranks: int = 1,
    sweep: tuple[float, float] | None = None,
    key: Hashable | None = None,
) -> ModelProfile:
    """What is known of a model on states like x (B, ...), as `model_key.py` tells models apart, or of what has a key.

    kind: what else tells its calls apart, such as its dtype. ranks: that share its rows. sweep: seconds of a round
    outside of it, and more for each row, until they are measured.
    """
    mine, parts = memory(model, key)
    call = (x.shape[1:], x.dtype, x.device, torch.get_num_threads(), ranks, *kind, parts)
    found: ModelProfile | None = mine.get(call)
    if found is None:
        found = mine[call] = ModelProfile(x, ranks, sweep)
    return found
