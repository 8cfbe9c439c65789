"""The rows of Stable Diffusion 2 and LSUN: a real pipeline three ways, its pictures scored by torchmetrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.cli.pipeline_job import PipelineJob, PipelineRequest, prepare_pipeline
from paradigms.cli.run_pipeline import pictures_of, run_parallel
from paradigms.distributed.team import Team
from paradigms.methods.guess import Copy
from paradigms.methods.picard import Picard
from paradigms.solution import relative_error
from paradigms.stopping.step_noise import StepNoise

from ..images import gallery
from .published import Row
from .ways import OURS, PAPER, PAPERS_TOLERANCE, SEQUENTIAL, Told

Score = Callable[[Tensor, Sequence[str]], float | None]


@dataclass(frozen=True)
class Scored:
    """The score of a row's pictures, and what is to be said of it."""

    score: Score
    note: str


def measure(
    row: Row, ask: PipelineRequest, count: int, prompts: Sequence[str], scored: Scored, team: Team | None
) -> dict[str, Told]:
    """Every way's account of `count` samples, one at a time; all ranks of a team take part in the parallel ways."""
    ready = prepare_pipeline(replace(ask, rule=row.rule, steps=ask.steps or row.steps, options=words(row, prompts[0])))
    ready.pipe.set_progress_bar_config(disable=True)
    ways = {SEQUENTIAL: ready, PAPER: as_the_paper(ready), OURS: ready}
    found, made = {way: Told() for way in ways}, {way: list[Tensor]() for way in ways}
    for seed in range(-1, count):  # the first sample warms up
        prompt = prompts[seed % len(prompts)]
        for way, job in ways.items():
            job = of_seed(job, max(seed, 0), words(row, prompt))
            wait(job)
            began = time.perf_counter()
            if way == SEQUENTIAL:
                x, evaluations, rounds = pictures_of(job), job.steps, job.steps
            else:
                x, report = run_parallel(job, team)
                evaluations, rounds = report.evaluations, report.rounds
            wait(job)
            if seed >= 0:
                told = found[way]
                told.seconds.append(time.perf_counter() - began)
                told.evaluations.append(evaluations)
                told.rounds.append(rounds)
                made[way].append(x)
                told.errors.append(float(relative_error(x, made[SEQUENTIAL][seed]).max()))
    for way, told in found.items() if team is None or team.rank == 0 else ():
        told.quality = scored.score(gallery.bytes_of(torch.cat(made[way])), prompts)
    return found


def wait(job: PipelineJob) -> None:
    """Until the device of a pipeline has done all."""
    if job.pipe.device.type == "cuda":
        torch.cuda.synchronize(job.pipe.device)


def words(row: Row, prompt: str) -> dict[str, Any]:
    """The prompt, for a pipeline that takes one."""
    return {"--prompt": prompt} if row.model == "sd2" else {}


def of_seed(job: PipelineJob, seed: int, options: dict[str, Any]) -> PipelineJob:
    """The same pipeline with another seed and prompt."""
    changed = {"prompt": options["--prompt"]} if options else {}
    return replace(job, ask=replace(job.ask, seed=seed, options=options), arguments={**job.arguments, **changed})


def as_the_paper(job: PipelineJob) -> PipelineJob:
    """With the paper's iteration and criterion."""
    return replace(job, method=Picard(Copy()), stop=StepNoise(PAPERS_TOLERANCE))


def scored(row: Row, device: torch.device, clip: str | None, reference: Path | None, side: int, local: bool) -> Scored:
    """The published metric of a row: CLIP's or Inception's network from this machine, or from the hub."""
    try:
        if row.quality == "CLIP score":
            metric = gallery.clip_metric(device, clip, local)
            return Scored(gallery.quality(metric, None), f"CLIP score by {clip or gallery.CLIP}.")
        if reference is None:
            return Scored(gallery.quality(None, None), "FID: not measured, for no --reference DIR was given.")
        pictures = gallery.read_reference(reference, side).to(device)
        metric = gallery.frechet_metric(device)
        return Scored(gallery.quality(metric, pictures), f"FID to {len(pictures)} pictures; of few it is too large.")
    except ValueError as error:
        return Scored(gallery.quality(None, None), f"{row.quality}: not measured: {error}.")


def random_score(row: Row, folder: Path, size: int) -> Scored:
    """The same metric with random networks of features, for what can be had without a download."""
    from . import narrow

    cpu, note = torch.device("cpu"), "by torchmetrics with random weights: it says that the path works, and no quality."
    if row.quality == "CLIP score":
        return Scored(
            gallery.quality(gallery.clip_metric(cpu, narrow.save_clip(folder)), None),
            f"CLIP score {note} A negative cosine counts 0.",
        )
    real = torch.randint(0, 256, (16, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Scored(gallery.quality(gallery.frechet_metric(cpu, narrow.Features()), real), f"FID {note}")
