"""Runs a job step by step and in parallel from the same noise, and draws the frames of its animation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from ..solution import Solution
from ..viz.record import MOST, Moment, drawable, moment_of
from ..viz.story import Story
from .model_job import Job


def tell_story(job: Job, solution: Solution, moments: Sequence[Moment]) -> Story:
    """The story of a job that ran; its sequential half is run here, as many steps as the parallel one took rounds."""
    start, _ = job.start()
    steps = [moment_of(frame).states for frame in islice(job.one_by_one(), len(moments))]
    rows = len(job.system)
    how = (rows, max(solution.windows), job.tolerance)
    return Story(headline(job, solution), *how, drawable(start[:MOST]), moments, steps, solution.converged)


def headline(job: Job, solution: Solution) -> str:
    """The run in one line, computed from it: DDPM, 1000 steps: 28 rounds instead of 1000."""
    rounds = f"{solution.rounds} round{'s' * (solution.rounds != 1)}"
    end = f"{rounds} instead of {len(job.system)}" if solution.converged else f"stopped after {rounds}"
    return f"{job.title}, {job.steps} steps: {end}"
