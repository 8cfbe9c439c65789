"""`paradigms sample`: runs a job, writes its pictures and numbers, and answers with an exit code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from ..distributed.partition import Sharing
from ..distributed.team import Team
from ..files import write_json
from ..solution import Solution, reason_words
from ..viz.progress import progress_bar
from ..viz.record import Moment, record_moments
from ..window.frame import Frame
from .many import sample_many, seconds_of_ranks
from .model_job import Job
from .output import CommandOutput
from .story import headline, tell_story


def run_job(job: Job, out: Path, count: int | None, team: Team | None, answer: CommandOutput, *, gif: bool) -> int:
    """Samples, writes grid.png, trace.png, trace.json and with `gif` sample.gif to `out`; 0 where it converged.

    count: so many samples of a seed and a file each instead, see `many.py`. team: ranks that share the rows.
    """
    if count is not None:
        seeds = range(job.request.seed, job.request.seed + count)
        return sample_many(lambda seed: run_seed(job.of(seed), team), out, seeds, team, answer)
    if team is not None and team.rank:
        return 0 if job.sample(mesh=team).converged else 1
    console = Console(stderr=True)
    moments: list[Moment] = []
    bar = progress_bar(len(job.system), console)

    def watch(frames: Iterable[Frame]) -> Iterator[Frame]:
        yield from bar(record_moments(frames, moments) if gif else frames)
        if console.is_terminal and job.request.compare:
            console.print("now one by one, to compare ...")

    solution = job.sample(watch, team)
    numbers = account_of(job, solution)
    for path in write_files(job, solution, numbers, moments, out):
        answer.wrote(path)
    console.print(summary_line(job, solution), highlight=False, soft_wrap=True)
    answer.numbers(numbers)
    return 0 if solution.converged else 1


def run_seed(job: Job, team: Team | None) -> tuple[Callable[[Path], None], int, int, Sharing | None]:
    """A sample of a seed: what writes it as a plain picture, and what it took."""
    solution = job.sample(mesh=team)

    def write(path: Path) -> None:
        from ..viz import pictures

        pictures.write_sample(path, solution.x)

    return write, solution.rounds, solution.evaluations, solution.sharing


def settings_of(job: Job) -> dict[str, Any]:
    """What decides a sample beside its seed, by name."""
    asked = job.request
    how = {k: getattr(asked, k) for k in ("model", "rule", "method", "criterion", "guess", "label", "guidance", "eta")}
    return how | {"clip": asked.clip, "steps": job.steps, "window": job.window, "tolerance": job.tolerance}


def write_files(
    job: Job, solution: Solution, numbers: dict[str, Any], moments: list[Moment], out: Path
) -> Iterator[Path]:
    """Writes the files of a run and names each when it is there."""
    from ..viz import pictures

    name = headline(job, solution)
    pictures.write_grid(out / "grid.png", name, pictures.rows_of(solution))
    yield out / "grid.png"
    pictures.write_trace(out / "trace.png", name, solution, len(job.system))
    yield out / "trace.png"
    rows = [[*row, window] for row, window in zip(solution.trace, solution.windows, strict=True)]
    details = {"columns": ["begin", "end", "evaluations", "window"], "trace": rows}
    write_json(out / "trace.json", numbers | details)
    yield out / "trace.json"
    if moments:
        from ..viz.gif import write_gif

        write_gif(out / "sample.gif", tell_story(job, solution, moments))
        yield out / "sample.gif"


def account_of(job: Job, solution: Solution) -> dict[str, Any]:
    """The numbers of a run by name, as JSON takes them; what was not asked for, or has no value, is None."""
    proof, asked = solution.verification, job.request
    return {
        "model": asked.model,
        "rule": asked.rule,
        "steps": job.steps,
        "rows": len(job.system),
        "method": asked.method,
        "guess": asked.guess,
        "window": job.window,
        "tolerance": job.tolerance,
        "criterion": asked.criterion,
        "seed": asked.seed,
        "batch": asked.batch,
        "device": str(job.device),
        "rounds": solution.rounds,
        "sample_rounds": solution.sample_rounds.tolist(),
        "evaluations": solution.evaluations,
        "max_error": json_number(solution.max_error),
        "median_error": json_number(solution.median_error),
        "residual": json_number(solution.residual.max()),
        "verified_residual": json_number(proof.residual.max()) if proof else None,
        "tv_bound": json_number(proof.tv_bound.max()) if proof else None,
        "seconds": solution.seconds,
        "sequential_seconds": solution.comparison.seconds if solution.comparison else None,
        "model_seconds": solution.model_seconds,
        "chunk": solution.chunk,
        **seconds_of_ranks(solution.sharing),
        "status": worst_status(solution),
    }


def json_number(value: Any) -> float | None:
    """A finite float, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def worst_status(solution: Solution) -> str:
    """The status of the sample that got least far."""
    return solution.status[int(solution.done.argmin())]


def summary_line(job: Job, solution: Solution) -> str:
    """The run in one line, for the terminal."""
    text = f"{worst_status(solution)}: {headline(job, solution)}, "
    text += f"{solution.evaluations:,} evaluations, {solution.seconds:.1f} s"
    if solution.comparison:
        text += f" (sequential {solution.comparison.seconds:.1f} s), largest relative error {solution.max_error:.2g}"
    if solution.sharing:
        text += f", on {len(solution.sharing.rows)} ranks"
    return text + reason_words(solution)
