"""One attempt at a chain: runs through its frames and keeps their records and the final states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from .frame import Frame
from .trace import FrameRecord


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
