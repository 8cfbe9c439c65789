"""The windows of the first call of a chain: a ladder, climbed by counting, so that equal calls take as many rounds.

    4 rows one by one,  2 rounds of 4 rows,  2 of 16,  then 64:    each where it is expected to pay

    seconds a row    tau(W) = (T(W) + O(W)) (1 / (W - 1/2) + q W / (W + 4)),    tau(1) = the seconds of a step

T, O: seconds of a round in the model and outside of it, the least of those measured in this call, for whatever else the
machine does only adds to them; q: rounds a row more than full windows take, as is usual for a chain of so many rows, or
less if rounds so far took less.
Clocks differ from call to call and counts do not. So a clock decides once a rung, between windows four times apart, for
what is clearly faster; where that is not clear more rounds are timed, which then cost about what steps do. The last
window is kept to the end of the chain, unless it loses a lot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..expected import Expected
from .acceptance import AcceptanceModel

RUNGS = (4, 16, 64)
LONG = 32  # rows of a chain: of a shorter one the first rounds are too large a part
ROWS, ROUNDS, MOST = 4, 2, 5  # timed: steps, and rounds of a rung, at least and at most
STAYS, PLAIN = 1.1, 2.0  # times slower than stepping: from where on windows are left, and where that is plain at once
DEAR = 0.015, 4  # of the rows of the chain, and rows: what windows may have lost before they are left at once
LOSING = 0.4  # of the rows of the chain: before the rest is stepped
HOPE = 0.5  # of what more rows are expected to cost: what is believed before they were tried
UP, DOWN = 0.7, 0.6  # of the seconds a row: what another rung must take to be changed to
HALF = 4  # rows of a window that takes half of the rounds beyond full windows that a long one does


class FirstCallLadder:
    """The windows of one call of N rows; window: the rung it is on, 1 before and after.

    shape: about the seconds that a round of W rows takes outside of the model, until they are measured.
    """

    def __init__(self, reach: AcceptanceModel, shape: Callable[[int], float]) -> None:
        self.acceptance, self.shape, self.rungs = reach, shape, [W for W in RUNGS if W <= reach.N]
        self.window, self.rounds, self.settled = 1, 0, False
        self.why: str | None = None  # the rest is stepped
        self.T: dict[int, float] = {}
        self.O: dict[int, float] = {}

    @staticmethod
    def fits(N: int, grid: Sequence[int]) -> bool:
        """Whether a chain of N rows that may have the windows of a grid begins so."""
        return N >= LONG and set(grid) >= {W for W in RUNGS if W <= N}

    def record(self, inside: float, outside: float) -> None:
        """What the last step or round took in the model, and since the one before."""
        W = self.window
        if W in self.T:  # what lies before the first of a rung is another's work
            self.O[W] = min(max(outside, 0.0), self.O.get(W, math.inf))
        self.T[W] = min(inside, self.T.get(W, inside))

    def next(self, lost: float) -> int:
        """The window of the next round; lost: how many steps' time windows have lost so far."""
        N, now = self.acceptance.N, self.window
        if lost > LOSING * N:
            self.why, self.window, self.settled = "windows took longer than expected", 1, True
        elif not self.settled and (now == 1 or (now in self.O and self.rounds >= ROUNDS)):
            best = self.best()
            dear = best == 1 < now and (self.ratio > PLAIN or lost > max(DEAR[0] * N, DEAR[1]))
            self.settled = best <= now and (now == 1 or self.rounds >= MOST or dear)
            if best > now or self.settled:  # up at once; more is timed before it stays or goes down
                self.window, self.rounds = best, 0
            if self.settled and best == 1:
                self.why = (
                    str(self.expected()) if now > 1 else f"even if more rows cost nothing, {self.expected(self.free)}"
                )
        self.rounds += 1
        return self.window

    def best(self) -> int:
        """The rung to go on with, 1 for steps."""
        now = self.window
        if now == 1:
            return self.rungs[0] if min(self.free.values()) <= self.step else 1
        if self.ratio > STAYS:
            return 1
        hoped = self.each(HOPE)
        best = min(hoped, key=lambda W: hoped[W])
        return best if hoped[best] < (UP if best > now else DOWN) * hoped[now] else now

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.T[1] + self.O[1]

    @property
    def ratio(self) -> float:
        """The time with the best window, in times of stepping."""
        return min(self.each(1.0).values()) / self.step

    @property
    def free(self) -> dict[int, float]:
        """Seconds a row of each rung if more rows cost nothing."""
        return {W: (self.T[1] + self.shape(W)) * self.a_row(W) for W in self.rungs}

    def a_row(self, W: int) -> float:
        """Rounds a row of windows of W rows; where a tolerance is small, small windows would count too many."""
        return 1 / (W - 0.5) + min(self.acceptance.prior, self.acceptance.mean) * W / (W + HALF)

    def expected(self, each: Mapping[int, float] | None = None) -> Expected:
        """What the best rung of `each`, or of those that may be tried, is expected to take for the chain."""
        each, N = each or self.each(1.0), self.acceptance.N
        W = min(each, key=lambda W: each[W])
        return Expected(W, N, N * self.a_row(W), N * each[W], N * self.step)

    def each(self, share: float) -> dict[int, float]:
        """Seconds a row of each rung up to the next one, whose more rows cost such a share of what is expected."""
        found = {W: (self.T[W] + self.O[W]) * self.a_row(W) for W in self.O if W > 1}
        (below, last), new = sorted(self.O)[-2:], self.rungs[len(found) :][:1]
        slope = max(self.T[last] - self.T[below], 0.0) / (last - below)
        for W in new:
            T = self.T[last] + share * (W - last) * slope
            found[W] = (T + self.O[last] * self.shape(W) / self.shape(last)) * self.a_row(W)
        return found
