"""`python -m benchmarks random`: the promises of the core, held against random cases; a failure is a line to type.

    tolerance 0:   |x - sequential| <= 1e-5 |sequential| in float32, 1e-10 in float64, for every rule and method
    tolerance > 0: |x - sequential| <= tolerance |sequential| for a stated share of all samples
    always:        evaluations, rounds, trace and done rows are those that the model saw; generators end where those of
                   `sequential` do; rounds <= rows, once for each time that samples are made again; nothing that
                   stopped early is called converged; finite; no graph

A sample is no broken promise, and no kept one, whose sequential sampler is half as far off when the model's answers are
moved by a unit in the last place: a clip that is multiplied, a fork. It is counted as unsettled.

`Speculation` is exact in law, so another sample: of it only what holds always is held. Cases that are refused must be
so before the model is asked. A case is all in its seed: `python -m benchmarks random --seed N --cases 1` runs it again.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.execution.model_known import rows_beside
from paradigms.files import write_json
from paradigms.methods.speculation import Speculation
from paradigms.solution import Solution, relative_error
from paradigms.solve import sample, sequential
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError

from ..report import machine, table, write
from .kept import core, digest
from .random_cases import DTYPES, Case, Problem, draw, system

EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}
SHARE = 0.98  # of the samples are within the error asked for, over all random cases
PATIENCE = 120  # seconds; a case takes a tenth of one
TIMES = 4  # that the sequential sampler's own rounding is drawn
EVERY = 100  # cases between two writings


@dataclass
class Found:
    """What a case showed: broken promises in words, and the multiples of the asked error where one was asked for."""

    broken: list[str] = field(default_factory=list)
    multiples: list[float] = field(default_factory=list)
    refused: bool = False
    unsettled: int = 0  # samples that the sequential sampler itself does not settle, see `rounding`

    def hold(self, promise: bool, words: str) -> None:
        """Notes a promise that is not kept."""
        if not promise:
            self.broken.append(words)


def check(case: Case) -> Found:
    """Runs a case and holds every promise against it."""
    found = Found()
    try:
        problem = Problem(case, system(case))
    except ValueError:
        return Found(refused=True)
    net, model, x, how, _ = problem.call()
    with suppress(ValueError):  # whether time is in other units is asked once, and no row of a call's
        sample(model, problem.system, x, window=8, max_rounds=1, **how)
    net.rows, asked = 0, rows_beside(model)
    _, _, x, how, drawn = problem.call()
    before = x.clone()
    how |= {"window": case.window, "tolerance": case.tolerance, "max_rounds": case.max_rounds}
    try:
        run = sample(model, problem.system, x, case.method, verify=case.verify, **how)
    except ValueError as error:
        found.refused = True
        found.hold(net.rows == 0, f"refused after {net.rows} rows were evaluated: {error}")
        return found
    except Exception as error:
        found.broken.append(f"raised {type(error).__name__}: {error}")
        return found
    ends = [g.get_state() for g in drawn]
    found.hold(torch.equal(x, before), "the starting noise was changed")
    per = 2 if case.condition == "guided" else 1
    counted(found, case, run, net.rows - per * (rows_beside(model) - asked))
    _, model, x, how, drawn = problem.call()
    reference = sequential(model, problem.system, x, **how)
    complete = bool((run.done == run.steps).all())
    if complete and not any(problem.system.drawn):
        found.hold(
            all(torch.equal(a, g.get_state()) for a, g in zip(ends, drawn, strict=True)), "generator: drawn from"
        )
    elif complete:
        same = [torch.equal(a, g.get_state()) for a, g in zip(ends, drawn, strict=True)]
        found.hold(all(same), "generator: not where the sequential sampler leaves it")
    if complete and not isinstance(case.method, Speculation):
        errors(found, case, run, reference)
    return found


def counted(found: Found, case: Case, run: Solution, rows: int) -> None:
    """Counts, trace and status of a run for which the net answered so many rows, those of the checks left out."""
    N, B = run.steps, case.batch
    per = 2 if case.condition == "guided" else 1
    extra = N * B if run.verification is not None else 0
    found.hold(
        rows == per * (run.evaluations + extra), f"evals: said {run.evaluations} + {extra}, the net {rows / per}"
    )
    found.hold(run.rounds == len(run.trace) == len(run.windows), "rounds: not as many as the trace has")
    found.hold(run.trace[-1][2] == run.evaluations, "trace: does not end with the evaluations")
    runs = 1 + len(getattr(run, "retries", ()))  # samples that are made again begin at row 0 again
    evaluations, back = (
        [t[2] for t in run.trace],
        sum(a[0] > b[0] for a, b in zip(run.trace, run.trace[1:], strict=False)),
    )
    found.hold(back < runs and evaluations == sorted(evaluations), "trace: goes backwards")
    found.hold(all(0 <= b < e <= N for b, e, _ in run.trace), "trace: rows that the chain has not")
    found.hold(run.rounds <= N * runs, f"rounds: {run.rounds} for {N} rows, {runs} times")
    found.hold(int(run.sample_rounds.max()) <= run.rounds, "sample_rounds: more than there were")
    found.hold(bool((run.done <= N).all() and (run.done >= 1).all()), "done: rows that the chain has not")
    if case.max_rounds is None:
        found.hold(bool((run.done == N).all()), "not at the end, though no limit on rounds was given")
        found.hold(case.verify == (run.verification is not None), "verification: not as asked")
    else:
        found.hold(run.rounds <= case.max_rounds, "max_rounds: passed")
    early = [s == "converged" for s, d in zip(run.status, run.done.tolist(), strict=True) if d < N]
    found.hold(not any(early), "status: converged, of a sample that is not at the end")
    dtype = torch.promote_types(DTYPES[case.dtype], torch.float32)
    found.hold(run.x.dtype == dtype and not run.x.requires_grad, f"x: {run.x.dtype}, or with a graph")
    found.hold(bool(run.x.isfinite().all()), "x: not finite")


def errors(found: Found, case: Case, run: Solution, reference: Tensor) -> None:
    """Exact at tolerance 0; else how far off, by what was asked for."""
    error = relative_error(run.x, reference).double()
    asked = case.tolerance.tolerance if isinstance(case.tolerance, AbstractStop) else case.tolerance
    if case.window == 1 and not case.verify:  # a verification answers with its own last step
        found.hold(torch.equal(run.x, reference), f"window 1: off by {float(error.max()):.2g}")
    if asked and not isinstance(case.tolerance, float | int | FinalError):
        return
    far = ~(error <= (asked or EXACT[run.x.dtype]))
    if bool(far.any()):
        own = far & (error <= 2 * rounding(case, reference))  # of what another device, too, would make
        found.unsettled, far, error = int(own.sum()), far[~own], error[~own]
    if asked:
        found.multiples += (error / asked).tolist()
    else:
        found.hold(not bool(far.any()), f"tolerance 0: off by {max(error.tolist(), default=0):.2g}")


def rounding(case: Case, reference: Tensor) -> Tensor:
    """How far (B,) sequential samples are from the reference where the model's answers are rounded otherwise.

    Each number is moved by up to a unit in its last place, as kernels for another batch or on another device move it.
    """
    problem, eps, worst = Problem(case, system(case)), torch.finfo(reference.dtype).eps, torch.zeros(case.batch)
    for seed in range(TIMES):
        _, model, x, how, _ = problem.call()
        g = torch.Generator().manual_seed(seed)

        def moved(x: Tensor, t: Tensor, *, model: Any = model, g: Any = g, **condition: Tensor) -> Tensor:
            m: Tensor = model(x, t, **condition)
            return m * (1 + eps * (2 * torch.rand(m.shape, generator=g, dtype=torch.float64) - 1)).to(m)

        worst = worst.maximum(relative_error(sequential(moved, problem.system, x, **how), reference).to(worst))
    return worst.double()


def drawn(seed: int) -> Case:
    """The case of a seed."""
    return draw(random.Random(seed).choice, seed)


@contextmanager
def patience(seconds: int) -> Iterator[None]:
    """Raises TimeoutError after so many seconds, where the system has alarms."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def run(out: Path, seed: int, cases: int, minutes: float) -> dict[str, Any]:
    """What cases seed .. seed + cases - 1 showed, going on where OUT/random-SEED.json was left by the same code."""
    path, until, code = out / f"random-{seed}.json", time.monotonic() + 60 * minutes, digest(core())
    data = recall(path)
    if data.get("code") != code:
        data = {"code": code, "seed": seed, "cases": 0, "refused": 0, "samples": 0, "kept": 0, "exact": 0}
        data |= {"unsettled": 0, "worst": 0.0, "missed": [], "broken": []}
    while data["cases"] < cases and time.monotonic() < until:
        note(data, seed + data["cases"])
        if data["cases"] % EVERY == 0:
            write_json(path, {"machine": machine(), **data})
            said = f"{data['cases']} cases, {len(data['broken'])} broken, {len(data['missed'])} samples missed"
            print(said, file=sys.stderr, flush=True)
    write_json(path, {"machine": machine(), **data})
    return data


