"""Rounds of a loop: the user's steps run on surrogates, the model answers all that they showed it as one batch.

    a round:  1. all that the model was shown by steps [begin, end), and has not answered, is one batch
              2. the steps run again, one after the other, on the better surrogates: no model in it
              3. those that the stopping rule calls finished are accepted
              4. steps up to begin + window follow, on guesses

How many steps a window has, the controller says before each round; where it says one, steps are made one by one, and
the model answers each call itself.

A step that shows the model, bit for bit, what it has answered gets that answer, and the first of a window always does,
call by call: all are finished after at most one round a call. Random streams are put back to where they stood before a
step whenever it runs again.

Of a step that the model has not seen D is that of the step before, also where a step turns its state: a guess that was
turned along with the state took as many rounds of AlphaFold 3's loop.
"""

from __future__ import annotations

from ...methods.base import AbstractMethod
from ...stopping.base import AbstractStop
from ...window.controller import WindowController
from .accept import Acceptance
from .batches import Batches
from .runs import Loop, LoopRuns
from .steps import State, packed


class LoopWindow:
    """One pass through a loop, in windows as a controller says."""

    def __init__(
        self, loop: Loop, batches: Batches, method: AbstractMethod, stop: AbstractStop, controller: WindowController
    ) -> None:
        self.runs, self.batches, self.controller = LoopRuns(loop, batches, method), batches, controller
        self.accept, self.N = Acceptance(stop, loop.system), len(loop.system)
        self.told = batches.evaluations  # as the controller was last told

    def run(self) -> State:
        """The state after all steps. Raises RuntimeError where they do not settle, a fault of this file."""
        runs, N, begin, end, idle = self.runs, self.N, 0, 0, 0
        window, steps = self.controller.next(0)
        self.accept.restart(max(window, 2))
        while begin < N:
            if window == 1:
                count = runs.stepped(begin, min(steps, N - begin))
                end = begin + count
                self.controller.on_steps(begin, count, self.batches)
            else:
                first = min(max(begin, end), begin + window)  # from where on nothing was guessed
                end = runs.evaluate(begin, runs.sweep(first, min(begin + window, N)))
                asked = self.batches.evaluations - self.told
                count = self.round(begin, end, window)
                self.controller.on_round(begin, window, asked, count, self.batches)
            self.told, begin, idle = self.batches.evaluations, begin + count, 0 if count else idle + 1
            if idle > len(runs.surrogates) + 1:
                raise RuntimeError("its steps do not settle; this is a fault of paradigms, please report it")
            runs.forget(begin)
            last, (window, steps) = window, self.controller.next(begin) if begin < N else (window, steps)
            if last > 1:
                self.accept.slide(count, max(window, 2))
            elif window > 1:
                self.accept.restart(window)
        runs.random[N].restore()
        return runs.runs[N - 1].after

    def round(self, begin: int, end: int, window: int) -> int:
        """What follows on the answers to steps [begin, end): how many of them are finished."""
        runs, old = self.runs, self.runs.of(begin, end)
        runs.sweep(begin, end)
        new = runs.of(begin, end)
        y = [packed(runs.again(n, was, n == begin)) for n, was in enumerate(old, begin)]
        count, residual = self.accept(begin, old, new, y)
        runs.record(begin, count, end, residual, window)
        return count
