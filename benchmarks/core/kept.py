"""How many samples are within the error that was asked, cell by cell, beside release 0.1.0.

    multiple = |x - sequential| / (|sequential| tolerance)        of each sample, on the same noise; kept: <= 1

A cell is a problem, rule and window; the problems are `bench frontier`'s and two Gaussians in 2, 16, 64 and 256
dimensions, whose means a seed draws. 200 samples a cell at least, in batches, a seed each; `--seeds tune` is what
constants may be chosen by, `--seeds report` what is reported. Rounds are each sample's own. Cheap cells come first;
OUT/kept-SEEDS.json is written after every batch, so that a run can be stopped and gone on with. What was measured with
other code of criterion, carry or rounds (comments apart) is measured anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import paradigms
from paradigms.files import write_json
from paradigms.methods.base import AbstractMethod
from paradigms.solution import relative_error
from paradigms.solve import DEFAULT_METHOD, criterion_of, sample, sequential
from paradigms.stopping.base import AbstractStop

from ..report import machine, write
from .kept_report import sections
from .problems import MODES, PLAN, Cell, Problem, chosen, planned, problem, two_gaussians
from .released import ReleasedFinalError, ReleasedSpectral

TOLERANCES = (0.01, 0.003, 0.001)
SAMPLES, QUICK_SAMPLES = 200, 20  # of a cell, at least
MOST, OF_A_MODEL, LEAST, ROOM = 50, 20, 5, 2**21  # samples of a batch; numbers in the states of its window
SEEDS = {"tune": 10_000, "report": 20_000}  # the seed of the first batch
CORE = ("methods/spectral.py", "stopping/final_error.py", "window/loop.py", "window/retry.py", "window/buffers.py")


@dataclass(frozen=True)
class Way:
    """A method and its criterion at a tolerance, and the files that its results depend on."""

    name: str
    make: Callable[[float], tuple[AbstractMethod, AbstractStop]]
    files: Callable[[], list[Path]]

    def settings(self) -> str:
        """What results depend on: with another they are measured anew."""
        method, stop = self.make(TOLERANCES[0])
        return f"{method!r}; {stop!r}; code {digest(self.files())}"


def digest(files: list[Path]) -> str:
    """A few letters that change with the code of the files, and not with what is said about it."""
    code = "".join(ast.dump(bare(ast.parse(file.read_text()))) for file in files)
    return hashlib.sha256(code.encode()).hexdigest()[:8]


def core() -> list[Path]:
    """The files of criterion, carry and rounds, and those of the library that criterion and carry import."""
    house = Path(paradigms.__file__).parent
    found: set[Path] = set()
    todo = [house / name for name in CORE]
    while todo:
        file = todo.pop()
        found.add(file)
        if file.relative_to(house).parts[0] in ("methods", "stopping"):  # rounds import the whole library
            todo += sorted(imported(file) - found)
    return sorted(found)


def imported(file: Path) -> set[Path]:
    """The files of methods and criteria that a file imports."""
    used = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom) and n.level]
    found = {(file.parents[n.level - 1] / f"{str(n.module).replace('.', '/')}.py") for n in used}
    return {f for f in found if f.is_file() and f.parent.name in ("methods", "stopping")}


def bare(tree: ast.Module) -> ast.Module:
    """The code without its docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


RELEASED, TODAY = "0.1.0", "today"
WAYS = (
    Way(
        RELEASED,
        lambda t: (ReleasedSpectral(), ReleasedFinalError(t)),
        lambda: [Path(__file__).with_name("released.py")],
    ),
    Way(TODAY, lambda t: (DEFAULT_METHOD, criterion_of(t, DEFAULT_METHOD)), core),
)


def cells(only: str = "", quick: bool = False) -> list[Cell]:
    """The cells whose name holds `only`, the cheapest first; raises ValueError where none does."""
    found = chosen(planned((*PLAN, *MODES)), only)
    found.sort(key=lambda c: c.run / c.batch / made(c, 0).per_second)
    return found[:2] if quick else found


def made(cell: Cell, seed: int) -> Problem:
    """The problem of a cell; of two Gaussians, those of the seed."""
    name, _, d = cell.problem.partition("-")
    return two_gaussians(int(d), seed) if name == "two" else problem(cell.problem)


def size(cell: Cell) -> int:
    """How many samples a batch has."""
    room = ROOM // (math.prod(made(cell, 0).shape) * cell.window)
    return max(min(room, OF_A_MODEL if cell.problem.startswith("two-") else MOST), LEAST)


