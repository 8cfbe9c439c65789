"""What the demo says: a table with a speedup and an error for each sampler, and what is to be known of it in words.

speedup   seconds of all steps one by one / seconds of this sampler, sample by sample, the median
error     max |x - y| / |y|, y all steps
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import torch
from rich import box
from rich.table import Table

from ..distributed.plan import LINKS, Trace, predict_run
from ..solution import Solution, relative_error
from .demo_cases import Case, Made
from .plan import read_curve

# A speedup that needs a word. Chosen by hand.
LITTLE = 1.1
IN_PARALLEL = "  in parallel, window auto"
# Characters of a line. Chosen by hand.
WIDTH = 80


@dataclass(frozen=True)
class Result:
    """A case's samples: in parallel, step by step, in as many steps as rounds, in as many as evaluations or none."""

    case: Case
    first: float
    parallel: list[Made]
    sequential: list[Made]
    rounds: list[Made]
    evaluations: list[Made]

    @property
    def speedup(self) -> float:
        """Seconds of stepping over those in parallel."""
        return median(self.ratios(self.parallel))

    def ratios(self, made: Sequence[Made]) -> list[float]:
        """Seconds of stepping over those of another sampler, for each sample."""
        return [b.seconds / a.seconds for a, b in zip(made, self.sequential, strict=True)]

    def error(self, made: Sequence[Made]) -> float:
        """The largest relative error against the sequential samples."""
        return max(float(relative_error(a.x, b.x).max()) for a, b in zip(made, self.sequential, strict=True))


def seconds(made: Sequence[Made]) -> float:
    """Of a sample, the median."""
    return median(m.seconds for m in made)


def table(results: Sequence[Result]) -> Table:
    """The results as a table, one line a sampler: means of the counts, medians of the times."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("sampler, one sample at a time")
    for name in ("rounds", "evals", "seconds", "speedup", "error"):
        table.add_column(name, justify="right")
    for r in results:
        lines = [(r.case.title, r.sequential), (IN_PARALLEL, r.parallel), ("  few steps, equal rounds", r.rounds)]
        if r.evaluations:
            lines.append(("  few steps, equal evaluations", r.evaluations))
        for name, made in lines:
            rounds, evals = (round(fmean(v)) for v in ([m.rounds for m in made], [m.evaluations for m in made]))
            ratio = f"{median(r.ratios(made)):.1f}"
            error = "0" if made is r.sequential else f"{r.error(made):.2g}"
            cells = (name, f"{rounds:,}", f"{evals:,}", f"{seconds(made):.2f}", ratio, error)
            table.add_row(*cells, style="bold" if name == IN_PARALLEL else "")
        table.add_section()
    return table


def explain(results: Sequence[Result], device: torch.device) -> str:
    """What the table says, in plain sentences."""
    count = torch.get_num_threads()
    where = f"{count} CPU thread{'s' * (count != 1)}" if device.type == "cpu" else str(device)
    lines = [
        f"Measured here ({where}), the median of {len(results[0].parallel)} samples, made one at a time; each sampler "
        "made one before, which is not counted.",
        "Error: the largest relative error against all steps one by one, from the same noise.",
        "Few steps are a different chain: sooner, and a different picture. Whether it is as good, only you can say.",
        *(spread(r) for r in results if len(r.parallel) > 1),
    ]
    if dear := [r.case.title for r in results if not r.evaluations]:
        lines.append(f"Equal evaluations would be more than all the steps of {'; '.join(dear)}.")
    first = ", ".join(f"{r.first:.1f} s" for r in results)
    lines.append(f"The first call in parallel, which also looks for a window, took {first}.")
    lines += [
        f"{again} of {len(r.parallel)} samples of {r.case.title} were made again, as their error might have been too "
        "large; the seconds count both."
        for r in results
        if (again := sum(m.again for m in r.parallel))
    ]
    for r in results:
        if all(m.rounds >= r.case.rows for m in r.parallel):
            lines.append(f"{r.case.title} ran step by step: window auto found nothing faster here.")
        elif r.speedup < LITTLE:
            more = fmean(m.evaluations for m in r.parallel) / r.case.rows
            lines.append(
                f"{r.case.title} gains little here: {more:.1f} states were evaluated for each step, and each took "
                f"{1 / (r.speedup * more):.2f} of a step's time; a device with room for a batch gains more."
            )
    return "\n".join(wrapped(line) for line in lines)


def spread(r: Result) -> str:
    """The least and the most that a sample gained."""
    found = r.ratios(r.parallel)
    return f"{r.case.title}: {min(found):.1f} to {max(found):.1f} times as fast, sample by sample."


def wrapped(text: str) -> str:
    """A sentence, no wider than a page."""
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False)


def planned(solution: Solution | None) -> list[str]:
    """The line of what is planned, and was not measured: the animation's rounds with a large model on A100s."""
    if solution is None:
        return []
    evals, window = [0, *(e for _, _, e in solution.trace)], max(solution.windows)
    curve, rows = read_curve("sd2-a100"), tuple(b - a for a, b in pairwise(evals))
    trace = Trace(solution.steps, window, 1, (rows,), curve.size or 0.0)
    gains = [f"{predict_run(curve.latency, trace, P, LINKS['NVLink']).speedup:.1f} on {P}" for P in (1, 8)]
    rounds = f"{solution.steps:,} steps in {solution.rounds} rounds of up to {window} rows, as the animation takes them"
    return [wrapped(f"Planned, not measured: {rounds}, with Stable Diffusion 2 on A100s: speedup {', '.join(gains)}.")]


def account(r: Result) -> dict[str, Any]:
    """The numbers of a case by name, as JSON takes them."""
    ways = {
        "sequential": r.sequential,
        "parallel": r.parallel,
        "equal_rounds": r.rounds,
        "equal_evaluations": r.evaluations,
    }
    found: dict[str, Any] = {"case": r.case.title, "rows": r.case.rows, "first_seconds": r.first, "speedup": r.speedup}
    found["speedups"] = r.ratios(r.parallel)
    for name, made in ways.items():
        numbers = [{"rounds": m.rounds, "evals": m.evaluations, "seconds": m.seconds} for m in made]
        found[name] = {"samples": numbers, "max_error": r.error(made) if made else None}
    return found
