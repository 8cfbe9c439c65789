"""The window that finishes soonest, picked and picked again as it goes; stepping is the window of one row.

    credit  <-  min(credit + ALLOWED (seconds of stepping the chain) - seconds lost to stepping, CREDIT)

The first call of a chain climbs the ladder of `ladder.py`; then what windows are expected to take and to gain is in
`outlook.py`. They grow to at most `bold` times what was measured.
What this may lose is bounded: every call may be slower than stepping by ALLOWED of its time, which gains and calls that
did not need it add to, up to CREDIT. A round whose outcome is not known must be affordable; one that was measured is
made on credit, unless that failed too often. Where rounds lose and nothing is left, the rest is stepped. Where a whole
call was, and no credit would have changed that, the next few are not asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from functools import partial

from torch import Tensor

from ...execution.evaluate import Evaluator
from ...methods.base import AbstractMethod
from ...stopping.criteria import AbstractStop
from ..controller import AbstractPace, Expected, Fixed, Timed
from .acceptance import Reach
from .backoff import Rest
from .first_call import ROWS, Ladder
from .forecast import BETTER, Outlook, tau
from .profile import Experience, experience
from .trials import LONG
from .window_sizes import stretch, windows

ALLOWED, CREDIT = 0.015, 0.2  # of the seconds that stepping the chain takes
NEW = 0.5  # rows of a place that were seen, of which less is as good as none
FORGIVEN = 0.7  # what a call leaves of what windows lost before
FIRST = 2  # times CREDIT, what the first round of a window that is kept may take
OTHERS = 3  # times the usual is the most that a measurement may cost
SLIGHT = 0.25  # of a round, a gain further on that windows are not stayed in for
WORTH, SURE = 1.5, 1.05  # what windows must be expected to gain over the rest, in costs of entering; where measured
STRETCH = 0.1  # seconds between two questions while stepping
RESTS = 7  # calls that step and are not asked, where no credit would have made windows worth it; or a stretch of them


class Auto(AbstractPace):
    """The pace of one call of N rows and B samples of so many bytes altogether; see above."""

    def __init__(
        self, known: Experience, reach: Reach, method: AbstractMethod, B: int, size: int, grid: tuple[int, ...]
    ) -> None:
        self.known, self.reach, self.N, self.B, self.grid = known, reach, reach.N, B, grid
        self.outlook: Outlook = reach.outlooks.get((B, grid)) or Outlook(known, reach, type(method), B, grid)
        reach.outlooks[B, grid] = self.outlook
        self.sweep = self.outlook.sweep
        self.window, self.rounds, self.wide = 1, 0, 0
        self.steps = self.most = stretch(size)
        self.clock = (0.0, 0.0)
        self.last = 0  # about how many rows the call before had
        self.granted, self.faded, self.floor = False, False, 0.0
        rest = reach.rests.pop(B, None)
        self.hopeless, self.rested = True, rest.calls if rest else 0  # whether no credit would help; calls before
        self.lost = self.due = self.full = 0.0  # seconds lost in windows, of a sweep not yet timed, of credit
        self.kept: int | None = None  # the window to keep all along, 0 for none, see `whole.py`
        self.sure = False  # and it was often enough
        self.used = Counter[int]()  # rows by window
        self.singles = [0, 0]  # rows stepped through before the first window and after
        climbs = B not in reach.begun and Ladder.fits(self.N, grid)
        self.ladder = Ladder(reach, lambda W: known.shape(W * B)) if climbs else None
        reach.begun.add(B)

    def next(self, row: int) -> tuple[int, int]:
        step, left = self.outlook.step, self.N - row
        if self.ladder and row < ROWS:
            return 1, 1
        if step is None or not self.grid:
            return 1, 2 if self.grid else left
        self.full, self.steps = CREDIT * step * self.N, max(min(max(int(STRETCH / step), self.N // 8), self.most), 1)
        if not self.granted:
            self.granted = True
            calls = 1 + self.rested
            self.reach.since += calls
            credit = self.known.credit + calls * ALLOWED * step * self.N
            self.known.credit = max(min(credit, self.full), -self.full)
            self.reach.lost *= FORGIVEN**calls
        if self.ladder:
            self.window, self.hopeless = self.ladder.next(self.lost / step), False
        elif self.window == 1:
            self.window = self.entered(row, left, step)
            if row == 0:
                self.window = self.keeping() or self.window
            if self.window > 1:
                self.rounds, self.wide, self.lost = 0, 0, 0.0
        else:
            self.window = self.changed(row, left, step)
        return self.window, min(self.steps, left)

    def keeping(self) -> int:
        """The window that this call keeps, 0 where it is free."""
        credit, half = self.known.credit, self.full / 2
        if credit < -half:
            return 0
        afford = credit >= half, credit >= self.full
        hopes = partial(self.outlook.hopes, FIRST * self.full)
        self.kept, self.sure = self.outlook.whole.next(self.window, hopes, *afford)
        if self.kept:
            self.floor, self.reach.since = credit - self.full, 0  # first rounds lose what later ones bring back
        return self.kept

    def entered(self, row: int, left: int, step: float) -> int:
        """The first window, 1 where stepping on is best."""
        known, reach = self.known, self.reach
        first, gain, cost = self.outlook.entering(row, left, step)
        sure = not known.model.alone and any(reach.rows)  # measured; then it must only not have failed too often
        debt = -self.full / 2
        least, self.floor = (debt, known.credit - 2 * cost) if sure else (cost, debt)
        idle = known.credit >= self.full  # nothing was tried for long
        hopeless = gain <= SURE * cost + reach.lost
        if gain > (SURE if sure or idle else WORTH) * cost + reach.lost and known.credit >= least:
            self.hopeless, reach.since = False, 0
            return first
        if row == 0 and idle:
            for curve in (known.model, self.sweep):
                curve.doubt(self.B, reach.since >= LONG)
            reach.doubt()
            reach.since %= LONG
            _, gain, cost = self.outlook.entering(row, left, step)
            hopeless = gain <= SURE * cost + reach.lost
        self.hopeless &= hopeless
        return 1

    def changed(self, row: int, left: int, step: float) -> int:
        """The next window after one of more than a row."""
        more = (FIRST - 1) * self.full if self.rounds < 2 else 0.0
        if self.known.credit < self.floor - more:
            return 1
        if self.kept:
            return self.kept
        outlook, rows = self.outlook, min(self.window, left)
        place, table, now = self.reach.place(row + rows / 2), outlook.table(), outlook.round(rows)
        least, W = outlook.best(place, left, rows)
        if least > step and max(outlook.gains(row, left, step, table).values(), default=0.0) < SLIGHT * now:
            new = self.reach.rows[place] < NEW and self.known.credit > now
            return self.window if new else 1  # what was never seen is worth a look where it can be afforded
        if self.window not in table:
            return W
        if least > BETTER * tau(rows, now, self.reach.at(place)):
            return self.window
        self.floor -= max(table[W] - now, 0.0)  # its first round will not accept more: no failure
        return W

    def elapsed(self, evaluate: Timed) -> tuple[float, float]:
        """Seconds in the model and outside since it was last asked."""
        before, self.clock = self.clock, evaluate.clock.read()
        evaluate.clock.exact = self.known.cpu and self.ladder is not None
        return self.clock[0] - before[0], self.clock[1] - before[1]

    def stepped(self, row: int, steps: int, evaluate: Timed) -> None:
        inside, outside = self.elapsed(evaluate)
        self.singles[self.rounds > 0] += steps
        first, self.last = self.last != self.B, self.B
        if self.ladder and steps == 1:
            self.ladder.saw(inside, outside)
        self.known.model.saw(self.B, inside / steps)
        gaps = steps - first  # before its first call is what a window, or nothing, left to do
        if first and self.rounds:
            self.spend(bounded(outside - gaps * self.known.step(self.B), self.due) - self.due)
            self.reach.told(0.0 if self.ladder else self.lost)  # the ladder's are there to find out
        elif gaps:
            self.known.step.saw(self.B, outside / gaps)
        if row + steps == self.N and self.granted:
            self.ended()
            if self.hopeless and self.outlook.step:
                calls = min(2 * self.rested + 1, max(RESTS, int(STRETCH / (self.outlook.step * self.N))))
                pace = Fixed(1, self.steps, self.outlook.why(), self.expected())
                self.reach.rests[self.B] = Rest(calls, calls, pace)

    def saw(self, row: int, window: int, asked: int, count: int, evaluate: Timed) -> None:
        inside, outside = self.elapsed(evaluate)
        if self.ladder and window <= self.N - row:
            self.ladder.saw(inside, outside)
        if self.sure:
            self.charge(asked, count, inside + outside)
        else:
            self.learn(row, window, asked, count, inside, outside)
        self.rounds, self.wide = self.rounds + 1, window
        self.used[window] += count
        if row + count == self.N:
            self.reach.told(0.0 if self.ladder else self.lost)  # the ladder's are there to find out
            self.ended(self.due)

    def charge(self, M: int, count: int, seconds: float) -> None:
        """A round of a window that is known well: it is charged, and looked at no closer, for that takes time."""
        before, self.due = self.due, self.due or self.sweep(M)
        spent = bounded(seconds, self.known.model(M) + self.due) + self.due - before
        self.spend(spent - count * (self.outlook.step or 0.0))
        self.last = 0

    def learn(self, row: int, window: int, M: int, count: int, inside: float, outside: float) -> None:
        """A round that tells what rounds take and how far they reach."""
        step, rows = self.outlook.step or 0.0, min(window, self.N - row)
        if self.rounds:  # what lies between two calls is the work of the round before
            self.sweep.saw(self.last, outside)
        if (window == rows and rows * self.B <= M) or max(self.known.model.seen, default=0) < M:
            self.known.model.saw(M, inside)  # the last rows of a chain are of every number, and tell little
        self.last = self.outlook.nearest(M)
        self.outlook.points = max(self.outlook.points, M / (rows * self.B))
        before, self.due = self.due, self.sweep(M)  # the sweep is counted as usual until it was timed
        found = bounded(outside, before) - before if self.rounds else bounded(outside or self.due, self.due)
        self.spend(found + bounded(inside, self.known.model(M)) + self.due - count * step)
        if not self.faded:
            self.faded = True
            self.reach.fade()
        if window <= self.wide:  # in a wider one than before most rows are looked at for the first time
            self.reach.saw(row, max(1 - count / (rows - 0.5), 0.0), count, rows)

    def spend(self, seconds: float) -> None:
        """Seconds more than stepping takes, or less."""
        self.known.credit = min(self.known.credit - seconds, self.full)
        self.lost += seconds

    def ended(self, after: float = 0.0) -> None:
        """The call is over, but for so many seconds."""
        if self.kept is not None and self.outlook.step:
            seconds = sum(self.clock) + after
            self.outlook.whole.told(self.kept, 1 - seconds / (self.outlook.step * self.N), self.used)

    def expected(self) -> Expected | None:
        return self.ladder.expected() if self.ladder and len(self.ladder.O) > 1 else self.outlook.forecast()

    def reason(self) -> str | None:
        before, after = self.singles
        if not before + after:
            return None
        if not self.grid:
            return "no window fits into the chain and the memory"
        if not self.outlook.step or (self.ladder and before <= ROWS and not after):
            return f"{before} rows were timed first"
        if 2 * sum(self.used.values()) > self.N:
            return f"{before} rows before the first window and {after} after are expected to be faster one by one"
        return (self.ladder and self.ladder.why) or self.outlook.why()


def bounded(seconds: float, usual: float) -> float:
    """A time without what else the machine did meanwhile, as far as one can know."""
    return min(max(seconds, 0.0), OTHERS * usual)


def auto(
    evaluate: Evaluator, x: Tensor, method: AbstractMethod, stop: AbstractStop, key: Hashable | None = None
) -> AbstractPace:
    """The pace of a call from x (B, ...); key: what the model is remembered by, in place of itself."""
    if method.steady:
        return Fixed(method.steady)
    system, B = evaluate.system, len(x)
    N = len(system)
    ranks = evaluate.team.size if evaluate.team else 1
    known = experience(evaluate.source, x, evaluate.dtype, evaluate.condition, ranks, key=key)
    reach = known.reach((type(method), type(stop), stop.tolerance, system.kind), N, stop.tolerance)
    return resting(reach, B) or Auto(known, reach, method, B, x.nbytes, windows(N, B, x.nbytes, ranks))


def resting(reach: Reach, B: int) -> Fixed | None:
    """The steps of a call of B samples that is not asked, None where one is."""
    rest = reach.rests.get(B)
    if not rest or not rest.left:
        return None
    rest.left -= 1
    return rest.pace
