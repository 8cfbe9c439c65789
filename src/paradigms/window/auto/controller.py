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
from ...stopping.base import AbstractStop
from ..controller import FixedWindow, HasClock, Plan, WindowController
from ..expected import Expected
from .acceptance import AcceptanceModel
from .backoff import Backoff
from .budget import ExplorationBudget
from .first_call import ROWS, FirstCallLadder
from .forecast import BETTER, Forecast, seconds_per_row
from .meter import CallMeter
from .profile import ModelProfile, profile_of
from .trials import LONG
from .window_sizes import candidate_windows, longest_stretch

NEW = 0.5  # rows of a place that were seen, of which less is as good as none
FIRST = 2  # times the budget's limit, what the first round of a window that is kept may take
SLIGHT = 0.25  # of a round, a gain further on that windows are not stayed in for
WORTH, SURE = 1.5, 1.05  # what windows must be expected to gain over the rest, in costs of entering; where measured
STRETCH = 0.1  # seconds between two questions while stepping
RESTS = 7  # calls that step and are not asked, where no budget would have made windows worth it; or a stretch of them


class AutoWindow(WindowController):
    """The windows of one call of N rows and B samples of so many bytes altogether; see above."""

    def __init__(
        self,
        known: ModelProfile,
        acceptance: AcceptanceModel,
        method: AbstractMethod,
        B: int,
        size: int,
        grid: tuple[int, ...],
    ) -> None:
        self.known, self.acceptance, self.N, self.B, self.grid = known, acceptance, acceptance.N, B, grid
        self.forecast: Forecast = acceptance.forecasts.get((B, grid)) or Forecast(
            known, acceptance, type(method), B, grid
        )
        acceptance.forecasts[B, grid] = self.forecast
        self.backoff = acceptance.backoffs.setdefault(B, Backoff())
        self.skipped = self.backoff.span  # calls before this one that were not asked
        self.backoff.end()
        climbs = B not in acceptance.begun and FirstCallLadder.fits(self.N, grid)
        self.ladder = FirstCallLadder(acceptance, lambda W: known.shape(W * B)) if climbs else None
        acceptance.begun.add(B)
        self.budget = ExplorationBudget(known, acceptance, self.skipped)
        self.meter = CallMeter(self.forecast, self.budget, self.ladder)
        self.window = 1
        self.steps = self.most = longest_stretch(size)
        self.never_pays = True  # no budget would have made windows worth it
        self.kept: int | None = None  # the window to keep all along, 0 for none, see `trials.py`
        self.trusted = False  # and it was kept often enough

    def next(self, row: int) -> Plan:
        step, left = self.forecast.step, self.N - row
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
        hopes = partial(self.forecast.expected_gains, FIRST * budget.limit)
        self.kept, self.trusted = self.forecast.trials.next(self.window, hopes, budget.balance >= half, budget.full)
        if self.kept:  # first rounds lose what later ones bring back
            budget.floor, self.acceptance.since = budget.balance - budget.limit, 0
        return self.kept

    def entered(self, row: int, left: int, step: float) -> int:
        """The first window, 1 where stepping on is best."""
        known, acceptance, budget = self.known, self.acceptance, self.budget
        first, gain, cost = self.forecast.entering(row, left, step)
        sure = not known.model.alone and any(acceptance.rows)  # measured; then it must only not have failed too often
        debt = -budget.limit / 2
        least, budget.floor = (debt, budget.balance - 2 * cost) if sure else (cost, debt)
        never = gain <= SURE * cost + acceptance.loss
        if gain > (SURE if sure or budget.full else WORTH) * cost + acceptance.loss and budget.balance >= least:
            self.never_pays, acceptance.since = False, 0
            return first
        if row == 0 and budget.full:
            for curve in (known.model, self.forecast.sweep):
                curve.drop_outliers(self.B, acceptance.since >= LONG)
            acceptance.halve_unknown()
            acceptance.since %= LONG
            _, gain, cost = self.forecast.entering(row, left, step)
            never = gain <= SURE * cost + acceptance.loss
        self.never_pays &= never
        return 1

    def changed(self, row: int, left: int, step: float) -> int:
        """The next window after one of more than a row."""
        forecast, budget = self.forecast, self.budget
        if budget.exhausted(FIRST - 1 if self.meter.rounds < 2 else 0):
            return 1
        if self.kept:
            return self.kept
        rows = min(self.window, left)
        place, table, now = self.acceptance.place(row + rows / 2), forecast.table(), forecast.round(rows)
        least, W = forecast.best(place, left, rows)
        if least > step and max(forecast.gains(row, left, step, table).values(), default=0.0) < SLIGHT * now:
            new = self.acceptance.rows[place] < NEW and budget.balance > now
            return self.window if new else 1  # what was never seen is worth a look where it can be afforded
        if self.window not in table:
            return W
        if least > BETTER * seconds_per_row(rows, now, self.acceptance.at(place)):
            return self.window
        budget.floor -= max(table[W] - now, 0.0)  # its first round will not accept more: no failure
        return W

    def on_steps(self, row: int, steps: int, evaluate: HasClock) -> None:
        self.meter.steps(steps, evaluate)
        if row + steps == self.N and self.budget.opened:
            self.ended()
            if self.never_pays and self.forecast.step:
                self.backoff.span = self.skipped
                self.backoff.lengthen(max(RESTS, int(STRETCH / (self.forecast.step * self.N))))
                self.backoff.controller = FixedWindow(1, self.steps, self.forecast.why(), self.expected())

    def on_round(self, row: int, window: int, asked: int, count: int, evaluate: HasClock) -> None:
        self.meter.round(row, window, asked, count, evaluate, self.trusted)
        if row + count == self.N:
            self.meter.report_loss()
            self.ended(self.meter.pending)

    def ended(self, after: float = 0.0) -> None:
        """The call is over, but for so many seconds."""
        if self.kept is not None and self.forecast.step:
            seconds = sum(self.meter.clock) + after
            self.forecast.trials.record(self.kept, 1 - seconds / (self.forecast.step * self.N), self.meter.used)

    def expected(self) -> Expected | None:
        return self.ladder.expected() if self.ladder and len(self.ladder.O) > 1 else self.forecast.expected()

    def reason(self) -> str | None:
        return self.meter.why_stepped() if self.grid else "no window fits into the chain and the memory"


def auto_window(
    evaluate: Evaluator, x: Tensor, method: AbstractMethod, stop: AbstractStop, key: Hashable | None = None
) -> WindowController:
    """The windows of a call from x (B, ...); key: what the model is remembered by, in place of itself."""
    if method.steady:
        return FixedWindow(method.steady)
    system, B = evaluate.system, len(x)
    N = len(system)
    ranks = evaluate.team.size if evaluate.team else 1
    kind = (evaluate.dtype, *sorted(evaluate.condition))
    known = profile_of(evaluate.source, x, kind, ranks, key=key)
    acceptance = known.acceptance((type(method), type(stop), stop.tolerance, system.kind), N, stop.tolerance)
    return resting_window(acceptance, B) or AutoWindow(
        known, acceptance, method, B, x.nbytes, candidate_windows(N, B, x.nbytes, ranks)
    )


def resting_window(acceptance: AcceptanceModel, B: int) -> FixedWindow | None:
    """The steps of a call of B samples that is not asked, None where one is."""
    backoff = acceptance.backoffs.get(B)
    return backoff.controller if backoff and backoff.skips() else None