def note(data: dict[str, Any], seed: int) -> None:
    """Runs the case of a seed and adds what it showed to the data."""
    case = drawn(seed)
    try:
        with patience(PATIENCE):
            found = check(case)
    except TimeoutError as error:
        found = Found([f"hangs: {error}"])
    data["cases"] += 1
    data["refused"] += found.refused
    data["samples"] += len(found.multiples)
    data["kept"] += sum(m <= 1 for m in found.multiples)
    data["unsettled"] += found.unsettled
    data["exact"] += not (found.multiples or found.refused)
    data["worst"] = max([data["worst"], *(round(m, 3) for m in found.multiples)])
    data["missed"] += [[seed, b, round(m, 3)] for b, m in enumerate(found.multiples) if not m <= 1]
    data["broken"] += [[seed, words] for words in found.broken]
    for words in found.broken:
        print(f"{line(seed)}: {words}\n    {case}", file=sys.stderr, flush=True)


def line(seed: int) -> str:
    """What to type to see a case again."""
    return f"python -m benchmarks random --seed {seed} --cases 1"


def recall(path: Path) -> dict[str, Any]:
    """What the file holds, or nothing yet; raises ValueError where it holds something else."""
    if not path.exists():
        return {}
    try:
        found = dict(json.loads(path.read_text()))
        return found if {"code", "cases", "broken", "missed"} <= set(found) else {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is nothing to go on with; move it away or type another --out") from error


def main(out: Path, seed: int, cases: int, minutes: float) -> None:
    """Runs what is missing, writes OUT/random-SEED.md and .json; ends with status 1 where a promise was broken."""
    data = run(out, seed, cases, minutes)
    share = data["kept"] / data["samples"] if data["samples"] else 1.0
    head = ("cases", "refused", "broken promises", "unsettled", "samples with a tolerance", "kept %", "worst / asked")
    counts = data["cases"], data["refused"], len(data["broken"]), data["unsettled"], data["samples"]
    rows = [[*counts, f"{100 * share:.2f}", data["worst"]]]
    far = sorted(data["missed"], key=lambda entry: -entry[2])[:20]
    text = [("Totals", table(head, rows))]
    if data["broken"]:
        text.append(("Broken", table(("type", "promise"), [[line(s), words] for s, words in data["broken"]])))
    if far:
        text.append(("Furthest off", table(("type", "sample", "error / asked"), [[line(s), b, m] for s, b, m in far])))
    print(write(out, f"random-{seed}", "Random cases of the core", text, data))
    if data["broken"] or share < SHARE:
        print(f"paradigms: promises are broken, or less than {SHARE:.0%} of the samples are kept", file=sys.stderr)
        sys.exit(1)
