"""A chain: a problem that is being solved, and how. One value, passed from the solver to the window and to a retry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..execution.evaluate import Evaluator
from ..methods.base import AbstractMethod
from ..stopping.base import AbstractStop
from ..system import System
from .controller import WindowController
from .frame import Frame

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
        pace: how many rows the next window has.
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

    def shown(self, frame: Frame) -> Iterator[Frame]:
        """The frame, while the clock rests: what is done with it is not counted as a round."""
        self.evaluate.clock.pause()
        yield frame
        self.evaluate.clock.resume()
