"""Which rows of a pipeline's window are settled: the core's criterion, on what the networks were shown.

A row is accepted when the criterion says so of its state, and when nothing else that its networks were shown has moved
by more than the state did: what a step computes of the state moves with it, and what moves by itself (a callback has
changed the prompt) must be evaluated anew. Where no state can be told, rows are accepted that are shown, bit for bit,
what was evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...method import Memory, Sweep, Work
from ...slide import kept, remember
from ...stop import AbstractStop
from .call import Call, same
from .course import Course

if TYPE_CHECKING:
    from .report import Bar
    from .standin import StandIn

WITH_STATE = 3.0  # how much more, relatively, than its state a row's other inputs may move


@dataclass
class Visit:
    """What a row did when it last ran: its calls, their answers, which of them the network's own, bars moved.

    after: the state that it left.
    """

    calls: list[Call] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    ticks: list[tuple[Bar, float]] = field(default_factory=list)
    after: Tensor | None = None


class Judge:
    """Counts settled rows, with the memory of its criterion."""

    def __init__(self, stop: AbstractStop, course: Course) -> None:
        self.stop, self.course = stop, course
        self.memory: Memory | None = None
        self.before: Memory | None = None  # as it was when single steps began

    def enter(self, window: int) -> None:
        """A window of so many rows begins."""
        self.window, self.seen = window, torch.zeros(window, dtype=torch.long)
        self.memory, self.before = None, self.before if self.memory is None else self.memory

    def __call__(
        self,
        begin: int,
        end: int,
        old: Mapping[int, Visit],
        new: Mapping[int, Visit],
        standins: Mapping[int, StandIn],
        width: int,
    ) -> tuple[int, float]:
        """How many rows from `begin` may be accepted, and the largest change of an accepted state, RMS / std[n]."""
        rows = range(begin, end)
        states = [self.states(n, old[n], new[n], standins, width) for n in rows]
        moved = [relative(*s) if s else 0.0 for s in states]
        fine = [
            exact(new[n]) or (s is not None and alike(old[n], new[n], WITH_STATE * v))
            for n, s, v in zip(rows, states, moved, strict=True)
        ]
        count = next((i for i, ok in enumerate(fine) if not ok), len(fine))
        if any(s is None for s in states) or self.stop.tolerance == 0:
            count = next((i for i, n in enumerate(rows) if not exact(new[n])), len(fine))
        elif count:
            count = min(count, self.criterion(begin, end, states, old[end - 1].after, new[end - 1].after))  # type: ignore[arg-type]
        self.seen[: len(rows)] += 1
        known = [(s, n) for s, n in zip(states[:count], rows, strict=False) if s]
        changes = [change(s[0], s[1]) / float(self.course.system.std[n]) for s, n in known]
        return count, max(changes, default=0.0)

    def states(
        self, n: int, old: Visit, new: Visit, standins: Mapping[int, StandIn], width: int
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """The state of row n as it was evaluated and as it is now, and what the network makes of it; (B, ...) each."""
        for c, (a, b) in enumerate(zip(old.calls, new.calls, strict=False)):
            row = standins[c].rows.get(n)
            if row is not None and row.x is not None and row.m is not None and a.alike(b):
                where = (slice(0, width or None), *(slice(0, s) for s in row.x.shape[1:]))
                D = standins[c].denoised(n, row.x, row.m)
                assert a.x is not None and b.x is not None and D is not None
                return a.x[where].float(), b.x[where].float(), D[: len(a.x[where])]
        return None

    def criterion(
        self, begin: int, end: int, states: list[tuple[Tensor, Tensor, Tensor]], was: Tensor | None, now: Tensor | None
    ) -> int:
        """What the core's criterion says of the window."""
        W, R, x = self.window, end - begin, states[0][0]
        old, new = [s[0] for s in states], [s[1] for s in states]
        whole = was is not None and now is not None and was.shape == now.shape == x.shape
        old.append(was.to(x) if whole else new[-1])  # type: ignore[union-attr]
        new.append(now.to(x) if whole else new[-1])  # type: ignore[union-attr]
        old, new = ([*v, *[v[-1]] * (W - R)] for v in (old, new))
        place = torch.arange(W)[:, None].expand(W, len(x))
        n = (begin + place).clamp(max=len(self.course) - 1).to(x.device)
        live, seen = place < R, self.seen[:, None].expand(W, len(x))
        work = Work(torch.stack(old), x.new_zeros(0), None, n, live, torch.where(live, seen, 0))
        D = states[0][2][None].expand(W, *x.shape)
        system = self.course.system.to(x.device, torch.float32)
        if self.memory is None:
            self.memory = self.stop.init(system, work)
            self.memory = self.memory if self.before is None else kept(self.memory, self.before)
        sweep = Sweep(torch.stack(new)[1:], D, torch.stack(new)[1:], live)
        _, good, self.memory = self.stop.judge(system, work, sweep, self.memory)
        return int(good.min())

    def slide(self, count: int, window: int) -> None:
        """The window moves up by `count` rows, and has so many from now on."""
        place, old = torch.arange(window) + count, self.window
        self.seen = torch.where(place < old, self.seen[place.clamp(max=old - 1)], 0)
        if self.memory is not None:
            self.memory = remember(self.memory, torch.tensor([count]), window - old)
        self.window = window


def exact(visit: Visit) -> bool:
    """Whether a row was answered by nothing but the networks themselves."""
    return all(visit.own)


def alike(old: Visit, new: Visit, most: float) -> bool:
    """Whether all that a row showed its networks moved by at most `most`, relatively, since it was evaluated."""
    if len(old.calls) != len(new.calls) or not all(a.alike(b) for a, b in zip(old.calls, new.calls, strict=True)):
        return False
    for a, b in zip(old.calls, new.calls, strict=True):
        for v, w in zip(a.leaves, b.leaves, strict=True):
            if not same(v, w) and not (isinstance(v, Tensor) and relative(v, w) <= most):
                return False
    return True


def change(old: Tensor, new: Tensor) -> float:
    """The largest RMS change of a sample."""
    return float((new - old).flatten(1).square().mean(1).sqrt().max())


def relative(old: Tensor, new: Tensor, *_: Tensor) -> float:
    """|new - old| / |new|."""
    old, new = old.float(), new.float()
    return float((new - old).norm() / new.norm().clamp(min=1e-30))
