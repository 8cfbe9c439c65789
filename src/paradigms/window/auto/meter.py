"""What a call's clock says, turned into what steps and rounds take, and into what windows gain or lose.

    | call | outside | call | outside | ...        the work of a round lies before the next call

So what a round does outside the model is known when the next call begins. Until then the usual time stands for it, is
`pending`, and the difference is spent, or saved, when it was measured.
"""

from __future__ import annotations

from collections import Counter

from ..controller import HasClock
from .budget import ExplorationBudget
from .first_call import ROWS, FirstCallLadder
from .forecast import Forecast

OTHERS = 3  # times the usual is the most that a measurement may cost: more is what else the machine did


class CallMeter:
    """The measurements of one call of B samples."""

    def __init__(self, forecast: Forecast, budget: ExplorationBudget, ladder: FirstCallLadder | None) -> None:
        self.forecast, self.budget, self.ladder = forecast, budget, ladder
        self.known, self.acceptance, self.sweep, self.B = (
            forecast.known,
            forecast.acceptance,
            forecast.sweep,
            forecast.B,
        )
        self.clock = (0.0, 0.0)  # seconds inside and outside the model when it was last read
        self.last = 0  # about how many rows the call before had
        self.pending = 0.0  # seconds of a round's work that was not timed yet
        self.rounds, self.widest = 0, 0  # of the windows since they were entered: how many, and the last one's rows
        self.decayed = False  # whether what calls before this one counted was partly forgotten
        self.used = Counter[int]()  # rows by window
        self.singles = [0, 0]  # rows stepped through before the first window and after

    def enter(self) -> None:
        """Windows begin."""
        self.rounds, self.widest, self.budget.loss = 0, 0, 0.0

    def elapsed(self, evaluate: HasClock) -> tuple[float, float]:
        """Seconds in the model and outside since it was last asked."""
        before, self.clock = self.clock, evaluate.clock.read()
        evaluate.clock.exact = self.known.cpu and self.ladder is not None
        return self.clock[0] - before[0], self.clock[1] - before[1]

    def steps(self, steps: int, evaluate: HasClock) -> None:
        """So many single steps were taken."""
        inside, outside = self.elapsed(evaluate)
        self.singles[self.rounds > 0] += steps
        first, self.last = self.last != self.B, self.B
        if self.ladder and steps == 1:
            self.ladder.record(inside, outside)
        self.known.model.record(self.B, inside / steps)
        gaps = steps - first  # before its first call is what a window, or nothing, left to do
        if first and self.rounds:
            usual = outside - gaps * self.known.step(self.B)
            self.budget.spend(bounded_seconds(usual, self.pending) - self.pending)
            self.report_loss()
        elif gaps:
            self.known.step.record(self.B, outside / gaps)

    def round(self, row: int, window: int, M: int, count: int, evaluate: HasClock, trusted: bool) -> None:
        """A round from `row` evaluated M rows of all samples; the slowest sample moved by `count`.

        trusted: its window is known well, and is looked at no closer, for that takes time.
        """
        inside, outside = self.elapsed(evaluate)
        if self.ladder and window <= self.acceptance.N - row:
            self.ladder.record(inside, outside)
        if trusted:
            self.charge(M, count, inside + outside)
        else:
            self.learn(row, window, M, count, (inside, outside))
        self.rounds, self.widest = self.rounds + 1, window
        self.used[window] += count

    def charge(self, M: int, count: int, seconds: float) -> None:
        """The budget pays for a round that tells nothing new."""
        before, self.pending = self.pending, self.pending or self.sweep(M)
        spent = bounded_seconds(seconds, self.known.model(M) + self.pending) + self.pending - before
        self.budget.spend(spent - count * (self.forecast.step or 0.0))
        self.last = 0

    def learn(self, row: int, window: int, M: int, count: int, seconds: tuple[float, float]) -> None:
        """A round that tells what rounds take, inside the model and outside, and how far they reach."""
        (inside, outside), step, rows = seconds, self.forecast.step or 0.0, min(window, self.acceptance.N - row)
        if self.rounds:  # what lies between two calls is the work of the round before
            self.sweep.record(self.last, outside)
        if (window == rows and rows * self.B <= M) or max(self.known.model.seen, default=0) < M:
            self.known.model.record(M, inside)  # the last rows of a chain are of every number, and tell little
        self.last = self.forecast.nearest(M)
        self.forecast.points = max(self.forecast.points, M / (rows * self.B))
        before, self.pending = self.pending, self.sweep(M)
        if self.rounds:
            found = bounded_seconds(outside, before) - before
        else:
            found = bounded_seconds(outside or self.pending, self.pending)
        self.budget.spend(found + bounded_seconds(inside, self.known.model(M)) + self.pending - count * step)
        if not self.decayed:
            self.decayed = True
            self.acceptance.decay()
        if window <= self.widest:  # in a wider one than before most rows are looked at for the first time
            self.acceptance.record(row, max(1 - count / (rows - 0.5), 0.0), count, rows)

    def why_stepped(self) -> str | None:
        """Why rows were stepped through one by one, None where none was."""
        before, after = self.singles
        if not before + after:
            return None
        if not self.forecast.step or (self.ladder and before <= ROWS and not after):
            return f"{before} rows were timed first"
        if 2 * sum(self.used.values()) > self.acceptance.N:
            return f"{before} rows before the first window and {after} after are expected to be faster one by one"
        return (self.ladder and self.ladder.why) or self.forecast.why()

    def report_loss(self) -> None:
        """Windows are over; what those of a ladder lost was there to find out."""
        self.acceptance.record_loss(0.0 if self.ladder else self.budget.loss)


def bounded_seconds(seconds: float, usual: float) -> float:
    """A time without what else the machine did meanwhile, as far as one can know."""
    return min(max(seconds, 0.0), OTHERS * usual)
