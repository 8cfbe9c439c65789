"""A denoising loop run in windows: the pipeline's own steps, its networks answered by stand-ins, then rewound.

    a round:  all that the networks were shown in rows [begin, end) is evaluated as one batch
              the rows run again, on the better stand-ins: a sweep
              those whose inputs moved no more than the tolerance allows are accepted, begin moves up
              rows up to begin + window follow, on guesses

A row that is shown, bit for bit, what was evaluated gets the network's own answer, and the first row of a window always
is: at tolerance 0 all rows are accepted so, after at most one round a row. Where the answer to one call of a step
decides what the next is shown (a ControlNet's and then a U-Net's), a round evaluates them one after the other.

The user's callbacks are called once a row, in a run of the accepted rows of its own; what they change counts from there
on. The pipeline's progress bar moves as rows are accepted.

Where the window is one row, the pipeline's own step runs as it is: its networks answer it, nothing is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...auto import GRID, Auto
from ...experience import experience
from ...pace import AbstractPace, Fixed
from .call import Call
from .course import Course, course
from .judge import Judge, Visit
from .network import Network, compiled
from .report import Bar, Run, Settings
from .rewrite import CALLBACKS, UnparallelError
from .snapshot import Fields, Snapshot, snapshot
from .standin import StandIn, copied, known

PAD = 32  # rows of a batch of compiled networks, which want one size
VISITS = (2e-3, 1.5e-3)  # seconds of a round outside of the networks, and more for each row, until measured


class Halt(BaseException):
    """Leaves a row before its end; no `except Exception` of a pipeline stops it."""


class Loop:
    """One denoising loop: an iterator over its items that goes back, and the hooks that the rewritten code calls."""

    Halt = Halt
    passes_by = True  # no part of what a snapshot keeps

    def __init__(
        self, settings: Settings, run: Run, network: Network, pipe: Any, items: Any, scheduler: Any, state: str | None
    ) -> None:
        self.bar = items if isinstance(items, Bar) else None
        self.items = list(items)
        self.settings, self.run, self.network, self.state = settings, run, network, state
        self.pipe, self.times = pipe, [_time(item, scheduler) for item in self.items]
        self.scheduler = copied_or_none(scheduler)
        self.pace: AbstractPace | None = None
        self.window, self.steps, self.stepping = 1, 1, False
        self.standins: dict[int, StandIn] = {}  # by the place of a call in its step
        self.before: dict[int, Snapshot] = {}
        self.visits: dict[int, Visit] = {}
        self.judged: dict[int, Visit] = {}
        self.dependent = settings.dependent  # calls that are shown what earlier calls of their step said
        self.mode, self.row, self.at, self.begin, self.reached = "step", 0, 0, 0, 0
        self.inside = self.halted = self.callbacks = False
        self.fields: dict[int, Fields] = {}  # of the networks, as a callback found them
        self.renewed = False  # a callback changed a network
        self.width = 0  # samples in the state

    # ------------------------------------------------------------------ hooks of the rewritten code

    def enter(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The beginning of a row; gives the locals to be set, where the loop went back."""
        if self.pace is None:
            ranks = self.network.team.size if self.network.team else 1
            self.pace = paced(self.settings, self.pipe, self.stepped(values), self.times, ranks)
            self.decide()
        if self.mode == "step":
            self.stepping = True
            return self.before[self.row].restore() if self.row in self.before and self.at != self.row else {}
        self.inside, self.halted, self.visits[self.row] = True, False, Visit()
        self.run.visits += 1
        if self.row not in self.before:
            self.callbacks = any(values.get(name) is not None for name in CALLBACKS)
            self.before[self.row] = snapshot(values, None)  # of the first row all tensors are copied
            state = self.stepped(values)
            self.width = len(state) if state is not None and state.ndim else 0
        elif self.at != self.row:
            return self.before[self.row].restore()
        return {}

    def go(self) -> None:
        """The body of the row follows."""

    def leave(self, values: Mapping[str, Any]) -> None:
        """The end of a row, or of what ran of it."""
        if self.mode == "step":
            self.stepping, self.at = False, self.row + 1
            return
        self.inside, self.at = False, -1
        if self.halted:
            return
        self.settings.copied |= self.before[self.row].changed(all=True)
        # where callbacks are called all tensors are copied, for a call that begins anew would call them again
        self.before[self.row + 1] = snapshot(values, None if self.callbacks else self.settings.copied)
        self.visits[self.row].after = self.stepped(values)
        self.at = self.row + 1

    def stepped(self, values: Mapping[str, Any]) -> Tensor | None:
        """What the scheduler steps, among the locals."""
        name, _, field = (self.state or "").partition(".")
        state = getattr(values.get(name), field, None) if field else values.get(name)
        return state if isinstance(state, Tensor) else None

    def callback(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a user's callback where the row is accepted; answers of a network that it changes are forgotten."""
        if self.mode == "step":
            self.stepping = False
            try:
                return function(*args, **kwargs)
            finally:
                self.stepping = True
        if self.mode != "accept":
            return {}
        asked = {id(c.network): c.network for visit in self.judged.values() for c in visit.calls}
        self.fields = {k: f if (f := self.fields.get(k)) and f.same() else Fields(m) for k, m in asked.items()}
        self.inside = False  # what a callback asks or sets is no part of the step
        try:
            return function(*args, **kwargs)
        finally:
            self.inside = True
            if not all(f.same() for f in self.fields.values()):
                self.standins.clear()
                self.renewed = True

    def tick(self, bar: Bar, n: float) -> None:
        """The pipeline moves a progress bar."""
        self.visits[self.row].ticks.append((bar, n))

    def call(self, network: nn.Module, real: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A network is called within a row."""
        visit, n = self.visits[self.row], self.row
        if torch.is_grad_enabled() and any(
            isinstance(v, Tensor) and v.requires_grad for v in (*args, *kwargs.values())
        ):
            raise UnparallelError("a step takes gradients of what its networks say")
        call, c = Call.of(network, real, args, kwargs), len(visit.calls)
        if self.mode == "accept":
            judged = self.judged[n]
            if self.renewed or c >= len(judged.calls) or not judged.calls[c].equals(call):
                self.halt()
            answer, own = judged.answers[c], judged.own[c]
        else:
            standin = self.standins.setdefault(c, StandIn(self.settings.method, self.course))
            try:
                answer, own = standin.answer(n, call)
            except LookupError:
                if n != self.begin:
                    self.halt()
                standin.heard({n: known(call, self.first(call))})
                answer, own = standin.answer(n, call)
        visit.calls.append(call)
        visit.answers.append(answer)
        visit.own.append(own)
        if self.mode == "ask" and c + 1 == self.asked:
            self.halt()
        return copied(answer)

    def first(self, call: Call) -> Any:
        """What a network says that has nothing to go by yet; raises UnparallelError where it keeps what it saw."""
        self.run.rounds += not self.visits[self.row].calls  # a step's own calls are one round
        kept = snapshot({"processors": list(getattr(call.network, "attn_processors", {}).values())}, set())
        self.inside = False
        (said,) = self.network([call], self.width)
        self.inside = True
        if changed := kept.touched():
            raise UnparallelError(f"{type(call.network).__name__} keeps what it saw, in {changed}, for a later use")
        return said

    def halt(self) -> None:
        """Leaves the row."""
        self.halted = True
        raise Halt

    # ------------------------------------------------------------------ the rounds

    @cached_property
    def course(self) -> Course:
        """What the scheduler's steps are like, told when there is a window."""
        return course(self.scheduler, self.times)

    @cached_property
    def judge(self) -> Judge:
        """Counts settled rows."""
        return Judge(self.settings.stop, self.course)

    def decide(self) -> None:
        """Asks for the next window; the row that has begun, or begins next, is of it."""
        assert self.pace is not None
        left = len(self.items) - self.begin
        window, self.steps = self.pace.next(self.begin) if left else (1, 1)
        self.window = min(window, len(self.items))
        self.mode = "step" if self.window == 1 else "sweep"

    def __iter__(self) -> Iterator[Any]:
        yield self.items[0]  # what it begins with decides about the window
        begun = True
        while self.begin < len(self.items):
            yield from self.step(begun) if self.window == 1 else self.slide(begun)
            begun = False

    def step(self, begun: bool) -> Iterator[Any]:
        """Rows run as they are, as many as the pace says; `begun`: the first has."""
        first, last = self.begin, min(self.begin + self.steps, len(self.items))
        for self.row in range(first, last):
            if self.row > first or not begun:
                yield self.items[self.row]
            self.before.clear()
            self.accepted(1, 1, 0.0)
        self.pace.stepped(first, last - first, self.network)  # type: ignore[union-attr]
        self.decide()

    def slide(self, begun: bool) -> Iterator[Any]:
        """Rounds of windows, until the pace says steps; `begun`: the first row of the first has run."""
        N, left, first = len(self.items), 4 * len(self.items) + 4, self.begin
        self.judge.enter(self.window)
        yield from self.play(first + begun, min(first + self.window, N))
        end = self.reached
        while self.window > 1 and self.begin < N:
            yield from self.evaluate(end)
            old = {n: self.visits[n] for n in range(self.begin, end)}
            yield from self.play(self.begin, end)
            end, asked = self.reached, len(old)
            count, residual = self.judge(self.begin, end, old, self.visits, self.standins, self.width)
            self.settings.dependent |= dependent(old[self.begin], self.visits[self.begin])
            if self.callbacks:
                self.judged = dict(self.visits)
                yield from self.play(self.begin, self.begin + count, "accept")
                count, end = self.reached - self.begin, self.reached
            row, window = self.begin, self.window
            self.accepted(count, window, residual)
            self.pace.saw(row, window, asked, count, self.network)  # type: ignore[union-attr]
            self.decide()
            self.accept(count)
            if self.window > 1:
                end = min(end, self.begin + self.window)
                yield from self.play(end, min(self.begin + self.window, N))
                end = max(end, self.reached)
            left -= 1
            if left == 0 or (self.begin == N and self.at != N):
                raise UnparallelError("its rows do not settle; this is a fault of paradigms, please report it")
        self.visits.clear()
        for standin in self.standins.values():
            standin.pause()

    def play(self, first: int, stop: int, mode: str = "sweep") -> Iterator[Any]:
        """Runs rows [first, stop), up to one that is left before its end; that is `reached`."""
        self.mode, self.renewed = mode, False
        for self.row in range(first, stop):
            self.reached = self.row
            yield self.items[self.row]
            if self.halted:
                return
        self.reached = max(first, stop)

    def evaluate(self, end: int) -> Iterator[Any]:
        """Asks the networks what rows [begin, end) showed them; one batch, or one after each dependent call."""
        rows = range(self.begin, end)
        self.run.rounds += any(not all(self.visits[n].own) for n in rows)
        for stage, stop in enumerate([*sorted(self.dependent), 1 << 30]):
            if stage:  # what earlier calls of the step have said by now decides what the others are shown
                self.mode = "ask"
                for self.row in rows:
                    self.asked, self.at = len(self.visits[self.row].calls), -1
                    if self.asked > sorted(self.dependent)[stage - 1]:
                        yield self.items[self.row]
            todo = [(n, c) for n in rows for c, own in enumerate(self.visits[n].own) if not own and c < stop]
            calls = [self.visits[n].calls[c] for n, c in todo]
            if not all(call.intact() for call in calls):
                raise UnparallelError("a step changes, in place, what it has shown a network")
            said = self.network(calls, self.width) if calls else []
            for c in {c for _, c in todo}:
                found = {n: known(call, m) for (n, k), call, m in zip(todo, calls, said, strict=True) if k == c}
                self.standins[c].heard(found)
                for n in found:
                    self.visits[n].own[c] = True

    def accept(self, count: int) -> None:
        """Forgets `count` rows that were accepted."""
        self.judge.slide(count, max(self.window, 2))
        for n in range(self.begin - count, self.begin):
            for bar, ticks in self.visits[n].ticks:
                bar.move(ticks)
        for kept in (self.before, self.visits, self.judged):
            for n in [n for n in kept if n < self.begin]:
                del kept[n]
        for standin in self.standins.values():
            standin.forget(self.begin)

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


def dependent(old: Visit, new: Visit) -> set[int]:
    """The calls of a row whose own beginning is the same that are shown something else: they heed earlier answers."""
    both = enumerate(zip(old.calls, new.calls, strict=False))
    return {c for c, (a, b) in both if c and not a.equals(b)}


def _time(item: Any, scheduler: Any) -> Any:
    """The time of a loop's item: (i, t), t, or a place among the scheduler's timesteps."""
    t = item[-1] if isinstance(item, tuple) else item
    return scheduler.timesteps[t] if isinstance(t, int) and hasattr(scheduler, "timesteps") else t


def copied_or_none(scheduler: Any) -> Any:
    """A scheduler as it is now, None where it cannot be copied."""
    try:
        return copy.deepcopy(scheduler)
    except Exception:  # whatever it holds
        return None


def paced(settings: Settings, pipe: Any, state: Tensor | None, times: list[Any], ranks: int) -> AbstractPace:
    """The pace of a loop over a pipeline's `times`; rows that are no batch are stepped through."""
    if isinstance(settings.window, int):
        return Fixed(settings.window)
    if settings.stop.tolerance == 0 or not settings.batched:
        return Fixed(1)
    x = torch.zeros(1, 1) if state is None or not state.ndim else state
    known = experience(pipe, x, x.dtype, ranks=ranks, sweep=VISITS)
    chain = (type(pipe.scheduler).__name__ if hasattr(pipe, "scheduler") else "", len(times), str(times[0]))
    reach = known.reach((type(settings.method), type(settings.stop), settings.stop.tolerance, chain), len(times))
    sizes = (PAD,) if any(isinstance(m, nn.Module) and compiled(m) for m in pipe.components.values()) else GRID
    return Auto(known, reach, settings.method, 1, x.numel() * x.element_size(), sizes)
