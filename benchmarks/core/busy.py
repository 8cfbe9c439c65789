"""`python -m benchmarks auto --busy`: the first call of fresh processes while every core has other work.

    spread = (most rounds - least rounds) / median,  of equal calls

What auto picks should come from the chain, and from times as far as others' work does not change them: so equal calls
should take about equally many rounds. Results go to out/auto-busy.json after every process, and what is there is not
measured again.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paradigms.files import write_json

from ..report import machine, table, write
from .auto import Cell, cells, timed, told

BUSY = ("digits, 1, DDIM-200", "mixture-64, 1, DDIM-200", "scenes, 1, DDIM-200", "room for 16, 1, DDPM-100")
PROCESSES, LIMIT = 20, 0.15  # fresh ones a cell; what the spread of their rounds should be at most
WORK = "while True: pass"

HEAD = ("model", "samples", "rule", "processes", "rounds: least", "median", "most", "spread", "seconds", "windows",
        "why steps")  # fmt: skip


def first(name: str) -> dict[str, Any]:
    """The first call of a process, of the cell of this name: its rounds, seconds and windows."""
    cell: Cell = dict(cells())[name]()
    seconds, (_, windows) = timed(lambda: cell.call("auto", 0))
    used = windows()
    return {"rounds": len(used), "seconds": seconds, "windows": told(used), "reason": cell.reason()}


@contextlib.contextmanager
def loaded(cores: int) -> Iterator[None]:
    """Within it so many processes compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(cores)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


def fresh(name: str) -> dict[str, Any]:
    """`first`, of a process of its own."""
    code = "import json, sys; from benchmarks.core.busy import first; print(json.dumps(first(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, name], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, runs: list[dict[str, Any]]) -> list[Any]:
    """A cell's line of the table."""
    model, batch, rule = name.split(", ")
    rounds = [run["rounds"] for run in runs]
    usual = sorted(runs, key=lambda run: run["rounds"])[len(runs) // 2]
    return [
        model, int(batch), rule, len(runs), min(rounds), int(statistics.median(rounds)), max(rounds), spread(rounds),
        statistics.median(run["seconds"] for run in runs), usual["windows"], usual["reason"] or "",
    ]  # fmt: skip


def spread(rounds: list[int]) -> float:
    """How far the rounds of equal calls lie apart, in their median."""
    return (max(rounds) - min(rounds)) / statistics.median(rounds)


def main(out: Path, only: str = "", minutes: float = 4.0, processes: int = PROCESSES) -> None:
    """Measures what is missing for so many minutes, prints the table and writes out/auto-busy.md and .json."""
    path, began = out / "auto-busy.json", time.perf_counter()
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())["cells"] if path.exists() else {}
    with loaded(os.cpu_count() or 1):
        for name in (name for name in BUSY if only in name):
            runs = found.setdefault(name, [])
            while len(runs) < processes and time.perf_counter() - began < 60 * minutes:
                runs.append(fresh(name))
                write_json(path, {"machine": machine(), "cells": found})
                print(name, runs[-1], file=sys.stderr, flush=True)
    lines = [row(name, runs) for name, runs in found.items() if runs]
    even = sum(line[HEAD.index("spread")] <= LIMIT for line in lines)
    count = f"In {even} of {len(lines)} cells the rounds of equal calls lie within {LIMIT:.0%} of their median."
    sections = [("The count", count), ("The first call of a fresh process", table(HEAD, lines))]
    print(write(out, "auto-busy", "The window that picks itself on a busy machine", sections, {"cells": found}))
