"""The runs of a loop's steps: on surrogates, on the model's answers, and once more from the state that was evaluated.

x[n+1] = step(x[n], S, n)        S: the model's own answer where it was shown the same, bit for bit, else a surrogate's
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...execution.evaluate import NonFiniteError
from ...methods.base import AbstractMethod
from ...system import System
from ...validate import refusal
from ...window.trace import FrameRecord
from ..policies.random_streams import RandomStreams
from .batches import Batches
from .steps import State, Step, StepRun, run_step
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


class LoopRuns:
    """The last run of each step that is not finished, and what answers its calls; `records`: what is kept of rounds."""

    def __init__(self, loop: Loop, batches: Batches, method: AbstractMethod) -> None:
        self.loop, self.batches, self.method = loop, batches, method
        self.system, self.B = loop.system, len(loop.state[0])
        self.surrogates: list[CallSurrogate] = []
        self.runs: dict[int, StepRun] = {}
        self.random: dict[int, RandomStreams] = {0: loop.streams()}
        self.records: list[FrameRecord] = []
        self.alone, self.asked = 0, batches.evaluations  # calls that had to be asked by themselves; rows before

    def of(self, begin: int, end: int) -> list[StepRun]:
        """Those of steps [begin, end)."""
        return [self.runs[n] for n in range(begin, end)]

    def before(self, n: int) -> tuple[State, Tensor | None]:
        """The state before step n, and D of the last answer."""
        run = self.runs.get(n - 1)
        return (self.loop.state, None) if run is None else (run.after, run.D)

    def sweep(self, first: int, stop: int) -> int:
        """Runs steps [first, stop) on surrogates, on the states and random streams that are there."""
        if first < stop:
            self.random[first].restore()
        for n in range(first, stop):
            self.runs[n] = self.one(n, *self.before(n))
            self.random[n + 1] = self.loop.streams()
        return max(first, stop)

    def stepped(self, begin: int, count: int) -> int:
        """Makes so many steps one by one; how many."""
        batches, residual = self.batches.batches, self.loop.state[0].new_zeros(self.B)
        self.random[begin].restore()
        for n in range(begin, begin + count):
            state, D = self.before(n)
            self.runs[n] = self.one(n, state, D, alone=True)
        self.random[begin + count] = self.loop.streams()
        self.record(begin, count, begin + count, residual, 1, self.batches.batches - batches)
        return count

    def one(self, n: int, state: State, D: Tensor | None, alone: bool = False) -> StepRun:
        """Step n from a state, its calls answered by surrogates; what none can answer the model is asked at once, and
        all where it is made alone."""
        run = StepRun(state, D=D)

        def answer(c: int, call: Call) -> Tensor:
            while len(self.surrogates) <= c:
                self.surrogates.append(CallSurrogate(self.method, self.system))
            surrogate = self.surrogates[c]
            found = None if alone else surrogate.answer(n, call, run.D)
            if found is None:
                found = self.ask(n, surrogate, call), True
                if not alone:
                    self.alone += 1
                    self.record(n, 0, n + 1, found[0].new_zeros(self.B), 1)
            run.calls.append(call)
            run.own.append(found[1])
            D = surrogate.denoised(n, call, found[0])
            run.D = run.D if D is None else D
            return found[0]

        run.after = run_step(self.loop.step, n, state, self.loop.plain, answer)
        return run

    def ask(self, n: int, surrogate: CallSurrogate, call: Call) -> Tensor:
        """The model's answer to one call."""
        (m,) = self.batches([call])
        check_finite(n, len(self.system), m)
        surrogate.heard({n: (call, m)})
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

    def record(self, begin: int, count: int, end: int, residual: Tensor, window: int, single: int = 0) -> None:
        """Keeps a round, or single calls."""
        B, asked = self.B, self.batches.evaluations - self.asked
        self.records.append(FrameRecord([begin] * B, [count] * B, residual.tolist(), end, asked, window, single))

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
