"""How far a window reaches: rows accepted in a round, by place along the chain."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from .backoff import Backoff

PLACES, FADE = 16, 0.75  # of a chain; what a call leaves of what calls before it counted
USUAL, HARDER, ROUNDING = 0.003, 0.4, 1e-7  # a tolerance; what q grows by for each tenth of it; what 0 comes to


class AcceptanceModel:
    """q along a chain of N rows, counted."""

    def __init__(self, N: int, tolerance: float = USUAL) -> None:
        self.N = N
        self.extra, self.rows = [0.0] * PLACES, [0.0] * PLACES
        harder = 1 + HARDER * max(math.log10(USUAL / max(tolerance, ROUNDING)), 0.0)
        self.usual = [harder * (2 + 20 * ((i + 0.5) / PLACES) ** 2) / N for i in range(PLACES)]
        self.prior = sum(self.usual) / PLACES  # before anything is counted
        self.all = self.due = 1.0  # of what was counted, and of what is usual there; a round more of each
        self.loss = 0.0  # seconds that windows lost where they were expected to gain
        self.since = 0  # calls since windows were tried
        self.version = 0
        self.forecasts: dict[Hashable, Any] = {}
        self.begun: set[int] = set()  # by how many samples: there was a first call
        self.backoffs: dict[int, Backoff] = {}  # by how many samples

    def decay(self) -> None:
        """What calls before this one counted is partly forgotten."""
        self.extra, self.rows = [FADE * v for v in self.extra], [FADE * v for v in self.rows]
        self.all, self.due = 1 + FADE * (self.all - 1), 1 + FADE * (self.due - 1)

    def record(self, row: int, extra: float, rows: int, span: int) -> None:
        """`rows` rows from `row` on took `extra` more rounds than full windows; all that was looked at, `span` rows,
        had its part in it."""
        part, end = self.N / PLACES, row + span
        for i in range(self.place(row), self.place(end - 1) + 1):
            share = (min(end, (i + 1) * part) - max(row, i * part)) / span
            self.extra[i] += extra * share
            self.rows[i] += rows * share
            self.due += rows * share * self.usual[i]
        self.all += extra
        self.version += 1

    def halve_unknown(self) -> None:
        """Where nothing was counted yet it may be half of what is usual."""
        if not any(self.rows) and self.all == self.due:
            self.all, self.version = self.due / 2, self.version + 1

    def record_loss(self, seconds: float) -> None:
        """Windows that were expected to gain lost so many seconds; less than 0 were gained."""
        self.loss = max(seconds, self.loss + min(seconds, 0.0), 0.0)

    @property
    def mean(self) -> float:
        """q in the mean over the chain."""
        return sum(map(self.at, range(PLACES))) / PLACES

    def place(self, row: float) -> int:
        """The part of the chain that a row is in."""
        return min(int(row * PLACES / self.N), PLACES - 1)

    def at(self, i: int) -> float:
        """q there, leaning on the usual where little was counted."""
        lean = self.N / PLACES / 4
        return (self.extra[i] + lean * self.usual[i] * self.all / self.due) / (self.rows[i] + lean)
