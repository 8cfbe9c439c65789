"""`python -m benchmarks gpu`: what is asked for becomes work.

The options are typer's, as those of all benchmarks, where it is installed; else argparse reads the same ones, for a
machine with a GPU may have torch and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paradigms.files import make_folder

from .device import device_of
from .rows import all_rows
from .run import Results, measure
from .settings import FULL, PARTS, SMALL, Bench

BAD = 2  # exit code of bad input
SUMMARY = "Every number that a GPU is asked for, the most important first; goes on where it was stopped."


@dataclass(frozen=True)
class Asked:
    """What was typed."""

    out: Path = Path("out/bench")
    minutes: float = 8.0
    parts: str = ",".join(PARTS)
    device: str | None = None
    small: bool = False
    plan: bool = False


def parsed(given: Sequence[str]) -> Asked:
    """What was typed, without typer."""
    made, usual = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=SUMMARY), Asked()
    made.add_argument("--out", type=Path, default=usual.out, help="folder of gpu.json and gpu.md")
    made.add_argument("--minutes", type=float, default=usual.minutes, help="begin no row that may end later")
    made.add_argument("--parts", default=usual.parts, help="some of latency,ways,tables,outside,planner")
    made.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU, if there is one)")
    made.add_argument("--small", action="store_true", help="small networks and short chains, for a CPU")
    made.add_argument("--plan", action="store_true", help="measure nothing: the rows, and an estimate of their seconds")
    return Asked(**vars(made.parse_args(list(given))))


def prepared(asked: Asked) -> Callable[[], None]:
    """The work, once all that can be checked is checked; raises ValueError."""
    parts = tuple(part for part in asked.parts.split(",") if part)
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"--parts is {asked.parts!r}; type some of {','.join(PARTS)}")
    if not asked.minutes > 0:
        raise ValueError(f"--minutes is {asked.minutes:g}; type a positive number")
    bench = Bench(device_of(asked.device), SMALL if asked.small else FULL, asked.minutes)
    results, rows = Results(make_folder(asked.out), bench), all_rows(bench.settings, parts)

    def work() -> None:
        if not asked.plan:
            measure(results, rows)
        print(results.write(rows, all_rows(FULL)))

    return work


def main(given: Sequence[str]) -> int:
    """Measures and prints the page; the exit code."""
    try:
        work = prepared(parsed(given))
    except ValueError as error:
        print(error, file=sys.stderr)
        return BAD
    work()
    return 0
