"""Records one run for the race; the run's clock stands still meanwhile.

    seconds = since the run began - spent on recording        of each round, for both samplers alike

The rows of a round are those for whose timesteps the network was asked, as seen at the network itself: a method may
evaluate rows that are no neighbours, and a window's begin and end would not show them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..system import System
from ..viz.palette import pixels
from ..viz.record import drawable
from ..window.frame import Frame

Event = dict[str, Any]  # as JSON takes it; "event" is its kind
Emit = Callable[[Event], None]
# Seconds between two pictures of one run: more than a screen shows. Chosen by hand.
LEAST = 1 / 30
# Pictures of a sequential run: an eighth of a second of a chain of fifteen. Chosen by hand.
MOMENTS = 120


class Contest(Protocol):
    """What can be raced: both runs, told event by event; `stopped` is asked at every call of the network."""

    def run(self, emit: Emit, stopped: Callable[[], bool]) -> None: ...


class Stopped(Exception):  # noqa: N818  nothing went wrong
    """Nobody looks any more."""


class Asked:
    """The timesteps that a network is asked for, seen by a hook; calling it raises `Stopped` once it is stopped.

    The network stays the object that it is, so that what "auto" has learned of it holds.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self.stopped, self.times = stopped, list[Tensor]()

    @contextmanager
    def at(self, network: nn.Module) -> Iterator[None]:
        """Within it the network is watched."""
        hook = network.register_forward_pre_hook(self._seen, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _seen(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.stopped():
            raise Stopped
        self.times.append(torch.as_tensor(args[1]).detach().reshape(-1).cpu())

    def taken(self, last: int) -> Tensor:
        """The last so many timesteps that were asked for since this was called."""
        times = torch.cat(self.times) if self.times else torch.zeros(0)
        self.times.clear()
        return times[len(times) - min(last, len(times)) :]


class Recording:
    """One run, told as it goes: `run` is its name, N the rows of its chain, picture (B, ...) -> what is drawn."""

    def __init__(self, run: str, system: System, asked: Asked, emit: Emit, picture: Callable[[Tensor], Tensor]) -> None:
        self.run, self.emit, self.asked, self.picture = run, emit, asked, picture
        self.N, self.t = len(system), system.t.cpu()
        self.evals = self.rounds = 0  # of what was finished before, where a run is made of several samplings
        self.away, self.shown, self.began = 0.0, -1.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of the run so far, without what recording took."""
        return time.perf_counter() - self.began - self.away

    @contextmanager
    def resting(self) -> Iterator[float]:
        """Within it the clock stands still, at the seconds that are given."""
        seconds, left = self.seconds, time.perf_counter()
        try:
            yield seconds
        finally:
            self.away += time.perf_counter() - left

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames, each reported."""
        evals = 0
        for frame in frames:
            with self.resting() as seconds:
                record = frame.record
                self.emit(self.moment(frame, seconds, self.asked.taken(record.evaluations - evals)))
                evals = record.evaluations
            yield frame

    def moment(self, frame: Frame, seconds: float, times: Tensor) -> Event:
        """The event that reports a round of one sample."""
        begin, end, stride = (int(v[0]) for v in (frame.begin, frame.end, frame.stride))
        rows = self.rows(times, begin, end) if not frame.single else [[begin, end]]
        event: Event = {
            "event": "moment", "run": self.run, "seconds": round(seconds, 4), "round": self.rounds + frame.round,
            "evaluations": self.evals + frame.record.evaluations, "begin": begin, "end": end, "done": begin + stride,
            "rows": rows,
        }  # fmt: skip
        if seconds - self.shown >= LEAST or begin + stride == self.N:
            event["picture"], self.shown = encoded(self.picture(drawable(frame.last))), seconds
            event["estimate"] = encoded(self.picture(estimate(frame, stride)))
        return event

    def rows(self, times: Tensor, begin: int, end: int) -> list[list[int]]:
        """The rows [begin, end) of those timesteps, as stretches; two rows of one timestep are both named."""
        asked = torch.isin(self.t[begin:end].float(), times.float())
        edges = torch.diff(asked.int(), prepend=torch.zeros(1).int(), append=torch.zeros(1).int())
        first, last = (edges == 1).nonzero()[:, 0] + begin, (edges == -1).nonzero()[:, 0] + begin
        return torch.stack([first, last], 1).tolist()


def estimate(frame: Frame, stride: int) -> Tensor:
    """What the finished sample (B, ...) is expected to be: the denoised estimate of the last row that was accepted."""
    return frame.D[min(stride, len(frame.D)) - 1] if stride else frame.last


def nothing(x: Tensor) -> Tensor:
    """No picture."""
    return x[:0]


def encoded(x: Tensor) -> str:
    """The first of states x (B, C, H, W) in [-1, 1] as text: H W 3 bytes in base 64."""
    return base64.b64encode(pixels(x[:1])[0].tobytes()).decode() if len(x) else ""
