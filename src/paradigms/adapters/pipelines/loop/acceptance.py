"""Which rows of a pipeline's window are settled: the core's criterion, on what the networks were shown.

A row is accepted when the criterion says so of its state, and when nothing else that its networks were shown has moved
by more than the state did: what a step computes of the state moves with it, and what moves by itself (a callback has
changed the prompt) must be evaluated anew. Where no state can be told, rows are accepted that are shown, bit for bit,
what was evaluated.

The criterion is shown what a round tells of growth, see `observed_growth.py`. Its estimate of the error
decides at the end whether a call is made again, see `repeat_doubtful.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ....execution.torch_modes import isolated_from_torch_modes
from ....methods.work import Memory, Update, WindowState
from ....stopping.base import AbstractStop
from ....stopping.final_error import FinalError
from ....stopping.rounding import finest_tolerance, unmoved_rounding
from ....system import System
from ....window.buffers import carry_over, shift_memory
from ...schedulers.linearized import LinearizedScheduler
from ..code.rewrite import UnparallelError
from ..networks.surrogate import common_part
from .observed_growth import GrowthEvidence, TakenSteps, coarse_rounding
from .step_record import WITH_STATE, StepRecord, answered_by_networks, moved_little, relative_change

if TYPE_CHECKING:
    from ..networks.surrogate import Surrogate


# Times the rounding of the network's, a state that is kept in half precision is rounded anew by each step. Chosen by
# hand.
KEPT = 8.0


class AcceptanceState(NamedTuple):
    """A row's state when it was evaluated and now, what the network made of it, and J (now - old); each (B, ...)."""

    old: Tensor
    new: Tensor
    D: Tensor
    shift: Tensor


class Acceptance(NamedTuple):
    """What a round showed the criterion, its memory before, and how many rows (B,) it would accept."""

    system: System
    work: WindowState
    sweep: Update
    memory: Memory
    good: Tensor


