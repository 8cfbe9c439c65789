"""The window that finishes soonest, picked and picked again as it goes; stepping is the window of one row.

    seconds a row     tau(W) = (T(W B) + O(W B)) (1 / (W - 1/2) + q[n]),    tau(1) = the seconds of a step

of a batch of B samples, see `experience.py`; half a row of a window is left to be looked at again. So the best window
is about sqrt(alpha / (beta q)) where a round takes alpha + beta W: wide where a device has room and rows settle easily,
as at the beginning of a chain, and 1 where a row costs as much as ever.

A window is entered small, for its first round accepts a row or two only, and grows to at most `bold` times what was
measured. What this may lose is bounded: every call may be slower than stepping by ALLOWED of its time, which gains and
calls that did not need it add to, up to CREDIT. A round whose outcome is not known must be affordable; one that was
measured is made on credit, unless that failed too often. Where rounds lose and nothing is left, the rest is stepped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from .execute import Evaluator
from .experience import PLACES, Experience, Reach, experience
from .method import AbstractMethod
from .pace import AbstractPace, Fixed, Timed
from .stop import AbstractStop

GRID = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
ROOM = 2**30  # bytes that the states of a window may take, of which a method holds about a dozen
ALLOWED, CREDIT = 0.015, 0.2  # of the seconds that stepping the chain takes
NEW = 0.5  # rows of a place that were seen, of which less is as good as none
FORGIVEN = 0.7  # what a call leaves of what windows lost before
DOUBT = 2  # times what is hoped is the most that is believed of a time that was not measured often
OTHERS = 3  # times the usual is the most that a measurement may cost
BETTER, WORSE = 0.95, 1.0  # seconds a row against those of what it does: to change, and to step again
WORTH, SURE = 1.5, 1.05  # what windows must be expected to gain over the rest, in costs of entering; where measured
ENTRY = 1.3  # how much longer than the smallest window the first round may take
STRETCH, MOST, KEPT = 0.025, 256, 2**26  # seconds, steps and bytes of states between two questions while stepping
RESTS = 7  # calls that step and are not asked at all, after one in which no credit would have made windows worth it


class Auto(AbstractPace):
    """The pace of one call of N rows and B samples of so many bytes altogether; see above."""

    def __init__(
        self, known: Experience, reach: Reach, method: AbstractMethod, B: int, size: int, grid: Sequence[int]
    ) -> None:
        self.known, self.reach, self.N, self.B = known, reach, reach.N, B
        self.sweep = known.sweep(type(method))
        self.grid = grid
        self.window, self.rounds, self.wide, self.points = 1, 0, 0, 1.0
        self.steps = self.most = stretch(size)
        self.clock = (0.0, 0.0)
        self.facts, self.ventured = (-1, -1, 1.0), dict[int, float]()  # see `table`
        self.last: int | None = None  # rows of the round before
        self.granted, self.faded, self.floor = False, False, 0.0
        self.lost = self.due = self.full = 0.0  # seconds that were lost in windows, see `saw`; the most of credit

    # ------------------------------------------------------------------ what is expected

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

    def best(self, place: int, left: int, table: dict[int, float]) -> tuple[float, int]:
        """The least seconds a row of any window at a place of the chain, and the window."""
        q, least, best = self.reach.at(place), math.inf, 1
        for W, R in table.items():
            rows = min(W, left)
            tau = (R if rows == W else self.round(rows)) * (1 / (rows - 0.5) + q)
            if tau < least:
                least, best = tau, W
            if rows < W:
                break  # wider ones are the same
        return least, best

    def gain(self, row: int, left: int, step: float, table: dict[int, float]) -> float:
        """The most seconds that windows are expected to gain over steps by any row further on, on good ways and bad."""
        lines = [(R / (W - 0.5), R) for W, R in table.items() if left >= W]
        part, total, most = self.N / PLACES, 0.0, 0.0
        for i in range(self.reach.place(row), PLACES if lines else 0):
            q = self.reach.at(i)
            total += min(part, (i + 1) * part - row) * (step - min(one + R * q for one, R in lines))
            most = max(most, total)
        return most

    # ------------------------------------------------------------------ what is decided

    def next(self, row: int) -> tuple[int, int]:
        step, left = self.step, self.N - row
        if step is None or not self.grid:
            return 1, 2 if self.grid else left
        self.full, self.steps = CREDIT * step * self.N, max(min(max(int(STRETCH / step), self.N // 8), self.most), 1)
        if not self.granted:
            self.granted = True
            calls = 1 + RESTS * (self.reach.rests.pop(self.B, None) == [])
            credit = self.known.credit + calls * ALLOWED * step * self.N
            self.known.credit = max(min(credit, self.full), -self.full)
            self.reach.lost *= FORGIVEN**calls
        if self.window == 1:
            self.window = self.entered(row, left, step)
            if self.window > 1:
                self.rounds, self.wide, self.lost = 0, 0, 0.0
        else:
            self.window = self.changed(row, left, step)
        return self.window, min(self.steps, left)

    def entered(self, row: int, left: int, step: float) -> int:
        """The first window, 1 where stepping on is best."""
        known, reach = self.known, self.reach
        facts = known.model.version, known.step.version, self.sweep.version, reach.version, self.points, len(self.grid)
        place = self.B, reach.place(row)
        was, outlook = reach.outlooks.get(place, (None, (1, 0.0, math.inf)))
        if was != facts:
            outlook = self.outlook(row, left, step)
            reach.outlooks[place] = facts, outlook
        first, gain, cost = outlook
        sure = not known.model.alone and any(reach.rows)  # measured; then it must only not have failed too often
        debt = -self.full / 2
        least, self.floor = (debt, known.credit - 2 * cost) if sure else (cost, debt)
        idle = known.credit >= self.full  # nothing was tried for long
        if gain > (SURE if sure or idle else WORTH) * cost + reach.lost and known.credit >= least:
            return first
        if row == 0:
            for curve in (known.model, self.sweep) if idle else ():
                curve.doubt(self.B)
            if gain <= SURE * cost + reach.lost:
                reach.rests[self.B] = RESTS * [Fixed(1, self.steps)]
        return 1

    def outlook(self, row: int, left: int, step: float) -> tuple[int, float, float]:
        """The first window if any, the seconds that windows are expected to gain over the rest, and what it costs."""
        table, known = self.table(), self.known
        hoped = self.hoped(table)
        tau, W = self.best(self.reach.place(row), left, hoped)
        if tau > BETTER * step:
            return 1, 0.0, math.inf
        gain = self.gain(row, left, step, hoped)
        most = max(ENTRY * min(table.values()), table[min(table)])
        first = max(w for w, R in table.items() if w <= W and most >= R)
        slow = [w for w, R in table.items() if w * self.B in known.model.seen and DOUBT * hoped[w] < R]
        first = min(slow, default=first) if known.model.alone else first  # what was slow once is measured again
        gain -= max(hoped[W] - hoped[first], 0.0)  # the first round of a wider window will not accept more rows
        sweep = self.sweep.hoped(first * self.B)  # which is about what it takes to begin, too
        cost = min(table[first] + self.sweep(first * self.B), DOUBT * (hoped[first] + sweep))
        return first, gain, cost - step  # one row is sure

    def changed(self, row: int, left: int, step: float) -> int:
        """The next window after one of more than a row."""
        if self.rounds > 1 and self.known.credit < self.floor:
            return 1
        place, table = self.reach.place(row + min(self.window, left) / 2), self.table()
        tau, W = self.best(place, left, table)
        if tau > WORSE * step and not self.gain(row, left, step, table):
            new = self.reach.rows[place] < NEW and self.known.credit > self.round(min(self.window, left))
            return self.window if new else 1  # what was never seen is worth a look where it can be afforded
        if self.window not in table:
            return W
        rows = min(self.window, left)
        now = self.round(rows) * (1 / (rows - 0.5) + self.reach.at(place))
        if tau > BETTER * now:
            return self.window
        self.floor -= max(table[W] - self.round(rows), 0.0)  # likewise, and that is no failure
        return W

    # ------------------------------------------------------------------ what is seen

    def elapsed(self, evaluate: Timed) -> tuple[float, float]:
        """Seconds in the model and outside since it was last asked."""
        before, self.clock = self.clock, evaluate.clock.read()
        return self.clock[0] - before[0], self.clock[1] - before[1]

    def stepped(self, row: int, steps: int, evaluate: Timed) -> None:
        inside, outside = self.elapsed(evaluate)
        first, self.last = self.last != self.B, self.B
        self.known.model.saw(self.B, inside / steps)
        gaps = steps - first  # before its first call is what a window, or nothing, left to do
        if first and self.rounds:
            self.spend(bounded(outside - gaps * self.known.step(self.B), self.due) - self.due)
            self.reach.told(self.lost)
        elif gaps:
            self.known.step.saw(self.B, outside / gaps)

    def saw(self, row: int, window: int, asked: int, count: int, evaluate: Timed) -> None:
        inside, outside = self.elapsed(evaluate)
        M, step = asked, self.step or 0.0
        self.known.model.saw(M, inside)
        if self.rounds:  # what lies between two calls is the work of the round before
            self.sweep.saw(self.last or M, outside)
        self.points = max(self.points, M / (min(window, self.N - row) * self.B))
        self.last = M
        before, self.due = self.due, self.sweep(M)  # the sweep is counted as usual until it was timed
        found = bounded(outside, before) - before if self.rounds else bounded(outside or self.due, self.due)
        self.spend(found + bounded(inside, self.known.model(M)) + self.due - count * step)
        if not self.faded:
            self.faded = True
            self.reach.fade()
        if window <= self.wide:  # in a wider one than before most rows are looked at for the first time
            self.reach.saw(row, max(1 - count / (min(window, self.N - row) - 0.5), 0.0), count)
        if row + count == self.N:
            self.reach.told(self.lost)
        self.rounds, self.wide = self.rounds + 1, window

    def spend(self, seconds: float) -> None:
        """Seconds more than stepping takes, or less."""
        self.known.credit = min(self.known.credit - seconds, self.full)
        self.lost += seconds


def bounded(seconds: float, usual: float) -> float:
    """A time without what else the machine did meanwhile, as far as one can know."""
    return min(max(seconds, 0.0), OTHERS * usual)


def stretch(size: int) -> int:
    """The most steps in a row of samples of so many bytes, for all that they leave is kept until they are told of."""
    return max(min(KEPT // (3 * size), MOST), 1)


def auto(evaluate: Evaluator, x: Tensor, method: AbstractMethod, stop: AbstractStop) -> AbstractPace:
    """The pace of a call from x (B, ...); stepping at tolerance 0, where a row a round is about what is accepted."""
    system, size = evaluate.system, x.numel() * x.element_size()
    N = len(system)
    if method.steady:
        return Fixed(method.steady)
    if stop.tolerance == 0:
        return Fixed(1, min(stretch(size), 64))
    ranks = evaluate.team.size if evaluate.team else 1
    known = experience(evaluate.source, x, evaluate.dtype, evaluate.condition, ranks)
    reach = known.reach((type(method), type(stop), stop.tolerance, system.kind), N)
    if resting := reach.rests.get(len(x)):
        return resting.pop()
    return Auto(known, reach, method, len(x), size, windows(N, len(x), size, ranks))


@lru_cache
def windows(N: int, B: int, size: int, ranks: int = 1) -> tuple[int, ...]:
    """The windows there are for a chain of N rows and states of so many bytes; all ranks have the same work."""
    even = [W for W in GRID if W * B % ranks == 0] or GRID
    return tuple(W for W in even if W <= N and 12 * W * size <= ROOM)
