"""The windows of the first call of a chain: a ladder, climbed by counting, so that equal calls take as many rounds.

    4 rows one by one,  2 rounds of 4 rows,  2 of 16,  then 64:    each where it is expected to pay

    seconds a row    tau(W) = (T(W) + O(W)) (1 / (W - 1/2) + q),    tau(1) = the seconds of a step

T, O: seconds of a round in the model and outside of it, the least of those measured in this call, for whatever else the
machine does only adds to them; q: rounds a row more than full windows take, as is usual for a chain of so many rows.
Clocks differ from call to call and counts do not. So a clock decides once a rung, between windows four times apart, for
what is clearly faster; where that is not clear more rounds are timed, which then cost about what steps do. The last
window is kept to the end of the chain, unless it loses a lot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .outlook import BETTER, tau

RUNGS = (4, 16, 64)
LONG = 32  # rows of a chain: of a shorter one the first rounds are too large a part
ROWS, ROUNDS, MOST = 4, 2, 6  # timed: steps, and rounds of a rung, at least and at most
PAYS, CLEAR = 1.1, 1.35  # times faster than stepping: what windows have to be; how far from that is clear
HOPE = 0.5  # of what more rows are expected to cost: what is believed before they were tried


class Ladder:
    """The windows of one call of N rows; window: the rung it is on, 1 before and after.

    shape: about the seconds that a round of W rows takes outside of the model, until they are measured.
    """

    def __init__(self, N: int, q: float, shape: Callable[[int], float]) -> None:
        self.q, self.shape, self.rungs = q, shape, [W for W in RUNGS if W <= N]
        self.window, self.rounds, self.settled = 1, 0, False
        self.T: dict[int, float] = {}
        self.O: dict[int, float] = {}

    @staticmethod
    def fits(N: int, grid: Sequence[int]) -> bool:
        """Whether a chain of N rows that may have the windows of a grid begins so."""
        return N >= LONG and set(grid) >= {W for W in RUNGS if W <= N}

    def saw(self, inside: float, outside: float) -> None:
        """What the last step or round took; the first round of a rung prepares much, and tells little."""
        if self.window == 1 or self.rounds > 1:
            self.T[self.window] = min(inside, self.T.get(self.window, inside))
            self.O[self.window] = min(outside, self.O.get(self.window, outside))

    def next(self, losing: bool) -> int:
        """The window of the next round; losing: whether windows have lost a lot of time so far."""
        if losing:
            self.window, self.settled = 1, True
        if not self.settled and (self.window == 1 or self.rounds >= ROUNDS):
            before, self.window = self.window, self.best()
            if self.window != before or self.window == 1:
                self.rounds, self.settled = 0, self.window == 1 or self.window < before
            else:
                self.settled = self.rounds >= MOST or self.clear(before)
        self.rounds += 1
        return self.window

    def best(self) -> int:
        """The rung to go on with, 1 for steps."""
        now, W = self.window, self.rungs[0]
        if now == 1:
            free = min(tau(W, self.T[1] + self.shape(W), self.q) for W in self.rungs)  # if more rows cost nothing
            return W if free < self.limit else 1
        if not self.clear(now) and self.rounds < MOST:
            return now
        if min(self.each(1.0).values()) > self.limit:
            return 1
        hoped = self.each(HOPE)
        best = min(hoped, key=lambda W: hoped[W])
        return best if hoped[best] < BETTER * hoped[now] else now

    @property
    def limit(self) -> float:
        """The seconds a row that windows may take: less than a step's to go in, a little more to be left again."""
        return (self.T[1] + self.O[1]) * (1 / PAYS if self.window <= self.rungs[0] else PAYS)

    def clear(self, now: int) -> bool:
        """Whether it is plain that windows pay, or that they do not."""
        ratio = min(self.each(1.0).values()) / self.limit
        return max(ratio, 1 / ratio) > CLEAR

    def each(self, share: float) -> dict[int, float]:
        """Seconds a row of each rung up to the next one, whose more rows cost such a share of what is expected."""
        found = {W: tau(W, self.T[W] + self.O[W], self.q) for W in self.T if W > 1}
        (below, last), new = sorted(self.T)[-2:], self.rungs[len(found) :][:1]
        slope = max(self.T[last] - self.T[below], 0.0) / (last - below)
        for W in new:
            T = self.T[last] + share * (W - last) * slope
            found[W] = tau(W, T + self.O[last] * self.shape(W) / self.shape(last), self.q)
        return found
