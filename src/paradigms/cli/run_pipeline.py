"""A pipeline of `pipeline_job.py` is run: pictures as PNG, its account as JSON, and the sequential run beside it.

    max_error = max over samples of |x - y| / |y|,    psnr = min of -10 log10 mean((x - y)^2 / 4)

x the pictures in [-1, 1] as they came in parallel, y as they came step by step, of the same seed. A film is an animated
PNG. The criterion bounds the error of what the loop carries (latents); a decoder may make more or less of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ..adapters import Run, parallelize
from ..distributed.partition import Sharing
from ..distributed.team import Team
from ..execution.evaluate import NonFiniteError
from ..files import write_json, write_whole
from ..solution import relative_error
from .many import sample_many, seconds_of_ranks
from .output import CommandOutput
from .pipeline_job import PipelineJob

# Milliseconds that a frame of a film is shown. Chosen by hand.
FILM = 125


@dataclass(frozen=True)
class Sequential:
    """The pipeline's own run: its pictures in [-1, 1], (B, H, W, C) or (B, frames, H, W, C), and its seconds."""

    x: Tensor
    seconds: float


def run_job(ready: PipelineJob, out: Path, count: int | None, team: Team | None, answer: CommandOutput) -> int:
    """Samples, writes parallel-0.png, .., run.json and, to compare, sequential-0.png, .. to `out`; gives 0.

    count: so many samples of a seed and a file each instead, see `many.py`. team: ranks that share the rows.
    A pipeline that could not be run in parallel, and ran step by step, gives 0 too: its status says so.
    """
    console, first = Console(stderr=True), team is None or team.rank == 0
    ready.pipe.set_progress_bar_config(disable=not (console.is_terminal and first and count is None))
    if count is not None:
        seeds = range(ready.ask.seed, ready.ask.seed + count)
        return sample_many(lambda seed: run_seed(ready, seed, team), out, seeds, team, answer)
    x, report = run_parallel(ready, team)
    if not first:
        return 0
    began = time.perf_counter()
    reference = Sequential(pictures_of(ready), time.perf_counter() - began) if ready.ask.compare else None
    numbers = account_of(ready, report, x, reference)
    for path in write_pictures(out, x, reference):
        answer.wrote(path)
    write_json(out / "run.json", numbers | {"accepted": report.accepted, "windows": report.windows})
    answer.wrote(out / "run.json")
    console.print(summary_line(numbers), highlight=False, soft_wrap=True, markup=False)
    for line in report.reason_lines():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    answer.numbers(numbers)
    return 0


def run_parallel(ready: PipelineJob, team: Team | None) -> tuple[Tensor, Run]:
    """The pictures in parallel, and the report."""
    with parallelize(ready.pipe, ready.method, tolerance=ready.stop, window=ready.window, mesh=team) as report:
        return pictures_of(ready), report


def run_seed(
    ready: PipelineJob, seed: int, team: Team | None
) -> tuple[Callable[[Path], None], int, int, Sharing | None]:
    """The picture of a seed: what writes it, and what it took."""
    x, report = run_parallel(replace(ready, ask=replace(ready.ask, seed=seed)), team)
    return lambda path: write_picture(path, x[0]), report.rounds, report.evaluations, report.sharing


def settings_of(ready: PipelineJob) -> dict[str, Any]:
    """What decides a picture beside its seed, by name, as JSON takes it."""
    ask = ready.ask
    how = {k: getattr(ask, k) for k in ("model", "rule", "method", "criterion", "dtype", "variant")}
    given = {option: value for option, value in ask.options.items() if value is not None}
    return how | {"steps": ready.steps, "window": ready.window, "tolerance": ready.stop.tolerance, "options": given}


