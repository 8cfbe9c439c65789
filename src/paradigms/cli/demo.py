"""`paradigms demo`: three rules on one model, sequential against parallel, and what else the same rounds could buy.

The honest rival of R parallel rounds is the plain sampler with R steps: as fast where rows are free, another sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..files import write_json
from ..solution import Comparison, Solution, relative_error
from ..viz.progress import progress_bar
from ..viz.record import Moment, record_moments
from ..window.frame import Frame
from .model_job import Job, Request, prepare_job
from .run_model import account_of
from .story import headline, tell_story
from .tables import print_table

CASES = (("ddpm", 1000), ("ddim", 200), ("dpmsolver", 50))


@dataclass(frozen=True)
class Result:
    """One rule's run: its job, its solution, its rounds as drawn, and the plain sample (B, ...) of as many steps."""

    job: Job
    solution: Solution
    moments: Sequence[Moment]
    few: Tensor

    @property
    def reference(self) -> Comparison:
        """The sequential sample."""
        assert self.solution.comparison is not None  # every job of the demo compares
        return self.solution.comparison

    @property
    def few_error(self) -> Tensor:
        """The relative error (B,) of the plain sample of as many steps."""
        return relative_error(self.few, self.reference.x)


def demo_jobs(model: str, batch: int, quick: bool, device: str | None = None) -> list[Job]:
    """The demo's jobs, with a fifth of the steps where `quick`; raises ValueError as `prepare` does."""
    fewer = 5 if quick else 1
    asked = [Request(model, rule, n // fewer, window="wide") for rule, n in CASES]
    return [prepare_job(replace(case, batch=batch, seed=1, compare=True, device=device)) for case in asked]


def demo(prepared: Sequence[Job], out: Path) -> int:
    """Runs the jobs, writes their pictures to `out` and prints the table; 0 where all converged."""
    results: list[Result] = []
    for job in prepared:
        result = play_job(job)
        picture_of(result, out, gif=not results)  # one animation, of the longest chain
        results.append(result)
    print_table(demo_table(results))
    print(explanation(results))
    print(f"Pictures, traces and the animation are in {out}")
    numbers = [account_of(r.job, r.solution) | {"few_step_max_error": float(r.few_error.max())} for r in results]
    write_json(out / "demo.json", {"runs": numbers})
    return 0 if all(r.solution.converged for r in results) else 1


def play_job(job: Job) -> Result:
    """Both samplers and the plain one of as many steps as the parallel one took rounds."""
    moments: list[Moment] = []
    console = Console(stderr=True)
    console.print(f"{job.title}, {job.steps} steps: in parallel, then one by one ...", highlight=False)
    bar = progress_bar(len(job.system), console)

    def watch(frames: Iterable[Frame]) -> Iterator[Frame]:
        return bar(record_moments(frames, moments))

    solution = job.sample(watch)
    few = prepare_job(replace(job.request, steps=solution.rounds)).sequential()
    return Result(job, solution, moments, few)


def picture_of(result: Result, out: Path, gif: bool) -> None:
    """One comparison, one trace and, if wanted, the animation of a result."""
    from ..viz import pictures
    from ..viz.gif import write_gif
    from ..viz.palette import pixels

    job, solution = result.job, result.solution
    name, rule = headline(job, solution), job.request.rule
    rows = [
        (f"sequential\n{len(job.system)} rounds", pixels(result.reference.x)),
        (f"parallel\n{solution.rounds} rounds", pixels(solution.x)),
        (f"few steps\n{solution.rounds} rounds", pixels(result.few)),
    ]
    pictures.write_grid(out / f"{rule}.png", name, rows)
    pictures.write_trace(out / f"{rule}_trace.png", name, solution, len(job.system))
    if gif:
        write_gif(out / f"{rule}.gif", tell_story(job, solution, result.moments))


def demo_table(results: Sequence[Result]) -> Table:
    """The results as a table, one line a sampler."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("sampler")
    for name in ("tolerance", "rounds", "evaluations", "seconds", "max error", "median error"):
        table.add_column(name, justify="right")
    for result in results:
        job, solution, rows, few = result.job, result.solution, len(result.job.system), result.few_error
        rounds, batch, seconds = solution.rounds, len(solution.x), result.reference.seconds
        rule, tolerance = job.title, f"{job.tolerance:g}"
        errors = (f"{solution.max_error:.4f}", f"{solution.median_error:.4f}")
        table.add_row(f"{rule}, {job.steps} steps", "", str(rows), f"{batch * rows:,}", f"{seconds:.1f}", "0", "0")
        cost = (str(rounds), f"{solution.evaluations:,}", f"{solution.seconds:.1f}")
        table.add_row(f"in parallel, window {job.window}", tolerance, *cost, *errors, style="bold")
        short = (str(rounds), f"{batch * rounds:,}", "", f"{few.max():.4f}", f"{few.median():.4f}")
        table.add_row(f"{rule}, {rounds} steps", "", *short, end_section=True)
    return table


def explanation(results: Sequence[Result]) -> str:
    """What the table says, in plain sentences."""
    few, count = results[0].solution.rounds, torch.get_num_threads()
    cores = f"{count} CPU core{'s' * (count != 1)}"
    where = cores if (device := results[0].job.device).type == "cpu" else str(device)
    return (
        f"Error: relative to the sequential sample of all steps, same noise, {len(results[0].solution.x)} in a batch.\n"
        f"A chain of few steps is another chain: the noise of {few} steps makes another picture.\n"
        "Rounds are model batches one after the other: the time, where a device takes a window at once.\n"
        f"Seconds here ({where}, shared by a window's rows) follow evals, not rounds: compare them above.\n"
    )
