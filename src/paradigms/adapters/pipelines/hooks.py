"""What a pipeline's rewritten code calls in each row: its state is kept and put back, its networks are answered.

| mode   | a row                                                                              |
| step   | runs as it is, and nothing of it is kept                                           |
| sweep  | is answered by stand-ins, and all that it carries to the next row is kept          |
| ask    | runs to the call that waits for what the others of its step said                   |
| accept | runs once more on the same answers, and the user's callbacks with it               |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...execution.memory import raise_mmap_threshold
from ...window.controller import WindowController
from ..report import ProgressBar, Run, Settings
from ..schedulers.linearized import LinearizedScheduler, linearize_scheduler
from .acceptance import AcceptanceTest
from .batched_network import BatchedNetwork
from .finite_check import FiniteCheck
from .module_fields import ModuleFields
from .network_call import NetworkCall
from .rewrite import CALLBACKS, UnparallelError
from .snapshot import Snapshot, take_snapshot
from .step_record import StepRecord
from .surrogate import Surrogate, copy_answer, known_answer
from .window_controller import controller_of, copied_or_none

AGAIN = (
    "step {} made something else of the same answers when it ran again: it keeps what cannot be put back, or draws at "
    "random"
)


class HaltRow(BaseException):
    """Leaves a row before its end; no `except Exception` of a pipeline stops it."""


class LoopHooks:
    """One denoising loop as its rows see it: where it stands, what was kept, and the hooks."""

    Halt = HaltRow
    passes_by = True  # no part of what a snapshot keeps

    def __init__(
        self,
        settings: Settings,
        run: Run,
        network: BatchedNetwork,
        pipe: Any,
        items: Any,
        scheduler: Any,
        state: str | None,
    ) -> None:
        self.bar = items if isinstance(items, ProgressBar) else None
        self.items = list(items)
        self.settings, self.run, self.network, self.state = settings, run, network, state
        self.pipe, self.times = pipe, [_time(item, scheduler) for item in self.items]
        self.scheduler = scheduler  # a copy of it as it is now, once a window may need it
        self.pace: WindowController | None = None
        self.window, self.steps, self.stepping, self.asked = 1, 1, False, 0
        self.standins: dict[int, Surrogate] = {}  # by the place of a call in its step
        self.before: dict[int, Snapshot] = {}
        self.visits: dict[int, StepRecord] = {}
        self.judged: dict[int, StepRecord] = {}
        self.dependent = settings.dependent  # calls that are shown what earlier calls of their step said
        self.mode, self.row, self.at, self.begin, self.reached = "step", 0, 0, 0, 0
        self.inside = self.halted = self.callbacks = self.called = False  # called: a user's callback was
        self.outside: dict[str, Any] = {}  # what the loop's code names outside of its locals, and may change
        self.networks: frozenset[int] | None = None  # the modules of the pipeline's networks, by id
        self.own = False  # the loop's code is no library's, so all tensors are copied
        self.clocked = False  # it looks at a clock, so its numbers may differ when a row runs again
        self.failed = False  # a row was left by an exception
        self.finite = FiniteCheck(len(self.items), self.times)
        self.fields: dict[int, ModuleFields] = {}  # of the networks, as a callback found them
        self.heard = False  # a callback was called since rows began to be accepted
        self.renewed = False  # a callback changed a network
        self.width, self.evaluations = 0, 0  # samples in the state; calls of networks when the pace was last asked

    @property
    def looks(self) -> bool:
        """Whether a row's locals are looked at."""
        return self.pace is None or self.mode != "step"

    def enter(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The beginning of a row; gives the locals to be set, where the loop went back."""
        if self.pace is None:
            ranks = self.network.team.size if self.network.team else 1
            self.pace = controller_of(self.settings, self.pipe, self.stepped(values), self.times, ranks)
            self.scheduler = copied_or_none(self.scheduler) if self.pace.only != 1 else None
            self.width = rows_width(self.stepped(values))
            self.network.probe.span = (str(self.times[0]), str(self.times[-1]))
            self.decide()
        if self.mode == "step":
            self.stepping = True
            return self.before[self.row].restore() if self.row in self.before and self.at != self.row else {}
        self.inside, self.halted, self.visits[self.row] = True, False, StepRecord()
        self.run.visits += 1
        if self.row not in self.before:
            self.callbacks = any(values.get(name) is not None for name in CALLBACKS)
            whole = {**values, **self.outside}
            self.before[self.row] = take_snapshot(whole, None, networks=self.networks)  # all tensors are copied
            self.width = rows_width(self.stepped(values))
        elif self.at != self.row:
            return self.before[self.row].restore()
        return {}

    def go(self) -> None:
        """The body of the row follows."""

    def leave(self, values: Mapping[str, Any]) -> None:
        """The end of a row, or of what ran of it."""
        if self.failed:
            return
        if self.mode == "step":
            self.stepping, self.at = False, self.row + 1
            return
        self.inside, self.at = False, -1
        if self.halted:
            return
        self.settings.copied |= self.before[self.row].changed(all=True)
        # where callbacks are called all tensors are copied, for a call that begins anew would call them again
        if self.mode != "accept" and (place := self.before[self.row].silent()):
            self.before[self.row].restore()
            raise UnparallelError(f"its loop changes {place} in place past torch's count, as .data and numpy do")
        copied = None if self.callbacks or self.own else self.settings.copied
        whole, last = {**values, **self.outside}, self.before[self.row] if self.own else None
        self.before[self.row + 1] = take_snapshot(whole, copied, last=last, networks=self.networks)
        self.visits[self.row].after, self.visits[self.row].ended = self.stepped(values), True
        self.at = self.row + 1

    def stepped(self, values: Mapping[str, Any]) -> Tensor | None:
        """What the scheduler steps, among the locals."""
        name, _, field = (self.state or "").partition(".")
        state = getattr(values.get(name), field, None) if field else values.get(name)
        return state if isinstance(state, Tensor) else None

    def callback(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a user's callback where the row is accepted; answers of a network that it changes are forgotten."""
        self.called = self.called or self.mode in ("step", "accept")
        if self.mode == "step":
            self.stepping = False
            try:
                return function(*args, **kwargs)
            finally:
                self.stepping = True
        if self.mode != "accept":
            return {}
        asked = {id(c.network): c.network for visit in self.judged.values() for c in visit.calls}
        self.fields = {k: f if (f := self.fields.get(k)) and f.same() else ModuleFields(m) for k, m in asked.items()}
        self.inside, self.heard = False, True  # what a callback asks or sets is no part of the step
        try:
            return function(*args, **kwargs)
        finally:
            self.inside = True
            if not all(f.same() for f in self.fields.values()):
                self.standins.clear()
                self.renewed = True

    def tick(self, bar: ProgressBar, n: float) -> None:
        """The pipeline moves a progress bar."""
        self.visits[self.row].ticks.append((bar, n))

    def call(self, network: nn.Module, real: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A network is called within a row."""
        visit, n = self.visits[self.row], self.row
        if torch.is_grad_enabled() and any(
            isinstance(v, Tensor) and v.requires_grad for v in (*args, *kwargs.values())
        ):
            raise UnparallelError("a step takes gradients of what its networks say")
        call, c = NetworkCall.of(network, real, args, kwargs), len(visit.calls)
        if self.mode in ("accept", "again"):
            judged = self.judged[n]
            if self.renewed or c >= len(judged.calls) or not judged.calls[c].equals(call):
                if n == self.begin and not self.heard:
                    raise UnparallelError(AGAIN.format(n))
                self.halt()
            answer, own = judged.answers[c], judged.own[c]
        else:
            standin = self.standins.setdefault(c, Surrogate(self.settings.method, self.course))
            try:
                answer, own = standin.answer(n, call)
            except LookupError:
                if n != self.begin:
                    self.halt()
                standin.heard({n: known_answer(call, self.first(call))})
                answer, own = standin.answer(n, call)
        visit.calls.append(call)
        visit.answers.append(answer)
        visit.own.append(own)
        if self.mode == "ask" and c + 1 == self.asked:
            self.halt()
        return copy_answer(answer)

    def alone(self, network: nn.Module, run: Callable[[], Any]) -> Any:
        """A network is called in a row that runs as it is."""
        if self.pace is not None and self.pace.only != 1:
            self.network.probe.before(network)
        said = self.network.alone(run, self.width)
        self.finite.note(self.row, network, said, self.width)
        return said

    def first(self, call: NetworkCall) -> Any:
        """What a network says that has nothing to go by yet; raises UnparallelError where it keeps what it saw."""
        self.network.probe.before(call.network)
        self.run.rounds += not self.visits[self.row].calls  # a step's own calls are one round
        kept = take_snapshot({"processors": list(getattr(call.network, "attn_processors", {}).values())}, set())
        self.inside = False
        (said,) = self.network([call], self.width)
        self.finite.note(self.row, call.network, said, self.width)
        self.finite.check()
        self.network.check([call], [said], self.width)
        self.inside = True
        if changed := kept.touched():
            raise UnparallelError(f"{type(call.network).__name__} keeps what it saw, in {changed}, for a later use")
        return said

    def halt(self) -> None:
        """Leaves the row."""
        self.halted = True
        raise HaltRow

    @cached_property
    def course(self) -> LinearizedScheduler:
        """What the scheduler's steps are like, told when there is a window."""
        return linearize_scheduler(self.scheduler, self.times)

    @cached_property
    def judge(self) -> AcceptanceTest:
        """Counts settled rows."""
        return AcceptanceTest(self.settings.stop, self.course)

    def decide(self) -> None:
        """Asks for the next window; the row that has begun, or begins next, is of it."""
        assert self.pace is not None
        left, self.evaluations = len(self.items) - self.begin, self.network.evaluations
        window, self.steps = self.pace.next(self.begin) if left else (1, 1)
        self.window = min(window, len(self.items))
        self.mode = "step" if self.window == 1 else "sweep"
        if self.mode == "sweep":
            raise_mmap_threshold()


def rows_width(state: Tensor | None) -> int:
    """Samples in a state, 0 where that is not known."""
    return len(state) if state is not None and state.ndim else 0


def _time(item: Any, scheduler: Any) -> Any:
    """The time of a loop's item: (i, t), t, or a place among the scheduler's timesteps."""
    t = item[-1] if isinstance(item, tuple) else item
    return scheduler.timesteps[t] if isinstance(t, int) and hasattr(scheduler, "timesteps") else t
