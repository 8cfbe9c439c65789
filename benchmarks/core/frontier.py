"""Every iteration at matched final error, beside the plain few-step sampler and diffusers.

    error = |x - sequential| / |sequential| of each sample, on the same noise
    rounds(method, limit) = the least mean rounds among the tolerances swept whose largest error is <= limit

Nothing is interpolated: only measured points count. Tolerances are swept from loose to tight, down to the first whose
largest error is within the tightest limit; a method that promises an error is swept to the end, to be calibrated.

Results go to out/frontier.json after every method of every cell (problem, rule, window), so that a run can be stopped
and gone on with, or two run side by side on other cells; what is there with the same settings is not measured again. A
new method is one line in contestants.py.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.files import make_folder, write_json
from paradigms.solution import relative_error
from paradigms.solve import sample, sequential

from ..report import machine, table, write
from . import outside
from .contestants import CONTESTANTS, Contestant
from .glance import short_sections
from .matched import BASE, LIMITS, calibration, plain_steps, rivals, sections
from .problems import FURTHER, Cell, Problem, cells, coupled, draw, planned, problem

OUTSIDE, SAMPLES = "diffusers", 2  # of which this many samples are run, one at a time


class Stage:
    """What all methods share in cells of one problem, rule and batch: the system, the noise, the sequential sample."""

    def __init__(self, cell: Cell) -> None:
        self.name = f"{cell.problem}/{cell.rule}/{cell.batch}"
        self.problem: Problem = problem(cell.problem)
        self.system, self.condition = self.problem.system(cell.rule), self.problem.condition(cell.batch)
        self.x, self.noise = draw(self.problem, self.system, cell.batch)
        self.rule = cell.rule

    @cached_property
    def reference(self) -> Tensor:
        """The sequential sample (B, ...)."""
        return sequential(self.problem.model, self.system, self.x, noise=self.noise, condition=self.condition)

    def few(self, steps: int) -> dict[str, float]:
        """The errors of the plain sampler of so many steps, on the same noise as far as it can be."""
        short = self.problem.system(self.rule, steps)
        how = coupled(self.system, short, self.x, self.noise)
        return errors(sequential(self.problem.model, short, condition=self.condition, **how), self.reference)


def errors(x: Tensor, reference: Tensor) -> dict[str, float]:
    """The largest and the median relative error of samples (B, ...)."""
    error = relative_error(x, reference).double()
    return {"max error": float(error.max()), "median error": float(error.median())}


def measure(cell: Cell, contestant: Contestant, stage: Stage) -> list[dict[str, float | str]]:
    """One point a tolerance; a method that leaves the finite numbers is written down as failed there."""
    points: list[dict[str, float | str]] = []
    for tolerance in contestant.tolerances:
        method, stop = contestant.make(tolerance)
        how: dict[str, Any] = {"window": cell.window, "tolerance": stop, "condition": stage.condition}
        try:
            run = sample(stage.problem.model, stage.system, stage.x, method, noise=stage.noise, **how)
        except ArithmeticError as error:
            points.append({"tolerance": tolerance, "failed": str(error)})
            continue
        rounds = run.sample_rounds.double()
        spent = {
            "rounds": float(rounds.mean()),
            "max rounds": float(rounds.max()),
            "evals / N": run.evaluations / (cell.batch * cell.rows),
        }
        points.append({"tolerance": tolerance, **spent, **errors(run.x, stage.reference)})
        if contestant.promises:
            points[-1]["kept"] = float((relative_error(run.x, stage.reference) <= tolerance).double().mean())
        if not contestant.promises and float(points[-1]["max error"]) <= min(LIMITS):
            break
    return points


def measure_outside(cell: Cell, stage: Stage) -> list[dict[str, float | str]]:
    """diffusers' loop, one point a tolerance in its own meaning, after its sequential run was seen to equal ours."""
    made = outside.scheduler(cell.rule, cell.rows, stage.problem.prediction)
    B = min(SAMPLES, cell.batch)

    def alone(b: int) -> outside.Start:
        noise = None if stage.noise is None else stage.noise[:, b : b + 1]
        return outside.Start(stage.x[b : b + 1], noise, {k: v[b : b + 1] for k, v in stage.condition.items()})

    outside.agree(made, stage.problem.model, alone(0), stage.reference[:1])
    points: list[dict[str, float | str]] = []
    for tolerance in outside.TOLERANCES:
        found = [outside.loop(made, stage.problem.model, alone(b), cell.window, tolerance) for b in range(B)]
        rounds, evaluations = [f.rounds for f in found], sum(f.evaluations for f in found)
        spent = {
            "rounds": sum(rounds) / B,
            "max rounds": float(max(rounds)),
            "evals / N": evaluations / (B * cell.rows),
        }
        x = torch.cat([f.x for f in found])
        points.append({"tolerance": tolerance, **spent, **errors(x, stage.reference[:B])})
        if float(points[-1]["max error"]) <= min(LIMITS):
            break
    return points


def jobs(
    cell: Cell, contestants: tuple[Contestant, ...]
) -> Iterator[tuple[str, dict[str, Any], Callable[[Stage], Any]]]:
    """Everything to measure in a cell: name, what is known of it beforehand, how."""
    for c in contestants:
        if c.runs(cell):
            about = {"settings": c.settings(cell.batch)} | ({"law": True} if c.law else {})
            yield c.name, about, lambda stage, c=c: measure(cell, c, stage)  # type: ignore[misc]
    if compared_outside(cell):
        told = f"tolerance {', '.join(f'{t:g}' for t in outside.TOLERANCES)}; {min(SAMPLES, cell.batch)} samples"
        yield OUTSIDE, {"settings": told}, lambda stage: measure_outside(cell, stage)


