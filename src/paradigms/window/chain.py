"""A chain: a problem that is being solved, and how. One value, passed from the solver to the window and to a retry.

`run_frames` goes through the rounds of a chain once, and keeps their records and the last states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ..execution.evaluate import Evaluator
from ..methods.base import AbstractMethod
from ..stopping.base import AbstractStop
from ..system import System
from ..validate import refusal
from .controller import Plan, WindowController, check_plan
from .frame import Frame, WindowRound
from .trace import FrameRecord

# The number of rounds that stands for no limit: more than any chain takes.
UNLIMITED = 1 << 62


class NoiseStream(Protocol):
    """The noise of samples x (B, ...), see `noise.py`."""

    x: Tensor

    def rows(self, n: Tensor, begin: int, end: int) -> Tensor | None:
        """z (W, B, ...) at rows n (W, B), see `Noise.rows`."""


@dataclass(frozen=True)
class Chain:
    """A problem that is being solved, and how.

    Args:
        evaluate: the denoiser, with the table of the chain and the counts of what was evaluated.
        stream: the starting noise x (B, ...) and the noise of the rows.
        method: what corrects the states of a window.
        stop: which rows of a window are settled.
        controller: how many rows the next window has.
        limit: on rounds.
        keep: the states within a stretch of single steps, and not its first and last alone.
    """

    evaluate: Evaluator
    stream: NoiseStream
    method: AbstractMethod
    stop: AbstractStop
    controller: WindowController
    limit: int = UNLIMITED
    keep: bool = True

    @property
    def system(self) -> System:
        """The table."""
        return self.evaluate.system

    def __len__(self) -> int:
        """N, the rows of the table."""
        return len(self.evaluate.system)

    def plan(self, row: int) -> Plan:
        """The window of the next round, from a row of the slowest sample on. Raises ValueError for what is no plan."""
        return check_plan(self.controller.next(row))

    def shown(self, frame: Frame) -> Iterator[Frame]:
        """The frame, while the clock rests: what is done with it is not counted as a round.

        Raises ValueError where it came back changed: its tensors are those that the chain goes on with.
        """
        self.evaluate.clock.pause()
        before = frame_versions(frame)
        yield frame
        if any(changes != before.get(tensor, 0) for tensor, changes in frame_versions(frame).items()):
            needed = "frames as they are, for the chain goes on with their tensors"
            raise refusal("watch", "one that changes a frame's tensors in place", needed, "frame.x.clone()")
        self.evaluate.clock.resume()


def frame_versions(frame: Frame) -> dict[int, int]:
    """How often the tensors that a frame holds were changed so far; a view counts as the tensor that it shows."""
    held: list[Any] = [*vars(frame).values(), *(vars(frame.sweep).values() if isinstance(frame, WindowRound) else ())]
    held += [v[-1] for v in held if isinstance(v, tuple) and v]
    found = [v for v in held if isinstance(v, Tensor) and not v.is_inference()]
    return {id(v._base if v._is_view() else v): v._version for v in found}


@dataclass
class RunOutcome:
    """The last states (B, ...) of a run over all its frames, what is kept of them, and the trajectories if wanted."""

    final: Tensor
    records: list[FrameRecord]
    estimate: Tensor | None
    path: list[list[Tensor]]


def run_frames(shown: Iterable[Frame], x: Tensor, path: bool, limit: int | None = None) -> RunOutcome:
    """Runs through the frames of samples from x (B, ...), or as many rounds as the limit allows."""
    run, frame = RunOutcome(x, [], None, [[v[None]] for v in x] if path else []), None
    for frame in shown:
        run.records.append(frame.record)
        run.estimate = run.estimate if frame.estimate is None else frame.estimate
        for b, states in enumerate(run.path):
            states.append(frame.x[1 : run.records[-1].stride[b] + 1, b])
        if frame.round == limit:
            break
    run.final = x if frame is None else frame.last
    return run
