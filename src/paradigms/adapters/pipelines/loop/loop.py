"""A pipeline's loop, run in windows: its own steps with predicted answers, one batch, and the loop rewound.

    a round:  all that the networks were shown in rows [begin, end) is evaluated as one batch
              the rows run again, on the better stand-ins: a sweep
              those whose inputs moved no more than the tolerance allows are accepted, begin moves up
              rows up to begin + window follow, on guesses

A row that is shown, bit for bit, what was evaluated gets the network's own answer, and the first row of a window always
is: all rows are accepted after at most one round a row. Where the answer to one call of a step
decides what the next is shown (a ControlNet's and then a U-Net's), a round evaluates them one after the other.

The user's callbacks are called once a row, in a run of the accepted rows of its own; what they change counts from there
on. The pipeline's progress bar moves as rows are accepted.

Where the window is one row, the pipeline's own step runs as it is: its networks answer it, nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..code.rewrite import UnparallelError
from ..state.snapshot import ChangedError
from .evaluate_rows import evaluate_rows
from .hooks import LoopHooks
from .repeat_doubtful import DoubtError, beyond_tolerance, describe_doubt, stricter_settings
from .row_modes import ACCEPT, AGAIN, ONCE_MORE, SWEEP, RowMode, UnrepeatableError
from .step_record import StepRecord


class WindowedLoop(LoopHooks):
    """One denoising loop: an iterator over its items that goes back."""

    def __iter__(self) -> Iterator[Any]:
        yield self.items[0]  # what it begins with decides about the window
        begun, first = True, len(self.run.windows)
        while self.begin < len(self.items):
            yield from self.step(begun) if self.window == 1 else self.slide(begun)
            begun = False
        self.network.looking(self.network.probe.finish, self.width)
        self.doubted(self.run.windows[first:])

    def doubted(self, windows: list[int]) -> None:
        """Reports the error that the loop may have, after rounds of such windows; raises DoubtError where that is
        beyond the tolerance and the call can be made again."""
        if max(windows) == 1:
            return
        finest, estimate = self.judge.finest, self.judge.estimate
        asked = beyond_tolerance(self.settings, estimate, finest)
        self.run.held(self.settings.asked, max(self.settings.asked, finest))
        if asked is not None and not self.called:
            raise DoubtError(
                stricter_settings(self.settings, asked, finest, len(windows), len(self.items), max(windows))
            )
        self.run.estimated(estimate, None if asked is None or estimate is None else describe_doubt(estimate, asked))

    def step(self, begun: bool) -> Iterator[Any]:
        """Rows run as they are, as many as the pace says; `begun`: the first has."""
        first, last = self.begin, min(self.begin + self.steps, len(self.items))
        for self.row in range(first, last):
            if self.row > first or not begun:
                yield self.items[self.row]
            self.before.clear()
            self.accepted(1, 1, 0.0)
        self.finite.check()
        self.pace.on_steps(first, last - first, self.network)  # type: ignore[union-attr]
        self.decide()

    def slide(self, begun: bool) -> Iterator[Any]:
        """Rounds of windows, until the pace says steps; `begun`: the first row of the first has run."""
        N, left, first = len(self.items), 4 * len(self.items) + 4, self.begin
        self.judge.enter(self.window)
        yield from self.play(first + begun, min(first + self.window, N))
        end = self.reached
        while self.window > 1 and self.begin < N:
            self.network.looking(self.network.probe.round, self.width)
            yield from self.again()
            end = yield from evaluate_rows(self, end)
            old = {n: self.visits[n] for n in range(self.begin, end)}
            yield from self.play(self.begin, end)
            end = self.reached
            ran = {n: old[n] for n in range(self.begin, end)}
            count, residual = self.judge(self.begin, ran, self.visits, self.standins, self.width)
            self.settings.dependent |= depends_on_row(old[self.begin], self.visits[self.begin])
            if self.callbacks:
                self.network.looking(self.network.probe.look, self.width)
                self.judged = dict(self.visits)
                yield from self.play(self.begin, self.begin + count, ACCEPT)
                count, end = self.reached - self.begin, self.reached
            row, window = self.begin, self.window
            self.accepted(count, window, residual)
            # rows whose answers are known already are not asked
            asked = min(len(old), self.network.evaluations - self.evaluations)
            self.pace.on_round(row, window, asked, count, self.network)  # type: ignore[union-attr]
            self.decide()
            self.accept(count)
            if self.window > 1:
                end = min(end, self.begin + self.window)
                yield from self.play(end, min(self.begin + self.window, N))
                end = max(end, self.reached)
            left -= 1
            if left == 0 or (self.begin == N and self.at != N):
                raise UnparallelError("its rows do not settle; this is a fault of paradigms, please report it")
        self.pause()

    def play(self, first: int, stop: int, mode: RowMode = SWEEP) -> Iterator[Any]:
        """Runs rows [first, stop), up to one that is left before its end; that is `reached`."""
        self.mode, self.renewed, self.heard = mode, False, False
        for self.row in range(first, stop):
            self.reached = self.row
            yield self.items[self.row]
            if self.halted:
                return
        self.reached = max(first, stop)

    def again(self) -> Iterator[Any]:
        """Runs the first row once more, on the same answers; raises UnparallelError where that makes a difference.

        What a row carries to the next is put back before it runs again. What was not found cannot be: it shows here,
        for by now the rows of a window have run since.
        """
        row, first = self.begin, self.visits[self.begin]
        if self.callbacks or not first.ended:  # where there are callbacks rows run again when they are accepted
            return
        left, self.judged = self.before[row + 1], {row: first}
        if changed := left.changed():  # by later rows, in place: what it held is not known
            raise ChangedError(changed)
        yield from self.play(row, row + 1, ONCE_MORE)
        second, self.visits[row] = self.visits[row], first
        shown = self.reached > row and len(first.calls) == len(second.calls)
        if not shown or left.differs(self.before[row + 1], not self.clocked):
            raise UnrepeatableError(AGAIN.format(row))

    def accept(self, count: int) -> None:
        """The window moves past the `count` rows just accepted: their bars move, what was kept of them is dropped."""
        self.judge.slide(count, max(self.window, 2))
        for n in range(self.begin - count, self.begin):
            for bar, ticks in self.visits[n].ticks:
                bar.move(ticks)
        self.forget_accepted()

    def accepted(self, count: int, window: int, residual: float) -> None:
        """Moves begin up by `count` rows, in a round of so many, and tells of it."""
        if self.bar is not None:
            for _ in range(count):
                self.bar.move(1)
        self.begin += count
        self.run.rounds += window == 1
        self.run.accepted.append(count)
        self.run.windows.append(window)
        self.run.residual = max(self.run.residual, residual)


def depends_on_row(old: StepRecord, new: StepRecord) -> set[int]:
    """The calls of a row, begun alike, that are shown something else: they depend on earlier answers."""
    both = enumerate(zip(old.calls, new.calls, strict=False))
    return {c for c, (a, b) in both if c and not a.equals(b)}
