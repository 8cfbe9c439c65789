"""The unconditional pipelines' loops, whose whole content is known, as a table:

    for t in timesteps: image = scheduler.step(unet(image, t), t, image)    ->    image = sample(unet, table, image)

`DDPMPipeline` and `DDIMPipeline` only. There a step of the pipeline's own code would cost as much as the rest of ours;
the core's solver steps whole windows at once. A scheduler that is no table goes the way of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

from torch import Tensor

from ...frame import Frame
from ...solve import sample
from ...system import System
from ..scheduler import SchedulerError, from_scheduler
from .hooks import Halt
from .report import Bar, Run, Settings
from .snapshot import ChangedError

KNOWN = {"DDPMPipeline": (), "DDIMPipeline": ("eta", "use_clipped_model_output")}


class Table:
    """A loop that runs once: its only row sets the state to the sample. The hooks are those of `Loop`."""

    Halt = Halt
    passes_by = True
    inside = stepping = False  # networks are called as they are
    looks = True

    def __init__(
        self, settings: Settings, run: Run, pipe: Any, arguments: tuple[str, ...], items: Any, state: str
    ) -> None:
        self.settings, self.run, self.pipe, self.arguments = settings, run, pipe, arguments
        self.bar = items if isinstance(items, Bar) else None
        self.items, self.state = list(items), state

    def __iter__(self) -> Iterator[Any]:
        yield self.items[-1]

    def enter(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The sample, as the state's new value."""
        x, unet = values[self.state], self.pipe.unet
        step = {k: values[k] for k in self.arguments if values.get(k) is not None}
        system = tabled(self.pipe.scheduler, tuple(self.pipe.scheduler.timesteps.tolist()), tuple(step.items()))
        if system is None or len(system) != len(self.items):
            self.settings.tables = False
            raise ChangedError(set())  # begin anew, the way of all others

        model = MethodType(predicted, unet)  # of the network itself, which `auto` knows again
        solution = sample(
            model, system, x, self.settings.method, window=self.settings.window, tolerance=self.settings.stop,
            generator=values.get("generator"), watch=self.watched, mesh=self.settings.mesh,
        )  # fmt: skip
        self.run.rounds += solution.rounds
        self.run.windows += solution.windows
        self.run.evaluations += solution.evals
        self.run.model_seconds += solution.model_seconds
        self.run.shared(solution.sharing)
        self.run.residual = max(self.run.residual, float(solution.residual.max()))
        return {self.state: solution.x.to(x.dtype)}

    def watched(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, the pipeline's bar moved as all samples have come so far."""
        for frame in frames:
            done = int((frame.begin + frame.stride).min()) - int(frame.begin.min())
            self.run.accepted += [1] * done if frame.single else [done]
            if self.bar is not None:
                self.bar.move(done)
            yield frame

    def go(self) -> None:
        """Nothing of the row is left to run."""
        raise Halt

    def leave(self, values: Mapping[str, Any]) -> None:
        """The end."""


def predicted(unet: Any, x: Tensor, t: Tensor) -> Tensor:
    """What a network says to states x (M, ...) at times t (M,)."""
    return unet(x.to(unet.dtype), t).sample  # type: ignore[no-any-return]


def table(settings: Settings, run: Run, pipe: Any, kind: type, items: Any, state: str | None) -> Table | None:
    """The loop of an unconditional pipeline as a table, None for other pipelines."""
    known = kind.__name__ in KNOWN and settings.batched and settings.tables and state is not None
    return Table(settings, run, pipe, KNOWN[kind.__name__], items, str(state)) if known else None


_tables: dict[Any, System | None] = {}


def tabled(scheduler: Any, times: tuple[float, ...], step: tuple[tuple[str, Any], ...]) -> System | None:
    """The table of a scheduler whose timesteps are set, read once; None where it is none."""
    key = (type(scheduler), str(sorted(scheduler.config.items(), key=str)), times, step)
    if key not in _tables:
        try:
            _tables[key] = from_scheduler(scheduler, scheduler.num_inference_steps, more=dict(step))
        except SchedulerError:
            _tables[key] = None
    return _tables[key]
