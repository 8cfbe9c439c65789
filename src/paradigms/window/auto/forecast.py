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

from ..expected import Expected
from .acceptance import PLACES, AcceptanceModel
from .profile import ModelProfile
from .trials import WindowTrials

BETTER = 0.8  # of the seconds a row: what is worth a change, which costs rounds that accept few rows
LESS = 1.15  # times q: what becomes of it in a shorter window, whose rows are looked at less ahead of their turn
DOUBT = 2  # times what is hoped is the most that is believed of a time that was not measured often
ENTRY = 1.4  # how much longer than the smallest window the first round of all may take
BEGINS = 0.5  # of what a round takes outside the model: what it takes to enter a window


Entering = tuple[int, float, float]  # the first window if any, the seconds that it is expected to gain, what it costs


class Forecast:
    """What is expected of windows of a grid for B samples; points: evaluations a row, as far as was seen."""

    def __init__(
        self, known: ModelProfile, acceptance: AcceptanceModel, method: Hashable, B: int, grid: Sequence[int]
    ) -> None:
        self.known, self.acceptance, self.sweep, self.N = known, acceptance, known.sweep(method), acceptance.N
        self.B, self.grid = B, grid
        self.points, self.trials = 1.0, WindowTrials(grid)
        self.nearby: dict[tuple[int, float], int] = {}
        self.timed: tuple[float, ...] = ()  # what the two were made of
        self.allowed, self.optimistic = dict[int, float](), dict[int, float]()
        self.found: dict[int, tuple[tuple[float, ...], Entering]] = {}

    @property
    def step(self) -> float | None:
        """Seconds of a step, where it was measured."""
        known = self.known
        return known.model(self.B) + known.step(self.B) if self.B in known.step.seen else None

    def table(self) -> dict[int, float]:
        """Seconds of a round of each window that may be ventured."""
        return self.tables()[0]

    def tables(self) -> tuple[dict[int, float], dict[int, float]]:
        """The same, and what is hoped of each window that may be tried."""
        known, sweep, P = self.known, self.sweep, self.B * self.points
        timed = known.model.version, sweep.version, P
        if self.timed != timed:
            most = known.growth * (known.model.most or self.B) / P
            self.timed, self.allowed = timed, {W: self.round(W) for W in self.grid if most >= W or W == 2}
            tried = self.grid if known.model.alone else self.allowed
            self.optimistic = {W: known.model.optimistic(W * P) + sweep.optimistic(W * P) for W in tried}
        return self.allowed, self.optimistic

    def round(self, W: float) -> float:
        """Seconds of a round of W rows of each sample."""
        M = W * self.B * self.points
        return self.known.model(M) + self.sweep(M)

    def nearest(self, M: int) -> int:
        """The rows of the window that is nearest to a batch of M rows."""
        if (M, self.points) not in self.nearby:
            rows = (round(W * self.B * self.points) for W in self.grid)
            self.nearby[M, self.points] = min(rows, key=lambda rows: abs(rows - M))
        return self.nearby[M, self.points]

    def best(self, place: int, left: int, now: int) -> tuple[float, int]:
        """The least seconds a row of any window at a place of the chain, and the window, after one of `now` rows."""
        q, least, best = self.acceptance.at(place), math.inf, 1
        for W, R in self.table().items():
            rows = min(W, left)
            each = seconds_per_row(rows, R if rows == W else self.round(rows), LESS * q if now > rows else q)
            if each < least:
                least, best = each, W
            if rows < W:
                break  # wider ones are the same
        return least, best

    def gains(self, row: int, left: int, step: float, table: dict[int, float]) -> dict[int, float]:
        """Of each window the most seconds it is expected to gain over steps by any row ahead, on good ways and bad."""
        part, n, rounds, ahead = self.N / PLACES, 0.0, 0.0, [(0.0, 0.0)]
        for i in range(self.acceptance.place(row), PLACES):
            rows = min(part, (i + 1) * part - row)
            n, rounds = n + rows, rounds + rows * self.acceptance.at(i)
            ahead.append((n, rounds))
        each = ((W, R, step - R / (W - 0.5)) for W, R in table.items() if left >= W)
        return {W: max([one * n - R * rounds for n, rounds in ahead]) for W, R, one in each}

    def expected_gains(self, most: float) -> dict[int, float]:
        """Of each window whose round is expected to take `most` seconds or less, the part of a call's time that it
        gains, kept all along: its rounds have W (1 - W / 2N) rows in the mean, for a window ends with the chain."""
        step, q = self.step or math.inf, self.acceptance.mean
        rows = {W: W * (1 - W / (2 * self.N)) for W, R in self.table().items() if W <= self.N and most >= R}
        return {W: 1 - seconds_per_row(W, self.round(mean), q) / step for W, mean in rows.items()}

    def expected(self) -> Expected | None:
        """What the window that gains most, kept all along, is expected to take for the chain."""
        step, hopes = self.step, self.expected_gains(math.inf)
        if step is None or not hopes:
            return None
        W, steps = max(hopes, key=lambda W: hopes[W]), self.N * step
        return Expected(W, self.N, self.N * (1 / (W - 0.5) + self.acceptance.mean), (1 - hopes[W]) * steps, steps)

    def why(self) -> str | None:
        """Why a chain is stepped through."""
        best = self.expected()
        if best is None or best.ratio >= 1:
            return None if best is None else str(best)
        return f"{best}; a trial may cost more than this call may lose, so a later one makes it"

    def entering(self, row: int, left: int, step: float) -> Entering:
        """What windows from a row on are expected to come to."""
        known, place = self.known, self.acceptance.place(row)
        facts = known.model.version, known.step.version, self.sweep.version, self.acceptance.version, self.points
        if place not in self.found or self.found[place][0] != facts:
            self.found[place] = facts, self.first(row, left, step)
        return self.found[place][1]

    def first(self, row: int, left: int, step: float) -> Entering:
        """The same, found out."""
        known, (table, hoped) = self.known, self.tables()
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
        usual, sweep = (BEGINS * o(first * self.B) for o in (self.sweep, self.sweep.optimistic))
        cost = min(table[first] + usual, DOUBT * (hoped[first] + sweep))
        return first, gain, cost - step  # one row is sure


def seconds_per_row(W: int, R: float, q: float) -> float:
    """Seconds a row of windows of W rows whose rounds take R."""
    return R * (1 / (W - 0.5) + q)
