"""The window that finishes soonest, picked and picked again as it goes; stepping is the window of one row.

The first call of a chain climbs the ladder of `first_call.py`; then what windows are expected to take and to gain is in
`forecast.py`, from what `meter.py` measured. They grow to at most `bold` times what was measured. What this may lose is
bounded by `budget.py`. Where rounds lose and nothing is left, the rest is stepped. Where a whole call was, and no
budget would have changed that, the next few are not asked.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

from torch import Tensor

from ...execution.evaluate import Evaluator
from ...methods.base import AbstractMethod
from ...stopping.criteria import AbstractStop
from ..controller import AbstractPace, Fixed, Plan, Timed
from ..expected import Expected
from .acceptance import Reach
from .backoff import Backoff
from .budget import Budget
from .first_call import ROWS, Ladder
from .forecast import BETTER, Outlook, tau
from .meter import Meter
from .profile import Experience, experience
from .trials import LONG
from .window_sizes import stretch, windows

NEW = 0.5  # rows of a place that were seen, of which less is as good as none
FIRST = 2  # times the budget's limit, what the first round of a window that is kept may take
SLIGHT = 0.25  # of a round, a gain further on that windows are not stayed in for
WORTH, SURE = 1.5, 1.05  # what windows must be expected to gain over the rest, in costs of entering; where measured
STRETCH = 0.1  # seconds between two questions while stepping
RESTS = 7  # calls that step and are not asked, where no budget would have made windows worth it; or a stretch of them


class Auto(AbstractPace):
    """The windows of one call of N rows and B samples of so many bytes altogether; see above."""

    def __init__(
        self, known: Experience, reach: Reach, method: AbstractMethod, B: int, size: int, grid: tuple[int, ...]
    ) -> None:
        self.known, self.reach, self.N, self.B, self.grid = known, reach, reach.N, B, grid
        self.outlook: Outlook = reach.outlooks.get((B, grid)) or Outlook(known, reach, type(method), B, grid)
        reach.outlooks[B, grid] = self.outlook
        self.backoff = reach.backoffs.setdefault(B, Backoff())
        self.skipped = self.backoff.span  # calls before this one that were not asked
        self.backoff.end()
        climbs = B not in reach.begun and Ladder.fits(self.N, grid)
        self.ladder = Ladder(reach, lambda W: known.shape(W * B)) if climbs else None
        reach.begun.add(B)
        self.budget = Budget(known, reach, self.skipped)
        self.meter = Meter(self.outlook, self.budget, self.ladder)
        self.window = 1
        self.steps = self.most = stretch(size)
        self.never_pays = True  # no budget would have made windows worth it
        self.kept: int | None = None  # the window to keep all along, 0 for none, see `trials.py`
        self.trusted = False  # and it was kept often enough

    def next(self, row: int) -> Plan:
        step, left = self.outlook.step, self.N - row
        if self.ladder and row < ROWS:
            return 1, 1
        if step is None or not self.grid:
            return 1, 2 if self.grid else left  # nothing measured yet: time two steps
        self.steps = max(min(max(int(STRETCH / step), self.N // 8), self.most), 1)
        self.budget.open(step)
        if self.ladder:
            self.window, self.never_pays = self.ladder.next(self.budget.loss / step), False
        elif self.window == 1:
            self.window = self.entered(row, left, step)
            if row == 0:
                self.window = self.keeping() or self.window
            if self.window > 1:
                self.meter.enter()
        else:
            self.window = self.changed(row, left, step)
        return self.window, min(self.steps, left)

    def keeping(self) -> int:
        """The window that this call keeps, 0 where it is free: measured calls overrule the forecast."""
        budget, half = self.budget, self.budget.limit / 2
        if budget.balance < -half:
            return 0
        hopes = partial(self.outlook.hopes, FIRST * budget.limit)
        self.kept, self.trusted = self.outlook.whole.next(self.window, hopes, budget.balance >= half, budget.full)
        if self.kept:  # first rounds lose what later ones bring back
            budget.floor, self.reach.since = budget.balance - budget.limit, 0
        return self.kept

    def entered(self, row: int, left: int, step: float) -> int:
        """The first window, 1 where stepping on is best."""
        known, reach, budget = self.known, self.reach, self.budget
        first, gain, cost = self.outlook.entering(row, left, step)
        sure = not known.model.alone and any(reach.rows)  # measured; then it must only not have failed too often
        debt = -budget.limit / 2
        least, budget.floor = (debt, budget.balance - 2 * cost) if sure else (cost, debt)
        never = gain <= SURE * cost + reach.lost
        if gain > (SURE if sure or budget.full else WORTH) * cost + reach.lost and budget.balance >= least:
            self.never_pays, reach.since = False, 0
            return first
        if row == 0 and budget.full:
            for curve in (known.model, self.outlook.sweep):
                curve.doubt(self.B, reach.since >= LONG)
            reach.doubt()
            reach.since %= LONG
            _, gain, cost = self.outlook.entering(row, left, step)
            never = gain <= SURE * cost + reach.lost
        self.never_pays &= never
        return 1

    def changed(self, row: int, left: int, step: float) -> int:
        """The next window after one of more than a row."""
        outlook, budget = self.outlook, self.budget
        if budget.exhausted(FIRST - 1 if self.meter.rounds < 2 else 0):
            return 1
        if self.kept:
            return self.kept
        rows = min(self.window, left)
        place, table, now = self.reach.place(row + rows / 2), outlook.table(), outlook.round(rows)
        least, W = outlook.best(place, left, rows)
        if least > step and max(outlook.gains(row, left, step, table).values(), default=0.0) < SLIGHT * now:
            new = self.reach.rows[place] < NEW and budget.balance > now
            return self.window if new else 1  # what was never seen is worth a look where it can be afforded
        if self.window not in table:
            return W
        if least > BETTER * tau(rows, now, self.reach.at(place)):
            return self.window
        budget.floor -= max(table[W] - now, 0.0)  # its first round will not accept more: no failure
        return W

    def stepped(self, row: int, steps: int, evaluate: Timed) -> None:
        self.meter.steps(steps, evaluate)
        if row + steps == self.N and self.budget.opened:
            self.ended()
            if self.never_pays and self.outlook.step:
                self.backoff.span = self.skipped
                self.backoff.lengthen(max(RESTS, int(STRETCH / (self.outlook.step * self.N))))
                self.backoff.controller = Fixed(1, self.steps, self.outlook.why(), self.expected())

    def saw(self, row: int, window: int, asked: int, count: int, evaluate: Timed) -> None:
        self.meter.round(row, window, asked, count, evaluate, self.trusted)
        if row + count == self.N:
            self.meter.report_loss()
            self.ended(self.meter.pending)

    def ended(self, after: float = 0.0) -> None:
        """The call is over, but for so many seconds."""
        if self.kept is not None and self.outlook.step:
            seconds = sum(self.meter.clock) + after
            self.outlook.whole.told(self.kept, 1 - seconds / (self.outlook.step * self.N), self.meter.used)

    def expected(self) -> Expected | None:
        return self.ladder.expected() if self.ladder and len(self.ladder.O) > 1 else self.outlook.forecast()

    def reason(self) -> str | None:
        return self.meter.why_stepped() if self.grid else "no window fits into the chain and the memory"


def auto(
    evaluate: Evaluator, x: Tensor, method: AbstractMethod, stop: AbstractStop, key: Hashable | None = None
) -> AbstractPace:
    """The pace of a call from x (B, ...); key: what the model is remembered by, in place of itself."""
    if method.steady:
        return Fixed(method.steady)
    system, B = evaluate.system, len(x)
    N = len(system)
    ranks = evaluate.team.size if evaluate.team else 1
    kind = (evaluate.dtype, *sorted(evaluate.condition))
    known = experience(evaluate.source, x, kind, ranks, key=key)
    reach = known.reach((type(method), type(stop), stop.tolerance, system.kind), N, stop.tolerance)
    return resting(reach, B) or Auto(known, reach, method, B, x.nbytes, windows(N, B, x.nbytes, ranks))


def resting(reach: Reach, B: int) -> Fixed | None:
    """The steps of a call of B samples that is not asked, None where one is."""
    backoff = reach.backoffs.get(B)
    return backoff.controller if backoff and backoff.skips() else None
