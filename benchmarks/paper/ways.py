"""The three ways of every row: the pipeline's or policy's own loop, the paper's iteration, ours.

| way        | method                     | criterion                | window          |
| sequential | none                       |                          |                 |
| ParaDiGMS  | Picard, the guess a copy   | 0.1 of a step's noise    | the row's       |
| ours       | the default                | the default, 0.003       | the row's       |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from ..report import table
from .published import Line, Row

SEQUENTIAL, PAPER, OURS = "sequential", "ParaDiGMS", "ours"
PAPERS_TOLERANCE = 0.1  # of a step's noise. Source: Shih et al. 2023, section 4
NOT = "not measured"
HEAD = ("way", "evaluations", "rounds", "{}", "s, median", "least - most", "speedup", "median error", "largest error")


@dataclass
class Told:
    """What was measured of a way: a number a sample, and the quality of all."""

    evaluations: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    quality: float | None = None


def lines(row: Row, found: dict[str, Told]) -> str:
    """The table of a row: what was measured, and beneath it what was published."""
    base = found.get(SEQUENTIAL)
    body = [measured(name, told, base) for name, told in found.items()]
    body += printed(row, SEQUENTIAL, row.sequential) + printed(row, PAPER, row.parallel)
    return table([h.format(row.quality) for h in HEAD], body)


def measured(name: str, told: Told, base: Told | None) -> list[str]:
    """A line that was measured here."""
    counts = [f"{fmean(v):.4g}" for v in (told.evaluations, told.rounds)]
    quality = NOT if told.quality is None else f"{told.quality:.3g}"
    spread = f"{min(told.seconds):.3g} - {max(told.seconds):.3g}"
    speedup = f"{median(base.seconds) / median(told.seconds):.2f}" if base else NOT
    errors = ["", ""] if name == SEQUENTIAL else [f"{median(told.errors):.2g}", f"{max(told.errors):.2g}"]
    return [name, *counts, quality, f"{median(told.seconds):.3g}", spread, speedup, *errors]


def printed(row: Row, name: str, line: Line | None) -> list[list[str]]:
    """A line as the paper prints it; none where it is not at hand."""
    if line is None or row.sequential is None:
        return []
    where = f", {row.devices}" if row.devices else ""
    speedup = f"{row.sequential.seconds / line.seconds:.2f}"
    told = [str(line.evaluations), str(line.rounds), f"{line.quality:g}", f"{line.seconds:g}", "", speedup, "", ""]
    return [[f"{name}, published{where}", *told]]


def numbers(found: dict[str, Told]) -> dict[str, Any]:
    """What JSON keeps."""
    return {name: vars(told) for name, told in found.items()}
