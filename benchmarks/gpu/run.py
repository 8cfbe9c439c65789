"""Measures rows until they are done or time is up: each finished row is on disk before the next begins.

| in OUT/gpu.json | what                                                                                            |
| device          | where it was measured; a second run on another device or version is refused                     |
| rows            | what was measured, by name                                                                      |
| left out        | by name, why not: no time, a library that is missing, an error; tried again by the next run      |
| seconds         | what each took, and what was assumed                                                            |
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paradigms.files import read_json

from ..report import machine
from . import page
from .networks import MissingError
from .rows import Row
from .settings import Bench

NAME = "gpu"
KEEP = 15.0  # seconds that are kept to end in
WIDEST = 8.0  # times that a row may be assumed to take, whatever others took
SAME = ("gpu", "torch", "paradigms")  # of the machine, what a second run must agree on


class Results:
    """What is known so far, in memory and on disk."""

    def __init__(self, out: Path, bench: Bench) -> None:
        self.out, self.bench = out, bench
        self.about = {**machine(), **bench.device.facts(), "small": str(bench.settings.small)}
        self.data: dict[str, Any] = {"device": self.about, "rows": {}, "left out": {}, "seconds": {}}
        path = out / f"{NAME}.json"
        if path.is_file():
            before = read_json(path)
            if before.get("rows"):
                self.check(before.get("device", {}))
                self.data |= {k: before[k] for k in ("rows", "seconds") if k in before}

    def check(self, before: dict[str, str]) -> None:
        """Raises ValueError for results of another machine, version or size."""
        for name in (*SAME, "device", "small"):
            if before.get(name) != self.about[name]:
                raise ValueError(
                    f"--out holds results where {name} is {before.get(name)!r}, and here it is {self.about[name]!r}; "
                    "type another --out"
                )

    def done(self, row: Row) -> bool:
        """Whether an earlier row or run has measured it."""
        return row.name in self.data["rows"]

    def write(self, rows: Sequence[Row], full: Sequence[Row] = ()) -> str:
        """The page and the JSON; full: rows of a full run, whose seconds are estimated."""
        return page.write_page(self.out, NAME, self.data, rows, self.bench, full)


def measure(results: Results, rows: Sequence[Row]) -> None:
    """Row after row, while there is time for the next."""
    bench, taken, assumed = results.bench, 0.0, 0.0
    for row in rows:
        if results.done(row):
            continue
        factor = min(max(taken / assumed, 0.2), WIDEST) if assumed > 10 else 1.0
        needed = factor * row.seconds(bench.settings)
        if bench.left < needed + KEEP:
            results.data["left out"][row.name] = f"no time: it may take {needed:.0f} s, {bench.left:.0f} s were left"
            continue
        began, worked = time.monotonic(), time.process_time()
        one(results, row)
        took, worked = time.monotonic() - began, time.process_time() - worked
        if results.done(row):
            taken, assumed = taken + took, assumed + row.seconds(bench.settings)
            results.data["seconds"][row.name] = {
                "taken": took, "on the processor": worked, "assumed": row.seconds(bench.settings)
            }  # fmt: skip
        results.write(rows)
        said = f"{row.name}: {took:.1f} s ({worked:.1f} s on the processor), {bench.left:.0f} s left"
        print(said, file=sys.stderr, flush=True)


def one(results: Results, row: Row) -> None:
    """One row; what it lacks or raises is told, and costs no other row."""
    try:
        results.data["rows"][row.name] = row.work(results.bench)
        results.data["left out"].pop(row.name, None)
    except MissingError as why:
        results.data["left out"][row.name] = str(why)
    except Exception as error:
        traceback.print_exc()
        results.data["left out"][row.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    results.bench.device.release()
