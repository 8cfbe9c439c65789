"""What is known of a denoising loop while it runs in windows: its items, where it stands, what was kept of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from ....window.controller import WindowController
from ...report import ProgressBar
from ...schedulers.linearized import LinearizedScheduler, linearize_scheduler
from ..code.loop_items import LoopItems
from ..networks.finite_check import FiniteCheck
from ..networks.surrogate import Surrogate
from ..state.module_fields import ModuleFields
from ..state.snapshot import Snapshot, take_snapshot
from .acceptance import AcceptanceTest
from .active_call import ActiveCall
from .row_modes import STEP, RowMode
from .step_record import StepRecord


class LoopState:
    """The state of one denoising loop; state: the name of the local, or of a local's field, that the scheduler steps.

    Rows [begin, begin + window) are in the window, `row` is the one that runs, `at` the one whose beginning the locals
    are (-1: none), `reached` the first that did not run to its end.
    """

    passes_by = True  # no part of what a snapshot keeps

    def __init__(self, active: ActiveCall, pipe: Any, items: Any, scheduler: Any, state: str | None) -> None:
        self.settings, self.run, self.network = active.settings, active.run, active.network
        self.pipe = pipe  # whose loop it is: the pipeline that was called, or a part of it
        self.bar = items if isinstance(items, ProgressBar) else None
        self.items = list(items)
        self.state, self.times = state, [_time(item, scheduler) for item in self.items]
        self.scheduler = scheduler  # a copy of it as it is now, once a window may need it
        # where it stands
        self.mode: RowMode = STEP
        self.pace: WindowController | None = None  # None until the first row begins
        self.window = self.steps = 1
        self.row = self.at = self.begin = self.reached = 0
        self.evaluations = 0  # calls of networks when the pace was last asked
        self.width = 0  # samples in the state
        # what was kept of its rows
        self.before: dict[int, Snapshot] = {}
        self.visits: dict[int, StepRecord] = {}  # when they last ran
        self.judged: dict[int, StepRecord] = {}  # when it was decided whether they settled
        self.standins: dict[int, Surrogate] = {}  # by the place of a call in its step
        self.dependent = self.settings.dependent  # calls whose inputs depend on earlier answers of their step
        self.asked = 0  # the number of calls after which a row waits for answers
        self.finite = FiniteCheck(len(self.items), self.times)
        self.fields: dict[int, ModuleFields] = {}  # of the networks, as a callback found them
        # what is happening in the row
        self.stepping = False  # it runs as it is, so that networks are called as they are
        self.inside = False  # networks are answered by the loop
        self.halted = self.failed = False  # it was left early by the loop, or by an exception
        self.callbacks = False  # the user gave callbacks
        self.called = False  # one of them was called
        self.heard = False  # one was called since rows began to be accepted
        self.renewed = False  # one changed a network
        # what is known of the loop's code
        self.source: LoopItems | None = None  # what its items are taken from
        self.outside: dict[str, Any] = {}  # what it names outside of its locals, and may change
        self.networks: frozenset[int] | None = None  # the modules of the pipeline's networks, by id
        self.own = False  # it is no library's, so all tensors are copied
        self.clocked = False  # it looks at a clock, so its numbers may differ when a row runs again

    @cached_property
    def course(self) -> LinearizedScheduler:
        """The scheduler's steps as a table; first asked for when there is a window.

        A scheduler's own code may count or note its steps somewhere else than in the copy: that is put back.
        """
        whole = {"scheduler": self.scheduler, **self.outside}
        before = take_snapshot(whole, None, strict=False, networks=self.networks)
        found = linearize_scheduler(self.scheduler, self.times)
        before.restore()
        return found

    @cached_property
    def judge(self) -> AcceptanceTest:
        """Counts settled rows."""
        return AcceptanceTest(self.settings.stop, self.course)

    def stepped(self, values: Mapping[str, Any]) -> Tensor | None:
        """The tensor among the locals that the scheduler steps, None where there is none."""
        name, _, field = (self.state or "").partition(".")
        state = getattr(values.get(name), field, None) if field else values.get(name)
        return state if isinstance(state, Tensor) else None

    def whole(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All that a row carries to the next: its locals, and what its code changes outside of them."""
        return {**values, **self.outside}

    def forget_accepted(self) -> None:
        """Drops what was kept of the rows before `begin`."""
        for kept in (self.before, self.visits, self.judged):
            for n in [n for n in kept if n < self.begin]:
                del kept[n]
        for standin in self.standins.values():
            standin.forget(self.begin)

    def pause(self) -> None:
        """Drops the records of rows: single steps follow, which are not recorded."""
        self.visits.clear()
        for standin in self.standins.values():
            standin.pause()


def rows_width(state: Tensor | None) -> int:
    """Samples in a state, 0 where that is not known."""
    return len(state) if state is not None and state.ndim else 0


def _time(item: Any, scheduler: Any) -> Any:
    """The time of a loop's item: (i, t), t, or a place among the scheduler's timesteps."""
    t = item[-1] if isinstance(item, tuple) else item
    return scheduler.timesteps[t] if isinstance(t, int) and hasattr(scheduler, "timesteps") else t
