"""Rounds of a loop: the user's steps run on surrogates, the model answers all that they showed it as one batch.

    a round:  1. all that the model was shown by steps [begin, end), and has not answered, is one batch
              2. the steps run again, one after the other, on the better surrogates: no model in it
              3. those that the stopping rule calls finished are accepted
              4. steps up to begin + window follow, on guesses

A step that shows the model, bit for bit, what it has answered gets that answer, and the first of a window always does,
call by call: all are finished after at most one round a call. Random streams are put back to where they stood before a
step whenever it runs again.

Of a step that the model has not seen D is that of the step before, also where a step turns its state: a guess that was
turned along with the state took as many rounds of AlphaFold 3's loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...execution.evaluate import NonFiniteError
from ...methods.base import AbstractMethod
from ...stopping.base import AbstractStop
from ...system import System
from ...validate import refusal
from ...window.trace import FrameRecord
from ..policies.random_streams import RandomStreams
from .accept import Acceptance
from .batches import Batches
from .steps import State, Step, StepRun, packed, run_step
from .surrogate import Call, CallSurrogate


@dataclass(frozen=True)
class Loop:
    """What is sampled: a step, its state at first, the system next to it, and where it draws from."""

    step: Step
    system: System
    state: State
    plain: bool  # the state is one tensor
    generator: Any

    def streams(self) -> RandomStreams:
        """Where the random streams stand now."""
        return RandomStreams(self.state[0].device, self.generator)

    def sequential(self, batches: Batches) -> State:
        """The state after all steps, one by one."""
        state = self.state
        for n in range(len(self.system)):
            state = run_step(self.step, n, state, self.plain, lambda _, call: batches([call])[0])
        return state


class LoopWindow:
    """One pass through a loop in windows of so many steps; `records` is what is kept of its rounds."""

    def __init__(self, loop: Loop, batches: Batches, method: AbstractMethod, stop: AbstractStop, window: int) -> None:
        self.loop, self.batches, self.method, self.window = loop, batches, method, window
        self.system, self.B = loop.system, len(loop.state[0])
        self.accept = Acceptance(stop, loop.system, max(window, 2))
        self.surrogates: list[CallSurrogate] = []
        self.runs: dict[int, StepRun] = {}
        self.random: dict[int, RandomStreams] = {0: loop.streams()}
        self.records: list[FrameRecord] = []
        self.alone, self.asked = 0, batches.evaluations  # calls that had to be asked by themselves; rows before

    def run(self) -> State:
        """The state after all steps. Raises RuntimeError where they do not settle, a fault of this file."""
        N, begin, idle = len(self.system), 0, 0
        end = self.sweep(0, min(self.window, N))
        while begin < N:
            end = self.evaluate(begin, end)
            old = [self.runs[n] for n in range(begin, end)]
            self.sweep(begin, end)
            new = [self.runs[n] for n in range(begin, end)]
            y = [packed(self.again(n, was, n == begin)) for n, was in enumerate(old, begin)]
            count, residual = self.accept(begin, old, new, y)
            self.record(begin, count, end, residual, self.window)
            self.accept.slide(count)
            begin, idle = begin + count, 0 if count else idle + 1
            if idle > len(self.surrogates) + 1:
                raise RuntimeError("its steps do not settle; this is a fault of paradigms, please report it")
            self.forget(begin)
            end = self.sweep(end, min(begin + self.window, N)) if begin < N else end
        self.random[N].restore()
        return self.runs[N - 1].after

    def sweep(self, first: int, stop: int) -> int:
        """Runs steps [first, stop) on surrogates, on the states and random streams that are there."""
        if first < stop:
            self.random[first].restore()
        for n in range(first, stop):
            before = self.runs.get(n - 1)
            state, D = (self.loop.state, None) if before is None else (before.after, before.D)
            self.runs[n] = self.one(n, state, D)
            self.random[n + 1] = self.loop.streams()
        return max(first, stop)

    def one(self, n: int, state: State, D: Tensor | None) -> StepRun:
        """Step n from a state, its calls answered by surrogates; what none can answer the model is asked at once."""
        run = StepRun(state, D=D)

        def answer(c: int, call: Call) -> Tensor:
            while len(self.surrogates) <= c:
                self.surrogates.append(CallSurrogate(self.method, self.system))
            surrogate = self.surrogates[c]
            found = surrogate.answer(n, call, run.D)
            if found is None:
                found = self.ask(n, surrogate, call), True
            run.calls.append(call)
            run.own.append(found[1])
            D = surrogate.denoised(n, call, found[0])
            run.D = run.D if D is None else D
            return found[0]

        run.after = run_step(self.loop.step, n, state, self.loop.plain, answer)
        return run

    def ask(self, n: int, surrogate: CallSurrogate, call: Call) -> Tensor:
        """The model's answer to one call, in a round of its own."""
        (m,) = self.batches([call])
        check_finite(n, len(self.system), m)
        self.alone += 1
        surrogate.heard({n: (call, m)})
        self.record(n, 0, n + 1, m.new_zeros(self.B), 1)
        return m.clone()

    def evaluate(self, begin: int, end: int) -> int:
        """Asks the model what steps [begin, end) showed it; gives the end of those whose answers are finite."""
        todo = [(n, c) for n in range(begin, end) for c, own in enumerate(self.runs[n].own) if not own]
        said = self.batches([self.runs[n].calls[c] for n, c in todo])
        bad = min((n for (n, _), m in zip(todo, said, strict=True) if not bool(torch.isfinite(m).all())), default=end)
        if bad == begin:
            check_finite(bad, len(self.system), *[m for (n, _), m in zip(todo, said, strict=True) if n == bad])
        for c, surrogate in enumerate(self.surrogates):
            surrogate.heard(
                {n: (self.runs[n].calls[c], m) for (n, k), m in zip(todo, said, strict=True) if k == c and n < bad}
            )
        return bad

    def again(self, n: int, old: StepRun, first: bool) -> State:
        """Step n once more from the state that was evaluated, on the model's answers to it; of the first step that is
        what it was, else ValueError."""
        new = self.runs[n]
        if not first and all(map(torch.equal, old.before, new.before)):
            return new.after
        self.random[n].restore()
        found = self.one(n, old.before, old.D).after
        if first and not all(same_numbers(v, w) for v, w in zip(found, new.after, strict=True)):
            raise refusal(
                "step", f"one that gives another state when step {n} runs again",
                "a state of its arguments alone, and of what it draws from torch's, NumPy's or Python's random streams "
                "or from generator",
                "what it carries along as a part of its state: x = (x, carried)",
            )  # fmt: skip
        return found

    def record(self, begin: int, count: int, end: int, residual: Tensor, window: int) -> None:
        """Keeps a round."""
        B, asked = self.B, self.batches.evaluations - self.asked
        self.records.append(FrameRecord([begin] * B, [count] * B, residual.tolist(), end, asked, window, 0))

    def forget(self, begin: int) -> None:
        """Drops what is known of finished steps."""
        for n in [n for n in self.runs if n < begin - 1]:
            del self.runs[n]
        for n in [n for n in self.random if n < begin]:
            del self.random[n]
        for surrogate in self.surrogates:
            surrogate.forget(begin)


def same_numbers(v: Tensor, w: Tensor) -> bool:
    """Whether two tensors are equal, NaN to NaN."""
    return torch.equal(v.nan_to_num(), w.nan_to_num())


def check_finite(n: int, N: int, *answers: Tensor) -> None:
    """Raises NonFiniteError for an answer of step n that is not finite."""
    if not all(bool(torch.isfinite(m).all()) for m in answers):
        raise NonFiniteError(
            f"model: its output is not finite at step {n} of {N}; check the weights, or run it in float32 or bfloat16"
        )
