"""What a picture of a run needs of each round, kept while the frames go by.

watch=lambda frames: record(frames, kept)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..window.frame import Frame

# At most this many samples are drawn. Chosen by hand.
MOST = 8


@dataclass(frozen=True)
class Moment:
    """A round as it ended: B samples, the first eight of the run at most, W rows.

    begin, end (B,) the rows that were evaluated, done (B,) the rows accepted by then, size (W, B) how
    far each row is from settled, 1 being the limit, evals so far, states (B, ...) the last accepted, as they are drawn.
    """

    begin: Tensor
    end: Tensor
    done: Tensor
    size: Tensor
    evaluations: int
    states: Tensor


def record_moments(frames: Iterable[Frame], into: list[Moment]) -> Iterator[Frame]:
    """The same frames, with a `Moment` of each appended to `into`."""
    for frame in frames:
        into += sequential_steps(frame) if frame.single else [moment_of(frame)]
        yield frame


def sequential_steps(frame: Frame) -> Iterator[Moment]:
    """A stretch of single steps, one by one."""
    begin, end = frame.begin[:MOST].cpu(), frame.end[:MOST].cpu()
    for k, (_, _, evaluations) in enumerate(frame.record.rounds()):
        here, done = (begin + k).minimum(end), (begin + k + 1).minimum(end)
        size, states = frame.size[k : k + 1, :MOST].cpu(), frame.x[k + 1, :MOST].cpu()
        yield Moment(here, done, done, size, evaluations, drawable(states))


def moment_of(frame: Frame) -> Moment:
    """The part of a frame that is drawn, on the CPU."""
    begin, end, stride = (v[:MOST].cpu() for v in (frame.begin, frame.end, frame.stride))
    size, states = frame.size[:, :MOST].cpu(), frame.last[:MOST].cpu()
    return Moment(begin, end, begin + stride, size, frame.evaluate.evaluations, drawable(states))


def drawable(x: Tensor) -> Tensor:
    """States x (B, ...) with noise scaled into [-1, 1], where it would be clipped; a finished sample fits as it is."""
    most = torch.quantile(x.flatten(1).abs(), 0.95, dim=1).clamp(min=1)
    return x / most.reshape(-1, *(1,) * (x.ndim - 1))