def pictures_of(ready: PipelineJob) -> Tensor:
    """One call of the pipeline: its pictures in [-1, 1], on the CPU; raises ValueError where it makes none, and
    NonFiniteError for NaN."""
    torch.manual_seed(ready.ask.seed)  # some pipelines draw from torch's own generator, such as a class
    generator = torch.Generator().manual_seed(ready.ask.seed)  # on the CPU, so that a seed is one sample on any device
    made = ready.pipe(**ready.arguments, generator=generator)[0]
    x = torch.as_tensor(made) if isinstance(made, Tensor) else torch.stack([torch.as_tensor(v) for v in made])
    if x.ndim not in (4, 5) or x.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{type(ready.pipe).__name__} makes no pictures but something of shape {tuple(x.shape)}")
    x = 2 * x.float().cpu() - 1
    if len(bad := (~torch.isfinite(x)).flatten(1).any(1).nonzero()):
        raise NonFiniteError(
            f"{type(ready.pipe).__name__}: picture {int(bad[0])} is not finite, so a network answered NaN or infinity; "
            "check the weights, or type --dtype float32 or bfloat16"
        )
    return x


def write_pictures(out: Path, x: Tensor, reference: Sequential | None) -> Iterator[Path]:
    """Writes the pictures of a run and names each when it is there."""
    for name, samples in (("parallel", x), ("sequential", reference.x if reference else x[:0])):
        for k, sample in enumerate(samples):
            write_picture(out / f"{name}-{k}.png", sample)
            yield out / f"{name}-{k}.png"


def write_picture(path: Path, x: Tensor) -> None:
    """Writes a picture (H, W, C) or a film (frames, H, W, C) in [-1, 1]."""
    from PIL import Image

    frames = (x if x.ndim == 4 else x[None]).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    first, *rest = [Image.fromarray(frame.squeeze(-1).numpy()) for frame in frames]
    more: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": FILM, "loop": 0} if rest else {}
    with write_whole(path) as partial:
        first.save(partial, format="PNG", **more)


def account_of(ready: PipelineJob, report: Run, x: Tensor, reference: Sequential | None) -> dict[str, Any]:
    """The numbers of a run by name, as JSON takes them; what was not asked for, or has no value, is None."""
    ask, pipe = ready.ask, ready.pipe
    error = relative_error(x, reference.x) if reference else None
    return {
        "model": ask.model,
        "pipeline": type(pipe).__name__,
        "scheduler": type(pipe.scheduler).__name__,
        "rule": ask.rule,
        "steps": ready.steps,
        "rows": report.steps,
        "method": ask.method,
        "window": ready.window,
        "tolerance": ready.stop.tolerance,
        "criterion": ask.criterion,
        "seed": ask.seed,
        "batch": ask.batch,
        "options": {option: value for option, value in ask.options.items() if value is not None},
        "device": str(pipe.device),
        "dtype": ask.dtype,
        "rounds": report.rounds,
        "evaluations": report.evaluations,
        "checks": report.checks,
        "max_error": None if error is None else json_number(error.max()),
        "median_error": None if error is None else json_number(error.median()),
        "psnr": None if reference is None else json_number(psnr(x, reference.x).min()),
        "residual": json_number(report.residual),
        "seconds": report.seconds,
        "sequential_seconds": reference.seconds if reference else None,
        "model_seconds": report.model_seconds,
        "fallbacks": report.fallbacks,
        **seconds_of_ranks(report.sharing),
        "estimate": None if report.estimate is None else json_number(report.estimate),
        "status": report.status,
    }


def psnr(x: Tensor, reference: Tensor) -> Tensor:
    """The peak signal-to-noise ratio (B,) in dB of pictures in [-1, 1]; infinite where they are equal."""
    return -10 * ((x - reference) / 2).square().flatten(1).mean(1).log10()


def json_number(value: Any) -> float | None:
    """A finite float, or None."""
    return float(value) if math.isfinite(value) else None


def summary_line(numbers: dict[str, Any]) -> str:
    """The run in one line, for the terminal."""
    text = (
        f"{numbers['status']}: {numbers['pipeline']} under {numbers['scheduler']}, {numbers['rows']} steps in "
        f"{numbers['rounds']} rounds, {numbers['evaluations']:,} evaluations, {numbers['seconds']:.1f} s"
    )
    if numbers["sequential_seconds"] is None:
        return text
    like = "equal" if numbers["psnr"] is None else f"PSNR {numbers['psnr']:.1f} dB"
    text += f" (sequential {numbers['sequential_seconds']:.1f} s)"
    return f"{text}, largest relative error of a picture {numbers['max_error']:.2g}, {like}"
