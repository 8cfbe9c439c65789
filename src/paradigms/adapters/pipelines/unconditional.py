"""`DDPMPipeline` and `DDIMPipeline` by the core's solver: their loops are known, and are tables:

    for t in timesteps: image = scheduler.step(unet(image, t), t, image)    ->    image = sample(unet, table, image)

`DDPMPipeline` and `DDIMPipeline` only. There a step of the pipeline's own code would cost as much as the rest of ours;
the core's solver steps whole windows at once. The table is used once the pipeline's own loop has run on a stub in place
of its network, and made of that what the table does: it may scale no inputs where the table does, or steer by itself.
A scheduler that is no table, or a loop that is another, goes the way of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from ...execution.evaluate import NonFiniteError
from ...solve import sample, sequential
from ...system import System
from ...window.frame import Frame
from ..report import ProgressBar, Run
from ..schedulers.cache import cached_table
from ..schedulers.prepare import SchedulerError
from .code.loop_items import LoopItems
from .loop.active_call import ActiveCall
from .loop.hooks import HaltRow
from .state.outside_state import is_library
from .state.snapshot import ChangedError, Snapshot, take_snapshot

# How far rounding may take a chain on the stub, relatively. Chosen by hand.
CLOSE = 1e-3
KNOWN = {"DDPMPipeline": (), "DDIMPipeline": ("eta", "use_clipped_model_output")}


class TableLoop:
    """A loop that runs once: its only row sets the state to the sample. The hooks are those of `WindowedLoop`.

    Before, where that was not yet done for such a pipeline, its own loop runs on a stub in place of its network.
    """

    Halt = HaltRow
    passes_by = True
    stepping = False  # networks are called as they are
    called = False  # such pipelines have no callbacks
    looks = True

    def __init__(self, active: ActiveCall, pipe: Any, arguments: tuple[str, ...], items: Any, state: str) -> None:
        self.settings, self.run, self.pipe, self.arguments = active.settings, active.run, pipe, arguments
        self.bar = items if isinstance(items, ProgressBar) else None
        self.items, self.state = list(items), state
        self.inside = self.failed = False  # inside: the network's stub answers
        self.source: LoopItems | None = None
        self.outside: dict[str, Any] = {}
        self.networks: frozenset[int] | None = None
        self.own = self.clocked = False  # as `WindowedLoop`'s
        self.trial: TableTrial | None = None
        self.row = 0

    def __iter__(self) -> Iterator[Any]:
        for row in range(len(self.items)):
            self.row = row
            yield self.items[self.row]
            if self.trial is None:
                return
        self.inside = False
        yield self.items[-1]

    def enter(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The sample, as the state's new value; a row of a trial goes on with what it has."""
        if self.trial is not None and self.inside:
            return {}
        if self.trial is None:
            step = {k: values[k] for k in self.arguments if values.get(k) is not None}
            self.system = self.tabled(step)
            if trial_key(self.pipe, self.system) not in _tried:
                before = take_snapshot({**values, **self.outside}, None, networks=self.networks)
                self.trial, self.inside = TableTrial(before, values[self.state]), True
                return {}
        else:
            self.judged(values)
            values = self.trial.before.restore()
        return {self.state: self.sampled(values)}

    def tabled(self, step: dict[str, Any]) -> System:
        """The loop's table; where there is none the call begins anew, the way of all others."""
        scheduler = self.pipe.scheduler
        try:
            if not is_librarys(scheduler):
                raise SchedulerError("a scheduler of one's own may keep a state that its table does not have")
            times = tuple(scheduler.timesteps.tolist())
            system = cached_table(scheduler, scheduler.num_inference_steps, step, times)
        except SchedulerError:
            system = None
        if system is None or len(system) != len(self.items):
            self.settings.tables = False
            raise ChangedError(set())
        return system

    def judged(self, values: Mapping[str, Any]) -> None:
        """Compares what the pipeline's own loop made of the stub with what the table does."""
        assert self.trial is not None
        own, x = values[self.state], self.trial.x
        self.trial.before.restore()
        found = sequential(stub_network, self.system, x, generator=values.get("generator")).to(own.dtype)
        size = float(own.double().norm())
        if not float((found - own).double().norm()) <= CLOSE * size:
            self.settings.tables = False
            raise ChangedError(set())
        _tried[trial_key(self.pipe, self.system)] = self.system

    def call(self, network: Any, real: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The stub's answer in the network's place."""
        x, t = (*args, *kwargs.values())[:2]
        return StubAnswer(stub_network(x, torch.as_tensor(t, device=x.device).expand(len(x))))

    def sampled(self, values: Mapping[str, Any]) -> Tensor:
        """The sample, by the core's solver."""
        x, unet = values[self.state], self.pipe.unet
        model = MethodType(network_prediction, unet)  # of the network itself, which `auto` knows again
        try:
            solution = sample(
                model, self.system, x, self.settings.method, window=self.settings.window, tolerance=self.settings.stop,
                generator=values.get("generator"), watch=self.watched, mesh=self.settings.mesh,
            )  # fmt: skip
        except NonFiniteError as error:
            raise NonFiniteError(
                str(error).replace("model", type(unet).__name__, 1).replace(" row ", " step ")
            ) from None
        record_solution(self.run, self.settings.asked, solution)
        return solution.x.to(x.dtype)

    def watched(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, the pipeline's bar moved as all samples have come so far."""
        for frame in frames:
            done = int((frame.begin + frame.stride).min()) - int(frame.begin.min())
            self.run.accepted += [1] * done if frame.single else [done]
            if self.bar is not None:
                self.bar.move(done)
            yield frame

    def go(self) -> None:
        """Nothing of the row is left to run, but in a trial."""
        if not self.inside:
            raise HaltRow

    def leave(self, values: Mapping[str, Any]) -> None:
        """The end."""

    def tick(self, bar: ProgressBar, n: float) -> None:
        """A trial moves no bar."""


@dataclass
class TableTrial:
    """The pipeline's own loop on a stub: all that it began with, and the state."""

    before: Snapshot
    x: Tensor


class StubAnswer(tuple):  # type: ignore[type-arg]
    """An answer as a network of diffusers gives it."""

    def __new__(cls, sample: Tensor) -> StubAnswer:
        return super().__new__(cls, (sample,))

    @property
    def sample(self) -> Tensor:
        """The answer."""
        return self[0]  # type: ignore[no-any-return]


def stub_network(x: Tensor, t: Tensor) -> Tensor:
    """What stands for a network: bounded, of the state and the time."""
    time = t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return torch.tanh(0.7 * x) + 0.2 * torch.sin(x + time / 100)


def record_solution(run: Run, asked: float, solution: Any) -> None:
    """Adds a `Solution` of the core to a call's report; asked: the tolerance that the user gave."""
    run.rounds += solution.rounds
    run.windows += solution.windows
    run.evaluations += solution.evaluations
    run.model_seconds += solution.model_seconds
    run.shared(solution.sharing)
    run.retries += sum(len(retry.samples) for retry in solution.retries)
    estimate = None if solution.estimate is None else float(solution.estimate.max())
    run.held(asked, solution.tolerance)
    run.estimated(estimate)
    for b, why in enumerate(solution.status):
        run.estimated(None, None if why == "converged" else f"sample {b}: {why}")
    run.residual = max(run.residual, float(solution.residual.max()))
    run.told(getattr(solution, "reason", None), getattr(solution, "expected", None))


_tried: dict[Any, System] = {}  # by pipeline and table: those whose own loop was compared, so that their ids last


def trial_key(pipe: Any, system: System) -> Any:
    """What decides whether a pipeline's own loop does what its table does."""
    loop = getattr(type(pipe), "_paradigms_of", type(pipe)).__call__
    return loop, type(pipe.scheduler), id(system)


def network_prediction(unet: Any, x: Tensor, t: Tensor) -> Tensor:
    """What a network says to states x (M, ...) at times t (M,)."""
    return unet(x.to(unet.dtype), t).sample  # type: ignore[no-any-return]


def is_librarys(scheduler: Any) -> bool:
    """Whether all code of a scheduler is a library's: none in a subclass of one's own, or put on it or on its class."""
    own = [v for base in type(scheduler).__mro__ for v in vars(base).values() if isinstance(v, FunctionType)]
    return all(is_library(f.__globals__.get("__name__")) for f in own) and not any(
        map(callable, vars(scheduler).values())
    )


def table_of(active: ActiveCall, pipe: Any, kind: type, items: Any, state: str | None) -> TableLoop | None:
    """The loop of an unconditional pipeline as a table, None for other pipelines."""
    settings = active.settings
    known = kind.__name__ in KNOWN and settings.batched and settings.tables and state is not None
    return TableLoop(active, pipe, KNOWN[kind.__name__], items, str(state)) if known else None
