"""`python -m benchmarks gpu`, by the standard library's argparse: a machine with a GPU may have torch and nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paradigms.files import make_folder

from .device import device_of
from .rows import all_rows
from .run import Results, measure
from .settings import FULL, PARTS, SMALL, Bench

BAD = 2  # exit code of bad input


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    made = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=(__doc__ or "").split(":")[0])
    made.add_argument("--minutes", type=float, default=8.0, help="begin no row that may end later (default: 8)")
    made.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of gpu.json and gpu.md")
    made.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    made.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU, if there is one)")
    made.add_argument("--small", action="store_true", help="small networks, short chains: the program itself, on a CPU")
    made.add_argument("--plan", action="store_true", help="measure nothing: the rows and an estimate of their seconds")
    return made


def prepared(given: Sequence[str]) -> tuple[Results, list, bool]:  # type: ignore[type-arg]
    """The results so far and the rows, checked; raises ValueError."""
    asked = parser().parse_args(list(given))
    parts = tuple(part for part in asked.parts.split(",") if part)
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"--parts is {asked.parts!r}; type some of {','.join(PARTS)}")
    if not asked.minutes > 0:
        raise ValueError(f"--minutes is {asked.minutes}; type a positive number")
    bench = Bench(device_of(asked.device), SMALL if asked.small else FULL, asked.minutes)
    return Results(make_folder(asked.out), bench), all_rows(bench, parts), asked.plan


def main(given: Sequence[str]) -> int:
    """Measures, prints the page; the exit code."""
    try:
        results, rows, plan = prepared(given)
    except ValueError as error:
        print(error, file=sys.stderr)
        return BAD
    if not plan:
        measure(results, rows)
    print(results.write(rows))
    return 0
