"""The paper's A100 figure, recovered from its published points: a latency, a cost of a round, and what is left over.

    seconds(P) = sum_r [ t0 + t1 (ceil(m[r] / P) - 1) + h0 + h1 (P - 1) ]        t0 = sequential seconds / steps

t1 of a further row on a device, h0 of a round, h1 of a further device, none below 0: three numbers for nine published
ones, by least squares of relative errors. The rows m[r] are those of real runs of ParaDiGMS on our own chain whose two
counts are about the published ones; so the figure's shape is theirs, and the rounds behind it are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, inf
from statistics import fmean
from typing import Any

import torch

from paradigms.distributed.plan import Link, Trace, call_seconds
from paradigms.execution.latency import LatencyCurve


@dataclass(frozen=True)
class Published:
    """What the paper says: seconds of the sequential sampler, and points (devices, window, seconds)."""

    sequential: float
    steps: int
    points: tuple[tuple[int, int, float], ...]

    @classmethod
    def of(cls, about: dict[str, Any], window: int) -> Published:
        """From sd2-a100.json; the table's row tells no window: it is `window`, of about its evaluations a round."""
        said = about["published"]
        whole, row = said["sequential_seconds"], said["table"]
        figure = [(int(P), said["window"], whole / s) for P, s in said["speedup"].items()]
        return cls(whole, about["steps"], (*figure, (row["devices"], window, row["seconds"])))


@dataclass(frozen=True)
class Fit:
    """Seconds: t1 of a further row, h0 of a round, h1 of a further device; of a sequential step t0."""

    t0: float
    t1: float
    h0: float
    h1: float

    @property
    def latency(self) -> LatencyCurve:
        """Of a model call."""
        return LatencyCurve((1, 2), (self.t0, self.t0 + self.t1))

    @property
    def link(self) -> Link:
        """Their way from device to device: each further one costs h1 a round, however much is sent."""
        return Link("the paper's", inf, self.h1)

    def charged(self, trace: Trace) -> Trace:
        """The trace with their cost of a round."""
        return replace(trace, outside=self.h0)

    def seconds(self, trace: Trace, P: int) -> float:
        """Predicted seconds of a trace on P of their devices, in their implementation."""
        return call_seconds(self.latency, self.charged(trace), P, self.link)


def fit(published: Published, traces: Sequence[Trace]) -> Fit:
    """The non-negative least squares, by trying which of the three are 0; ValueError where a trace is missing."""
    by_window = {t.window: t for t in traces}
    missing = {w for _, w, _ in published.points} - set(by_window)
    if missing:
        raise ValueError(f"fit: given no rounds of windows {sorted(missing)}; needed: those of every published point")
    t0 = published.sequential / published.steps
    A, y = [], []
    for P, window, told in published.points:
        trace = by_window[window]
        more = fmean(sum(ceil(m / P) - 1 for m in run) for run in trace.runs)
        A.append([more / told, trace.rounds / told, trace.rounds * (P - 1) / told])
        y.append(1 - trace.rounds * t0 / told)
    table, right = torch.tensor(A, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    found, least = torch.zeros(3, dtype=torch.float64), inf
    for some in (list(c) for k in (1, 2, 3) for c in combinations(range(3), k)):
        solved = torch.zeros(3, dtype=torch.float64)
        solved[some] = torch.linalg.lstsq(table[:, some], right[:, None]).solution[:, 0]
        left = float((table @ solved - right).square().sum())
        if bool((solved >= 0).all()) and left < least:
            found, least = solved, left
    return Fit(t0, *found.tolist())


def compared(published: Published, traces: Sequence[Trace], made: Fit) -> list[tuple[int, int, float, float, float]]:
    """Of each point: devices, window, published speedup, recovered speedup, relative error of the time."""
    by_window = {t.window: t for t in traces}
    rows = []
    for P, window, told in published.points:
        found = made.seconds(by_window[window], P)
        rows.append((P, window, published.sequential / told, published.sequential / found, found / told - 1))
    return rows
