"""How many steps of a loop's window are finished, by the core's stopping rule.

    y[n]  = step n from the old state x[n], the model's own answers to it
    dD[n] = (y - y_before - a dX) / b,    dX = x - x_before        over the two last times that a row was evaluated

so that a dX + b dD is what the step itself made of a change. Where a step turns the state, dD holds that turn, too. A
step may also show the model what is not its state (a state half corrected, its last answer): a row whose other inputs
moved by more than `WITH_STATE` times what its state did is not finished.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...methods.work import Memory, Update, WindowState
from ...stopping.base import AbstractStop
from ...stopping.rounding import finest_tolerance
from ...system import System
from ...window.buffers import carry_over, shift_memory
from .steps import StepRun, moved_calls, packed, relative_change

# How much more, relatively, than its state a row's other inputs may move, as for pipelines. Chosen by hand.
WITH_STATE = 3.0
# The least b: a step that hardly depends on the answer says nothing of it. Chosen by hand.
LEAST = 1e-6
# What an input may move by and count as unmoved, in units in the last place of float32. Chosen by hand.
ULPS = 4.0


class Acceptance:
    """Counts the finished steps of a window, with the memory of the stopping rule."""

    window: int
    seen: Tensor

    def __init__(self, stop: AbstractStop, system: System) -> None:
        self.stop, self.system = stop, system
        self.memory: Memory | None = None
        self.whole: Memory | None = None  # of an earlier window: what it knows of the whole sample
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # the state of a row, and the step from there
        self.judged: tuple[WindowState, Update, Memory] | None = None
        self.rounding = 0.0

    @property
    def estimate(self) -> Tensor | None:
        """The estimated error (B,), None where nothing estimates it."""
        memory = self.whole if self.memory is None else self.memory
        return None if memory is None else self.stop.estimate(memory)

    @property
    def finest(self) -> float:
        """The least tolerance that the states and the model's answers can hold."""
        return finest_tolerance(torch.float32, self.rounding)

    def __call__(self, begin: int, old: list[StepRun], new: list[StepRun], y: list[Tensor]) -> tuple[int, Tensor]:
        """How many rows from `begin` are finished, and the residual (B,) of those; y: of each row, packed."""
        own = next((i for i, run in enumerate(new) if not all(run.own)), len(new))
        fine = next((i for i, runs in enumerate(zip(old, new, strict=True)) if not self.little(*runs)), len(new))
        work, update = self.shown(begin, old, new, y)
        if self.memory is None:
            fresh = self.stop.init(self.system, work)
            self.memory = fresh if self.whole is None else carry_over(fresh, self.whole)
        before = self.memory
        _, good, self.memory = self.stop.judge(self.system, work, update, before)
        self.judged = work, update, before
        count = max(own, min(int(good.min()), fine))
        off = (update.x - update.y)[:count].flatten(2).square().mean(2).sqrt()  # (count, B)
        off = off / self.system.std[work.n[:count]].to(off)
        self.seen[: len(new)] += 1
        return count, off.amax(0) if count else off.new_zeros(off.shape[1])

    def little(self, old: StepRun, new: StepRun) -> bool:
        """Whether all that a row showed the model moved no more than its state, or too little to matter."""
        unmoved = max(self.stop.tolerance / len(self.system), ULPS * torch.finfo(torch.float32).eps)
        state = relative_change(packed(old.before), packed(new.before))
        return all(new.own) or moved_calls(old, new) <= max(WITH_STATE * state, unmoved)

    def shown(self, begin: int, old: list[StepRun], new: list[StepRun], y: list[Tensor]) -> tuple[WindowState, Update]:
        """The window as the rule is shown it."""
        W, R = self.window, len(new)
        x = [packed(run.before) for run in old] + [packed(old[-1].after)]
        B, N = len(x[0]), len(self.system)
        place = torch.arange(W)[:, None].expand(W, B)
        n, live = (begin + place).clamp(max=N - 1), place < R
        D = [estimate_of(run, state) for run, state in zip(old, x, strict=False)]
        was, answer = list(x[:R]), list(D)
        for w, (state, after) in enumerate(zip(x[:R], y, strict=True)):
            if (known := self.before.get(begin + w)) is not None and bool(self.seen[w]):
                dX, a, b = state - known[0], float(self.system.a[begin + w]), float(self.system.b[begin + w].sum())
                if abs(b) > LEAST:
                    was[w], answer[w] = known[0], D[w] - (after - known[1] - a * dX) / b
        self.before = {begin + w: (state, after) for w, (state, after) in enumerate(zip(x[:R], y, strict=True))}
        before = rows_of(was, W)
        work = WindowState(
            rows_of(x, W + 1), rows_of(answer, W), None, n.to(x[0].device), live,
            torch.where(live, self.seen[:, None].expand(W, B), 0), None, self.rounding, lambda: before, turned=True,
        )  # fmt: skip
        states = rows_of([packed(run.after) for run in new], W)
        return work, Update(states, rows_of(D, W), rows_of(y, W), live)

    def restart(self, window: int) -> None:
        """A new window of so many rows, after single steps."""
        self.window, self.seen, self.judged = window, torch.zeros(window, dtype=torch.long), None
        self.whole, self.memory, self.before = self.whole if self.memory is None else self.memory, None, {}

    def slide(self, count: int, window: int) -> None:
        """The window moves up by `count` rows, to so many; the rule is told of a count that is not its own."""
        if self.judged is not None and count:
            work, update, before = self.judged
            accepted = torch.full((update.x.shape[1],), count)
            self.memory = self.stop.judge(self.system, work, replace(update, accepted=accepted), before)[2]
        elif self.judged is not None:  # nothing was accepted, and nothing is spent
            self.memory = self.judged[2]
        if self.memory is not None:
            self.memory = shift_memory(self.memory, [count], window - self.window)
        place = torch.arange(window) + count
        self.seen = torch.where(place < self.window, self.seen[place.clamp(max=self.window - 1)], 0)
        self.window = window


def estimate_of(run: StepRun, state: Tensor) -> Tensor:
    """D in the form of a packed state: zeros beside it where a state has more, the state where D has another form."""
    if run.D is None or run.D.shape != run.before[0].shape:
        return packed(run.after)
    if run.D.shape == state.shape:
        return run.D.to(state)
    D = run.D.flatten(1).to(state)
    return torch.cat([D, D.new_zeros(len(D), state.shape[1] - D.shape[1])], 1)


def rows_of(rows: list[Tensor], W: int) -> Tensor:
    """Rows as one tensor (W, B, ...), the last repeated."""
    return torch.stack(rows + rows[-1:] * (W - len(rows)))