class Batch:
    """The samples of one seed: system, noise, conditions, and the sequential samples (B, ...)."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell, self.problem, B = cell, made(cell, seed), size(cell)
        self.system, self.condition = self.problem.system(cell.rule), self.problem.condition(B)
        generator = torch.Generator().manual_seed(seed)
        self.x = self.system.noise((B, *self.problem.shape), generator)
        noisy = any(self.system.drawn)
        self.noise = torch.randn((len(self.system), *self.x.shape), generator=generator) if noisy else None
        self.reference = self.run(sequential)

    def run(self, sampler: Callable[..., Any], *method: Any, **how: Any) -> Any:
        """A sampler on these samples."""
        how |= {"noise": self.noise, "condition": self.condition}
        return sampler(self.problem.model, self.system, self.x, *method, **how)

    def measure(self, way: Way, tolerance: float) -> dict[str, Any]:
        """How many of them a way keeps within the tolerance, how far the others are off, and what it took."""
        method, stop = way.make(tolerance)
        try:
            run = self.run(sample, method, window=self.cell.window, tolerance=stop)
        except ArithmeticError as error:
            return {"samples": len(self.x), "kept": 0, "failed": str(error)}
        return account(run, relative_error(run.x, self.reference).double() / tolerance)


def account(run: Any, multiple: Tensor) -> dict[str, Any]:
    """The numbers of a run, whose samples have these multiples (B,) of the asked error."""
    rounds, missed = run.sample_rounds, (~(multiple <= 1)).nonzero().flatten().tolist()
    said = [state == "converged" for state in run.status]
    return {
        "samples": len(multiple),
        "kept": len(multiple) - len(missed),
        "silent": sum(said[b] for b in missed),
        "warned": len(said) - sum(said),
        "worst": round(float(multiple.max()), 4),
        "rounds": int(rounds.sum()),
        "max rounds": int(rounds.max()),
        "evals": run.evaluations,
        "missed": [[b, round(float(multiple[b]), 3)] for b in missed],
    }


def run(out: Path, todo: list[Cell], seeds: str, samples: int, minutes: float) -> dict[str, Any]:
    """The results of the file and of what is missing in it, as far as the time goes."""
    path, until, start = out / f"kept-{seeds}.json", time.monotonic() + 60 * minutes, first(seeds)
    settings = {way.name: way.settings() for way in WAYS}
    for cell in todo:
        for k in range(math.ceil(samples / size(cell))):
            ways = results(recall(path), cell, settings)
            missing = [way for way in WAYS if str(start + k) not in ways[way.name]["batches"]]
            if not missing:
                continue
            if time.monotonic() >= until:
                return recall(path)
            began, batch = time.perf_counter(), Batch(cell, start + k)
            found = {way.name: {f"{t:g}": batch.measure(way, t) for t in TOLERANCES} for way in missing}
            data = recall(path)  # again, for another run may have added to it since
            for name, points in found.items():
                results(data, cell, settings)[name]["batches"][str(start + k)] = points
            write_json(path, {"machine": machine(), **data})
            print(f"{cell.name}: seed {start + k}, {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return recall(path)


def results(data: dict[str, Any], cell: Cell, settings: Mapping[str, str]) -> dict[str, Any]:
    """A cell's results by way in `data`; those of other settings are forgotten."""
    facts = {"problem": cell.problem, "rule": cell.rule, "window": cell.window, "N": cell.rows}
    ways: dict[str, Any] = data["cells"].setdefault(cell.name, {**facts, "ways": {}})["ways"]
    for name, how in settings.items():
        if ways.get(name, {}).get("settings") != how:
            ways[name] = {"settings": how, "batches": {}}
    return ways


def first(seeds: str) -> int:
    """The seed of the first batch; raises ValueError for what names none."""
    if seeds not in SEEDS and not seeds.isdecimal():
        raise ValueError(f"--seeds is {seeds!r}; type {' or '.join(SEEDS)}, or a whole number, the first seed")
    return SEEDS[seeds] if seeds in SEEDS else int(seeds)


def recall(path: Path) -> dict[str, Any]:
    """What the file holds, or nothing yet; raises ValueError where it holds something else."""
    if not path.exists():
        return {"cells": {}}
    try:
        return {"cells": {name: dict(cell) for name, cell in json.loads(path.read_text())["cells"].items()}}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is nothing to go on with; move it away or type another --out") from error


def main(out: Path, seeds: str = "report", only: str = "", minutes: float = math.inf, quick: bool = False) -> None:
    """Measures what is missing, prints the report, writes OUT/kept-SEEDS.md and .json."""
    todo = cells(only, quick)
    data = run(out, todo, seeds, QUICK_SAMPLES if quick else SAMPLES, minutes)
    order = [cell.name for cell in planned((*PLAN, *MODES)) if cell.name in data["cells"]]
    data["cells"] = {name: data["cells"][name] for name in order}
    now = {way.name: way.settings() for way in WAYS}  # what other code measured is no result of this one
    shown = {
        name: {**cell, "ways": {w: entry for w, entry in cell["ways"].items() if entry["settings"] == now.get(w)}}
        for name, cell in data["cells"].items()
    }
    text = sections(shown, TODAY, RELEASED)
    print(write(out, f"kept-{seeds}", f"Samples kept within the asked error, seeds: {seeds}", text, data))
