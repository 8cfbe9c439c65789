"""What the demo samples, one picture at a time: a shipped model under a rule, or the shipped pipeline.

parallel    window "auto", tolerance as it ships        stepped    the same noise step by step, or in fewer steps
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..solution import Solution
from ..window.frame import Frame
from .model_job import RULES, Request, prepare_job

Watch = Callable[[Iterator[Frame]], Iterable[Frame]]
PROMPTS = ("pines, snow, mountains, day", "a boat with red sails, night", "hills, autumn, sunset", "a lake, morning")


@dataclass(frozen=True)
class Made:
    """A picture x (1, C, H, W) in [-1, 1], and what it took.

    why: rows were stepped one by one, None where none was. again: it was made again, as its error might be too large.
    """

    x: Tensor
    rounds: int
    evaluations: int
    seconds: float
    why: str | None = None
    again: bool = False
    solution: Solution | None = None


class Case(Protocol):
    """A chain of `rows` steps; seeds count from 0."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def rows(self) -> int: ...

    def parallel(self, seed: int, watch: Watch = iter) -> Made: ...
    def stepped(self, seed: int, steps: int | None = None) -> Made: ...


@dataclass(frozen=True)
class ModelCase:
    """A shipped model, or a file's, under a rule."""

    asked: Request

    def __post_init__(self) -> None:
        prepare_job(self.asked)  # raises ValueError early

    @property
    def name(self) -> str:
        """Of its files."""
        return self.asked.rule

    @property
    def title(self) -> str:
        """Of its rows in the table."""
        return f"{Path(self.asked.model).stem[:24]}, {RULES[self.asked.rule].title}-{self.rows}"

    @property
    def rows(self) -> int:
        """Steps."""
        return self.asked.steps or RULES[self.asked.rule].steps

    def parallel(self, seed: int, watch: Watch = iter) -> Made:
        """In parallel."""
        solution = prepare_job(replace(self.asked, seed=seed)).sample(watch)
        spent = solution.rounds, solution.evaluations, solution.seconds
        return Made(solution.x.cpu(), *spent, solution.reason, bool(solution.retries), solution)

    def stepped(self, seed: int, steps: int | None = None) -> Made:
        """Step by step."""
        job = prepare_job(replace(self.asked, seed=seed, steps=steps or self.rows))
        began = time.perf_counter()
        x = job.sequential().cpu()
        return Made(x, len(job.system), len(job.system), time.perf_counter() - began)


class PipelineCase:
    """The shipped pipeline of landscapes, a prompt a seed; latents are decoded within its seconds."""

    name = "latent"

    def __init__(self, steps: int, device: str | None) -> None:
        from .pipeline_job import PipelineRequest, prepare_pipeline

        self.rows, self.title = steps, f"latent, DDIM-{steps}"
        self.ready = prepare_pipeline(
            PipelineRequest("latent", "ddim", steps, device=device, options={"--prompt": PROMPTS[0]})
        )
        self.ready.pipe.set_progress_bar_config(disable=True)

    def of(self, seed: int, steps: int | None) -> Any:
        """The call of a seed."""
        prompt, ask = PROMPTS[seed % len(PROMPTS)], replace(self.ready.ask, seed=seed)
        arguments = self.ready.arguments | {"prompt": prompt, "num_inference_steps": steps or self.rows}
        return replace(self.ready, ask=ask, arguments=arguments)

    def parallel(self, seed: int, watch: Watch = iter) -> Made:
        """In parallel."""
        from .run_pipeline import run_parallel

        x, report = run_parallel(self.of(seed, None), None)
        why = report.reasons[-1] if report.reasons else None
        return Made(x.permute(0, 3, 1, 2), report.rounds, report.evaluations, report.seconds, why, report.retries > 0)

    def stepped(self, seed: int, steps: int | None = None) -> Made:
        """Step by step."""
        from .run_pipeline import pictures_of

        began, ready = time.perf_counter(), self.of(seed, steps)
        x = pictures_of(ready).permute(0, 3, 1, 2)
        return Made(x, steps or self.rows, steps or self.rows, time.perf_counter() - began)


def cases(model: str, samples: int, quick: bool, device: str | None = None) -> list[Case]:
    """The demo's cases, with a fifth of the steps where `quick`; raises ValueError for what cannot be sampled."""
    if samples < 1:
        raise ValueError(f"--batch is {samples}; type a whole number from 1")
    fewer = 5 if quick else 1
    found: list[Case] = [
        ModelCase(Request(model, rule, steps // fewer, batch=1, device=device))
        for rule, steps in (("ddpm", 1000), ("ddim", 200))
    ]
    if model == "scenes" and not quick:
        with contextlib.suppress(ImportError):  # without diffusers there is one case less
            found.append(PipelineCase(200, device))
    return found