def compared_outside(cell: Cell) -> bool:
    """Whether diffusers' loop is run there: it has the rule, and the cell is not of FURTHER, to save hours."""
    return outside.available(cell.rule) and cell not in planned(FURTHER)


def run(
    out: Path, todo: list[Cell], contestants: tuple[Contestant, ...], again: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The results of out/frontier.json and of what was missing in it, which is written after every measurement."""
    data, stage = recall(out), None
    for cell in todo:
        facts = {"problem": cell.problem, "rule": cell.rule, "window": cell.window, "batch": cell.batch, "N": cell.rows}
        for name, about, work in jobs(cell, contestants):
            known = data["cells"].get(cell.name, {"methods": {}})["methods"].get(name, {})
            if name not in again and known.get("settings") == about["settings"]:
                continue
            began = time.perf_counter()
            if stage is None or stage.name != f"{cell.problem}/{cell.rule}/{cell.batch}":
                stage = Stage(cell)
            points = work(stage)
            seconds = round(time.perf_counter() - began, 2)
            few = data["few-step"].get(stage.name, {})
            wanted = {str(k) for p in points if "rounds" in p for k in plain_steps(p, cell.rows)} - set(few)
            few |= {steps: stage.few(int(steps)) for steps in sorted(wanted, key=int)}
            data = recall(out)  # again, for another run may have added to it since
            data["cells"].setdefault(cell.name, {"methods": {}}).update(facts)
            data["cells"][cell.name]["methods"][name] = {**about, "seconds": seconds, "points": points}
            data["few-step"].setdefault(stage.name, {}).update(few)
            remember(out, data)
            print(f"{cell.name}: {name}, {len(points)} runs in {seconds:.1f} s", file=sys.stderr, flush=True)
    place = {cell.name: k for k, cell in enumerate(cells())}
    data["cells"] = dict(sorted(data["cells"].items(), key=lambda item: place.get(item[0], len(place))))
    return data


def recall(out: Path) -> dict[str, Any]:
    """What out/frontier.json holds, or nothing yet; raises ValueError where it is not a frontier."""
    path = out / "frontier.json"
    if not path.exists():
        return {"cells": {}, "few-step": {}}
    try:
        found = json.loads(path.read_text())
        return {"cells": dict(found["cells"]), "few-step": dict(found["few-step"])}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a frontier to go on with; move it away or type another --out"
        ) from error


def remember(out: Path, data: dict[str, Any]) -> None:
    """Writes out/frontier.json, whole or not at all."""
    write_json(out / "frontier.json", {"machine": machine(), **data})


def plan(todo: list[Cell], contestants: tuple[Contestant, ...]) -> str:
    """What a run would take, as a table: model rows, and minutes on one thread of a CPU."""
    rows: list[list[Any]] = []
    for cell in todo:
        runs, total = 0.0, 2.0 * cell.rows * cell.batch  # the sequential sample and a few short ones
        for c in contestants:
            if c.runs(cell):
                sweep = len(c.tolerances) * (1 if c.promises else 0.65)  # few are swept to the end
                runs, total = runs + sweep, total + sweep * cell.run * (1 if c.name == BASE else 0.6)
        if compared_outside(cell):
            extra = 0.65 * len(outside.TOLERANCES) * min(SAMPLES, cell.batch) / cell.batch
            runs, total = runs + extra, total + extra * cell.run
        minutes = total / problem(cell.problem).per_second / 60
        rows.append([cell.name, cell.rows, cell.batch, round(runs), round(total), minutes])
    rows.append(["all", "", "", sum(r[3] for r in rows), sum(r[4] for r in rows), math.fsum(r[5] for r in rows)])
    return table(("cell", "N", "samples", "runs", "model rows", "minutes"), rows)


def main(
    out: Path,
    quick: bool = False,
    only: str = "",
    again: tuple[str, ...] = (),
    contestants: tuple[Contestant, ...] = CONTESTANTS,
) -> None:
    """Measures what is missing, prints the report, writes out/frontier.md, .json and the pictures."""
    if quick:
        out = make_folder(out / "quick")  # its two samples are no result to go on with
        contestants = tuple(replace(c, tolerances=c.tolerances[2:6:3]) for c in contestants[:2])
    data = run(out, cells(quick, only), contestants, again)
    from ..plots.frontier import pictures

    names = [c.name for c in contestants] + [OUTSIDE]
    found = {"limits": rivals(data["cells"], names), "calibration": calibration(data["cells"], promised(contestants))}
    ours = [c.name for c in contestants if c.ours]
    text = [*(short_sections(data, found["limits"], ours) if ours else []), *sections(data, names, found)]
    print(write(out, "frontier", "The frontier: rounds at equal error", text, {**data, **found}))
    drawn = pictures(out, data, names, set(ours))
    print("written to " + ", ".join(str(path) for path in [out / "frontier.md", out / "frontier.json", *drawn]))


def named(again: list[str], contestants: tuple[Contestant, ...] = CONTESTANTS) -> list[str]:
    """The names; raises ValueError for one that is no contestant's."""
    names = [*(c.name for c in contestants), OUTSIDE]
    for name in again:
        if name not in names:
            raise ValueError(f"--again is {name!r}; type one of {', '.join(map(repr, names))}")
    return again


def promised(contestants: tuple[Contestant, ...]) -> list[str]:
    """The names of those whose tolerance is an error."""
    return [c.name for c in contestants if c.promises]
