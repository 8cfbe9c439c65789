"""What windows are expected to take along a chain, and to gain over steps.

    seconds a row     tau(W) = (T(W B) + O(W B)) (1 / (W - 1/2) + q[n]),    tau(1) = the seconds of a step

of a batch of B samples, see `experience.py`; half a row of a window is left to be looked at again. So the best window
is about sqrt(alpha / (beta q)) where a round takes alpha + beta W: wide where a device has room and rows settle easily,
as at the beginning of a chain, and 1 where a row costs as much as ever.

A chain is entered with the window that gains most along it; the first one of all is a small one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from .experience import PLACES, Experience, Reach

BETTER = 0.8  # of the seconds a row: what is worth a change, which costs rounds that accept few rows
LESS = 1.15  # times q: what becomes of it in a shorter window
DOUBT = 2  # times what is hoped is the most that is believed of a time that was not measured often
ENTRY = 1.4  # how much longer than the smallest window the first round of all may take
BEGINS = 0.5  # of what a round takes outside the model: what it takes to enter a window


class Outlook:
    """What is expected of windows of a grid for B samples; points: evaluations a row, as far as was seen."""

    def __init__(self, known: Experience, reach: Reach, method: Hashable, B: int, grid: Sequence[int]) -> None:
        self.known, self.reach, self.sweep, self.N = known, reach, known.sweep(method), reach.N
        self.B, self.grid = B, grid
        self.points = 1.0
        self.facts, self.ventured = (-1, -1, 1.0), dict[int, float]()  # see `table`

    @property
    def step(self) -> float | None:
        """Seconds of a step, where it was measured."""
        known = self.known
        return known.model(self.B) + known.step(self.B) if self.B in known.step.seen else None

    def table(self) -> dict[int, float]:
        """Seconds of a round of each window that may be ventured."""
        facts = self.known.model.version, self.sweep.version, self.points
        if self.facts != facts:
            known, P = self.known, self.B * self.points
            most = known.bold * max(known.model.seen, default=self.B) / P
            self.facts, self.ventured = facts, {W: self.round(W) for W in self.grid if most >= W or W == 2}
        return self.ventured

    def hoped(self, table: dict[int, float]) -> dict[int, float]:
        """What is hoped of the seconds of a round of each window that may be tried."""
        known, P = self.known, self.B * self.points
        tried = self.grid if known.model.alone else table
        return {W: known.model.hoped(W * P) + self.sweep.hoped(W * P) for W in tried}

    def round(self, W: int) -> float:
        """Seconds of a round of W rows of each sample."""
        M = W * self.B * self.points
        return self.known.model(M) + self.sweep(M)

    def best(self, place: int, left: int, table: dict[int, float], now: int = 0) -> tuple[float, int]:
        """The least seconds a row of any window at a place of the chain, and the window; after one of `now` rows."""
        least, best = math.inf, 1
        for W, R in table.items():
            rows = min(W, left)
            tau = self.seconds(rows, place, R if rows == W else self.round(rows), now)
            if tau < least:
                least, best = tau, W
            if rows < W:
                break  # wider ones are the same
        return least, best

    def seconds(self, W: int, place: int, R: float, now: int = 0) -> float:
        """Seconds a row of rounds of R seconds; in a shorter window than now rows were looked at less before."""
        return R * (1 / (W - 0.5) + self.reach.at(place) * (LESS if now > W else 1.0))

    def gains(self, row: int, left: int, step: float, table: dict[int, float]) -> dict[int, float]:
        """Of each window the most seconds it is expected to gain over steps by any row ahead, on good ways and bad."""
        part, found = self.N / PLACES, dict[int, float]()
        ahead = [(min(part, (i + 1) * part - row), self.reach.at(i)) for i in range(self.reach.place(row), PLACES)]
        for W, R in table.items():
            if left < W:
                break
            one, total, most = step - R / (W - 0.5), 0.0, 0.0
            for rows, q in ahead:
                total += rows * (one - R * q)
                most = max(most, total)
            found[W] = most
        return found

    def entering(self, row: int, left: int, step: float) -> tuple[int, float, float]:
        """The first window if any, the seconds that windows are expected to gain over the rest, and what it costs."""
        known, reach = self.known, self.reach
        facts = known.model.version, known.step.version, self.sweep.version, reach.version, self.points, len(self.grid)
        place = self.B, reach.place(row)
        was, found = reach.outlooks.get(place, (None, (1, 0.0, math.inf)))
        if was != facts:
            found = self.first(row, left, step)
            reach.outlooks[place] = facts, found
        return found

    def first(self, row: int, left: int, step: float) -> tuple[int, float, float]:
        """The same, found out."""
        table, known = self.table(), self.known
        hoped = self.hoped(table)
        gains = self.gains(row, left, step, hoped)
        W = max(gains, key=lambda W: gains[W] - hoped[W], default=1)
        if not gains.get(W):
            return 1, 0.0, math.inf
        first, gain = W, gains[W]
        if known.model.alone:  # the first round of all is a small one, and what was slow once is measured again
            most = max(ENTRY * min(table.values()), table[min(table)])
            small = max(w for w, R in table.items() if w <= W and most >= R)
            slow = [w for w, R in table.items() if w * self.B in known.model.seen and DOUBT * hoped[w] < R]
            first = min(slow, default=small)
            gain -= max(hoped[W] - hoped[first], 0.0)  # the first round of a wider window will not accept more rows
        usual, sweep = (BEGINS * o(first * self.B) for o in (self.sweep, self.sweep.hoped))
        cost = min(table[first] + usual, DOUBT * (hoped[first] + sweep))
        return first, gain, cost - step  # one row is sure
