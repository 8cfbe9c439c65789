"""Seconds of one model call against its rows: measured for `paradigms plan`, interpolated for it and for auto.

    T(M) = T[i] + (M - M[i]) (T[i+1] - T[i]) / (M[i+1] - M[i]),    M[i] <= M <= M[i+1]

Beyond the last point T goes on with a slope. The slope is measured from a point of at most `SLOPE_SHARE` of the last
point's rows, because points that lie closer may differ by whatever else the machine did. A single point is taken as the
worst case: the cost grows in proportion to the rows. T never falls, because a small batch can be padded to a larger
one: a point that took longer than a later one is given the later one's time.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

# The largest share of the last point's rows at which the slope beyond it may begin. Chosen by hand.
SLOPE_SHARE = 2 / 3


@dataclass(frozen=True)
class LatencyCurve:
    """Seconds of one model call of M rows, at measured points; `latency(M)` anywhere.

    Raises ValueError unless rows rise from 1 or more and seconds are positive.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise((0, *self.rows)))
        positive = all(isfinite(s) and s > 0 for s in self.seconds)
        if not (self.rows and len(self.rows) == len(self.seconds) and rising and positive):
            raise ValueError(
                f"latency: given rows {self.rows}, seconds {self.seconds}; needed: rising rows from 1 on, and as many "
                "positive seconds"
            )
        object.__setattr__(self, "seconds", tuple(never_falling(self.seconds)))

    @classmethod
    def of(cls, points: Mapping[int, float]) -> LatencyCurve:
        """The latency through points {rows: seconds}."""
        return cls(*zip(*sorted(points.items()), strict=True))

    def __call__(self, M: float) -> float:
        """Seconds of a call of M rows."""
        return interpolate_seconds(self.rows, self.seconds, M)


def never_falling(seconds: Sequence[float]) -> list[float]:
    """Seconds of rising rows, none of which is more than a later one."""
    least = seconds[-1]
    return [least := min(least, s) for s in reversed(seconds)][::-1]


def interpolate_seconds(rows: Sequence[int], seconds: Sequence[float], M: float, wide: float = SLOPE_SHARE) -> float:
    """T(M) through the points (rows, seconds); beyond the last with the slope from a point of at most `wide` of it."""
    if len(rows) == 1 or rows[0] >= M:
        return seconds[0] * max(M / rows[0], 1.0)
    i = j = bisect_right(rows, M, hi=len(rows) - 1) - 1
    if rows[-1] < M:
        j = max(bisect_right(rows, wide * rows[-1]) - 1, 0)
    return seconds[i + 1] + (M - rows[i + 1]) * (seconds[i + 1] - seconds[j]) / (rows[i + 1] - rows[j])


def measure_latency(
    call: Callable[[int], object],
    rows: Iterable[int],
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyCurve:
    """The latency of `call(M)`, which must be done when it returns: the least of `repeats` calls after one to warm up.

    The least, because whatever else runs on a machine only ever adds to it.
    """
    points = {}
    for M in rows:
        call(M)
        seconds = []
        for _ in range(repeats):
            began = clock()
            call(M)
            seconds.append(clock() - began)
        points[M] = min(seconds)
    return LatencyCurve.of(points)
