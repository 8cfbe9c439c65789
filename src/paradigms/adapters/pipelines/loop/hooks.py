"""The hooks that a pipeline's rewritten code calls in each row of its loop, see `rewrite.py`.

What a hook does depends on how the row runs: stepped through, in a sweep, or once more. That is in `row_modes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ....execution.memory import raise_mmap_threshold
from ...report import ProgressBar
from ..code.rewrite import UnparallelError
from ..networks.network_call import NetworkCall
from ..networks.surrogate import copy_answer
from ..state.snapshot import take_snapshot
from .loop_state import LoopState, rows_width
from .row_modes import STEP, SWEEP, WindowMode
from .window_controller import controller_of, copied_or_none


class HaltRow(BaseException):
    """Leaves a row before its end; no `except Exception` of a pipeline stops it."""


class LoopHooks(LoopState):
    """One denoising loop as its rows see it."""

    Halt = HaltRow

    @property
    def looks(self) -> bool:
        """Whether a row's locals are looked at."""
        return self.pace is None or self.mode.looks

    def enter(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The beginning of a row; gives the locals to be set, where the loop went back."""
        if self.pace is None:
            self.start(values)
        return self.mode.enter(self, values)

    def start(self, values: Mapping[str, Any]) -> None:
        """The first row begins: the window's controller is made, and asked for the first window."""
        ranks = self.network.team.size if self.network.team else 1
        self.pace = controller_of(self.settings, self.pipe, self.stepped(values), self.times, ranks)
        self.scheduler = copied_or_none(self.scheduler) if self.pace.only != 1 else None
        self.measure(values)
        self.network.probe.span = (str(self.times[0]), str(self.times[-1]))
        self.decide()

    def measure(self, values: Mapping[str, Any]) -> None:
        """Counts the samples in the state."""
        self.width = rows_width(self.stepped(values))

    def decide(self) -> None:
        """Asks for the next window; the row that has begun, or begins next, is of it."""
        assert self.pace is not None
        left, self.evaluations = len(self.items) - self.begin, self.network.evaluations
        window, self.steps = self.pace.next(self.begin) if left else (1, 1)
        self.window = min(window, len(self.items))
        self.mode = STEP if self.window == 1 else SWEEP
        if self.mode is SWEEP:
            raise_mmap_threshold()

    def go(self) -> None:
        """The body of the row follows."""

    def leave(self, values: Mapping[str, Any]) -> None:
        """The end of a row, or of what ran of it."""
        if not self.failed:
            if self.source is not None:
                self.source.check()
            self.mode.leave(self, values)

    def callback(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a user's callback where the row is accepted."""
        return self.mode.callback(self, function, args, kwargs)

    def tick(self, bar: ProgressBar, n: float) -> None:
        """The pipeline moves a progress bar."""
        self.visits[self.row].ticks.append((bar, n))

    def call(self, network: nn.Module, real: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A network is called within a row of a window."""
        if torch.is_grad_enabled() and any(
            isinstance(v, Tensor) and v.requires_grad for v in (*args, *kwargs.values())
        ):
            raise UnparallelError("a step takes gradients of what its networks say")
        assert isinstance(self.mode, WindowMode)
        visit, call = self.visits[self.row], NetworkCall.of(network, real, args, kwargs)
        answer, own = self.mode.answer(self, call)
        visit.calls.append(call)
        visit.answers.append(answer)
        visit.own.append(own)
        self.mode.answered(self)
        return copy_answer(answer)

    def alone(self, network: nn.Module, run: Callable[[], Any]) -> Any:
        """A network is called in a row that runs as it is."""
        if self.pace is not None and self.pace.only != 1:
            self.network.probe.before(network)
        said = self.network.alone(run, self.width)
        self.finite.note(self.row, network, said, self.width)
        return said

    def first(self, call: NetworkCall) -> Any:
        """The answer of a network of which nothing is known; raises UnparallelError where it keeps what it saw."""
        self.network.probe.before(call.network)
        self.run.rounds += not self.visits[self.row].calls  # a step's own calls are one round
        kept = take_snapshot({"processors": list(getattr(call.network, "attn_processors", {}).values())}, set())
        self.inside = False
        (said,) = self.network([call], self.width)
        self.finite.note(self.row, call.network, said, self.width)
        self.finite.check()
        self.network.check([call], [said], self.width)
        self.note(self.row, len(self.visits[self.row].calls), call, said)
        self.inside = True
        if changed := kept.touched():
            raise UnparallelError(f"{type(call.network).__name__} keeps what it saw, in {changed}, for a later use")
        return said

    def note(self, row: int, place: int, call: NetworkCall, said: Any) -> None:
        """A call of a row was answered; raises UnparallelError where its network notes that and callbacks follow."""
        self.network.probe.note(row, place, call, said)
        if self.callbacks and self.network.probe.course:
            raise UnparallelError(
                f"{type(call.network).__name__} counts its calls or notes something of them, and a call that calls back"
                " cannot be made again if that decides about an answer"
            )

    def halt(self) -> None:
        """Leaves the row."""
        self.halted = True
        raise HaltRow
