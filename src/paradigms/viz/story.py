"""One run as a story of two samplers that begin with the same noise, and the animation's frames of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from ..cli.model_job import Job
from ..solution import Solution
from .record import MOST, Moment, drawable, moment


@dataclass(frozen=True)
class Story:
    """What is told: the first B samples of one run on a chain of `rows` rows, R rounds and R sequential steps.

    start (B, C, H, W) the noise both begin with, parallel R moments, sequential R states (B, C, H, W), one a step.
    """

    title: str
    rows: int
    window: int
    tolerance: float
    start: Tensor
    parallel: Sequence[Moment]
    sequential: Sequence[Tensor]
    converged: bool

    @property
    def subtitle(self) -> str:
        """How it was run."""
        count = len(self.start)
        samples = f"{count} sample{'s' * (count != 1)}"
        return f"{samples}, the same noise twice; window {self.window}, tolerance {self.tolerance:g}"


def tell(job: Job, solution: Solution, moments: Sequence[Moment]) -> Story:
    """The story of a job that ran; its sequential half is run here, as many steps as the parallel one took rounds."""
    start, _ = job.start()
    steps = [moment(frame).states for frame in islice(job.one_by_one(), len(moments))]
    rows = len(job.system)
    how = (rows, max(solution.windows), job.tolerance)
    return Story(headline(job, solution), *how, drawable(start[:MOST]), moments, steps, solution.converged)


def headline(job: Job, solution: Solution) -> str:
    """The run in one line, computed from it: DDPM, 1000 steps: 28 rounds instead of 1000."""
    rounds = f"{solution.rounds} round{'s' * (solution.rounds != 1)}"
    end = f"{rounds} instead of {len(job.system)}" if solution.converged else f"stopped after {rounds}"
    return f"{job.title}, {job.steps} steps: {end}"