class AcceptanceTest:
    """Counts settled rows, with the memory of its criterion. rounding: the coarsest of what networks said or saw."""

    def __init__(self, stop: AbstractStop, course: LinearizedScheduler) -> None:
        self.stop, self.course = stop, course
        self.memory: Memory | None = None
        self.before: Memory | None = None  # as it was when single steps began
        self.judged: Acceptance | None = None
        self.evidence = GrowthEvidence()
        self.rounding = 0.0
        self.widths: set[int] = set()  # samples in a state

    def enter(self, window: int) -> None:
        """A window of so many rows begins."""
        self.window, self.seen = window, torch.zeros(window, dtype=torch.long)
        self.memory, self.before = None, self.before if self.memory is None else self.memory
        self.evidence, self.judged = GrowthEvidence(), None

    @property
    def estimate(self) -> float | None:
        """The largest relative error that accepted rows may have led to, None where nothing estimates it."""
        memory = self.before if self.memory is None else self.memory
        found = None if memory is None else self.stop.estimate(memory)
        return None if found is None else float(found.max())

    @property
    def finest(self) -> float:
        """The least tolerance that the states and what the networks say can hold."""
        return finest_tolerance(torch.float32, self.rounding)

    @isolated_from_torch_modes
    def __call__(
        self,
        begin: int,
        old: Mapping[int, StepRecord],
        new: Mapping[int, StepRecord],
        standins: Mapping[int, Surrogate],
        width: int,
    ) -> tuple[int, float]:
        """How many rows from `begin` may be accepted, and the largest change of an accepted state, RMS / std[n].

        old: the rows that ran to their end, as they were when they were evaluated; new: as they are now.
        """
        rows = range(begin, begin + len(old))
        states = [self.states(n, old[n], new[n], standins, width) for n in rows]
        self.widths |= {len(s.new) for s in states if s}
        if len(self.widths) > 1:
            raise UnparallelError("the number of its samples changes along its loop, so errors cannot be followed")
        moved = [relative_change(*s) if s else 0.0 for s in states]
        fine = [
            answered_by_networks(new[n]) or (s is not None and moved_little(old[n], new[n], WITH_STATE * v))
            for n, s, v in zip(rows, states, moved, strict=True)
        ]
        count = next((i for i, ok in enumerate(fine) if not ok), len(fine))
        self.judged = None
        if any(s is None for s in states):
            count = next((i for i, n in enumerate(rows) if not answered_by_networks(new[n])), len(fine))
        elif count:
            count = min(count, self.criterion(begin, states, [old[n] for n in rows], new[rows[-1]].after))  # type: ignore[arg-type]
        self.seen[: len(rows)] += 1
        known = [(s, n) for s, n in zip(states[:count], rows, strict=False) if s]
        changes = [state_change(s.old, s.new) / float(self.course.system.std[n]) for s, n in known]
        return count, max(changes, default=0.0)

    def states(
        self, n: int, old: StepRecord, new: StepRecord, standins: Mapping[int, Surrogate], width: int
    ) -> AcceptanceState | None:
        """The state of row n, None where none can be told."""
        for c, (a, b) in enumerate(zip(old.calls, new.calls, strict=False)):
            row = standins[c].rows.get(n)
            if row is not None and row.x is not None and row.m is not None and a.alike(b):
                where = (slice(0, width or None), *(slice(0, s) for s in row.x.shape[1:]))
                D, y = standins[c].denoised(n, row.x, row.m), common_part(b, row)
                assert a.x is not None and b.x is not None and D is not None and y is not None
                self.rounding = max(self.rounding, KEPT * coarse_rounding(a.x), coarse_rounding(row.leaves[row.main]))
                was, shift = a.x[where].float(), standins[c].shift(n, y - row.x)
                return AcceptanceState(was, b.x[where].float(), D[: len(was)], shift[: len(was)])
        return None

    def criterion(self, begin: int, states: list[AcceptanceState], old: list[StepRecord], now: Tensor | None) -> int:
        """What the core's criterion says of the window; now: the state after it."""
        W, R, x = self.window, len(states), states[0].old
        place = torch.arange(W)[:, None].expand(W, len(x))
        n = (begin + place).clamp(max=len(self.course) - 1).to(x.device)
        live, seen = place < R, self.seen[:, None].expand(W, len(x))
        system, was = self.course.system.to(x.device, torch.float32), old[-1].after
        whole = was is not None and now is not None and was.shape == now.shape == x.shape
        last = (was.to(x), now.to(x)) if whole else (states[-1].new,) * 2  # type: ignore[union-attr]
        shown = fill_rows([s.old for s in states] + [last[0]], W + 1)
        new = fill_rows([s.new for s in states] + [last[1]], W + 1)[1:]
        D, y = fill_rows([s.D for s in states], W), new.clone()
        work = WindowState(shown, D, None, n, live, torch.where(live, seen, 0), None, self.rounding)
        if self.course.known:
            shift = torch.stack([s.shift for s in states])[: R - 1]
            a, b = (v[n[: R - 1]].reshape(R - 1, len(x), *[1] * (x.ndim - 1)) for v in (system.a, system.b.sum(1)))
            moved = torch.stack([s.new - s.old for s in states])[: R - 1]
            y[: R - 1] = new[: R - 1] - a * moved - b * shift
            before, answer = self.evidence(begin, shown[:-1], D, old, TakenSteps(y[: R - 1], a, b))
            work.before, work.D = lambda: before, answer
        if isinstance(self.stop, FinalError):  # where states are kept in half precision, they move by rounding alone
            self.stop = replace(self.stop, early=max(self.stop.early, unmoved_rounding(work)))
        if self.memory is None:
            self.memory = self.stop.init(system, work)
            self.memory = self.memory if self.before is None else carry_over(self.memory, self.before)
        sweep, memory = Update(new, D, y, live), self.memory
        _, good, self.memory = self.stop.judge(system, work, sweep, memory)
        self.judged = Acceptance(system, work, sweep, memory, good.cpu())
        return int(good.min())

    @isolated_from_torch_modes
    def slide(self, count: int, window: int) -> None:
        """The window moves up by `count` rows, and has so many from now on."""
        if self.judged is not None and bool((self.judged.good != count).any()):  # fewer than a sample alone would have
            system, work, sweep, memory, good = self.judged
            accepted = replace(sweep, accepted=torch.full_like(good, count))
            self.memory = self.stop.judge(system, work, accepted, memory)[2]
        place, old = torch.arange(window) + count, self.window
        self.seen = torch.where(place < old, self.seen[place.clamp(max=old - 1)], 0)
        if self.memory is not None:
            self.memory = shift_memory(self.memory, [count], window - old)
        self.window = window


def fill_rows(rows: list[Tensor], W: int) -> Tensor:
    """Rows as one tensor (W, B, ...), the last repeated."""
    return torch.stack(rows + rows[-1:] * (W - len(rows)))


def state_change(old: Tensor, new: Tensor) -> float:
    """The largest RMS change of a sample."""
    return float((new - old).flatten(1).square().mean(1).sqrt().max())
