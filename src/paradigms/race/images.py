"""A race of one picture: the parallel sampler alone, then the sequential one alone, from the same noise.

parallel       sample(model, system, x, method, window, tolerance)
sequential     the same chain with a window of one row, which is `sequential` bit for bit
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..methods.base import AbstractMethod
from ..methods.picard import Jacobi
from ..solution import Solution, relative_error
from ..solve import iterate, sample
from ..stopping.base import AbstractStop
from ..system import System
from ..viz.palette import pixels
from ..window.controller import FixedWindow
from .recording import MOMENTS, Asked, Emit, Event, Recording, encoded

# The difference is drawn so many times as large. Chosen by hand.
TIMES = 10
# Rounds and steps of a first call that set up a library's threads and memory, and are not recorded. Chosen by hand.
WARM = 2


@dataclass(frozen=True)
class Images:
    """A race on a model of pictures.

    start: makes the noise (1, ...) and the generator of the seed, the same each time. picture: a state as it is drawn,
    (1, C, H, W) in [-1, 1].
    """

    title: str
    model: nn.Module
    system: System
    start: Callable[[], tuple[Tensor, torch.Generator]]
    window: int | str
    stop: AbstractStop
    method: AbstractMethod
    condition: dict[str, Tensor]
    picture: Callable[[Tensor], Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self, emit: Emit, stopped: Callable[[], bool]) -> None:
        """Both runs and the verdict, told as they go; raises Stopped, and what the model raises."""
        asked = Asked(stopped)
        with asked.at(self.model), torch.no_grad():
            x, _ = self.start()
            drawn = self.picture(x)
            size = {"width": drawn.shape[-1], "height": drawn.shape[-2]}
            start = {"event": "start", "kind": "picture", "title": self.title, "rows": len(self.system)}
            emit(start | size | self.facts | {"picture": encoded(drawn / max(float(drawn.abs().max()) / 2, 1))})
            self.warm(emit)
            parallel = self.parallel(asked, emit)
            sequential = self.sequential(asked, emit)
            emit(self.verdict(parallel.x, sequential))

    def warm(self, emit: Emit) -> None:
        """The first calls, which nobody times."""
        emit({"event": "phase", "phase": "warm"})
        x, generator = self.start()
        how: dict[str, Any] = {"generator": generator, "condition": self.condition}
        for k, _ in enumerate(iterate(self.model, self.system, x, Jacobi(), window=1, tolerance=0.0, **how)):
            if k == WARM:
                break
        x, generator = self.start()
        how["generator"] = generator
        window = 8 if self.window == "auto" else self.window
        sample(self.model, self.system, x, self.method, window=window, tolerance=self.stop, max_rounds=WARM, **how)

    def parallel(self, asked: Asked, emit: Emit) -> Solution:
        """The parallel run."""
        emit({"event": "phase", "phase": "record", "run": "parallel"})
        x, generator = self.start()
        recording = Recording("parallel", self.system, asked, emit, self.picture)
        solution = sample(
            self.model,
            self.system,
            x,
            self.method,
            window=self.window,
            tolerance=self.stop,
            generator=generator,
            condition=self.condition,
            watch=recording.watch,
        )
        seconds = recording.seconds
        again = sum(len(retry.samples) for retry in solution.retries)
        account = {"window": max(solution.windows), "again": again, "converged": solution.converged}
        spent = {"round": solution.rounds, "evaluations": solution.evaluations}
        emit(self.finish("parallel", seconds, solution.x) | spent | account)
        return solution

    def sequential(self, asked: Asked, emit: Emit) -> Tensor:
        """The sequential run's sample."""
        emit({"event": "phase", "phase": "record", "run": "sequential"})
        x, generator = self.start()
        recording, N = Recording("sequential", self.system, asked, emit, self.picture), len(self.system)
        how: dict[str, Any] = {"generator": generator, "condition": self.condition}
        one = FixedWindow(1, max(N // MOMENTS, 1))
        for frame in recording.watch(iterate(self.model, self.system, x, Jacobi(), window=one, tolerance=0.0, **how)):
            x = frame.last
        emit(self.finish("sequential", recording.seconds, x) | {"round": N, "evaluations": N})
        return x

    def finish(self, run: str, seconds: float, x: Tensor) -> Event:
        """A run's end."""
        return {"event": "finish", "run": run, "seconds": round(seconds, 4), "picture": encoded(self.picture(x))}

    def verdict(self, x: Tensor, y: Tensor) -> Event:
        """How far the parallel sample x is from the sequential one y."""
        error, a, b = float(relative_error(x, y)[0]), self.picture(x), self.picture(y)
        levels = int((torch.from_numpy(pixels(a)).int() - torch.from_numpy(pixels(b)).int()).abs().max())
        shown = encoded((a.clamp(-1, 1) - b.clamp(-1, 1)).abs() * TIMES - 1)
        found = {"error": error, "tolerance": self.stop.tolerance, "levels": levels, "same": error <= self.limit}
        return {"event": "verdict", "times": TIMES, "difference": shown} | found

    @property
    def limit(self) -> float:
        """The error up to which two samples are called the same: what was asked for, or rounding."""
        return max(self.stop.tolerance, 1e-4)
