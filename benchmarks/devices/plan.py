"""`python -m benchmarks plan`: the plan against what was published, and against real runs on this machine.

1. Rounds against the window, of ParaDiGMS and of ours (rounds.py).
2. The paper's A100 figure, recovered from its published points (paper.py).
3. A prediction: Stable Diffusion v2, DDPM-1000 on 8 A100s, at the latencies of 2 with the rounds of 1.
4. The check: what calls, rounds and steps take here, each measured by itself, predicts the seconds of real runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from paradigms.cli.plan import NAMED, trace_of
from paradigms.distributed.plan import FREE, LINKS, Link, Prediction, Trace, best_window, predict_run
from paradigms.files import read_json
from paradigms.methods.spectral import Spectral
from paradigms.rules import ddpm
from paradigms.schedule import scaled_linear
from paradigms.solve import iterate
from paradigms.viz.plan import Curves, write_curves

from ..core.overhead import ACTIVATIONS
from ..core.rounds import OURS, THEIRS
from ..core.rounds import rounds as measure_rounds
from ..report import table, write
from .check import CASES, check
from .paper import Fit, Published, compared, fit

TABLE_WINDOW = 48  # the published 2040 evaluations in 44 rounds are 46 a round
PROCESSES = (1, 2)
EIGHT, SHOWN = 8, (1, 2, 3, 4, 5, 6, 7, 8)
Traces = Mapping[str, Sequence[Trace]]


@dataclass(frozen=True)
class Way:
    """What a round costs beside the model: a name, the link, and traces with their seconds of a round."""

    name: str
    link: Link
    traces: Traces


def ways(made: Fit, traces: Traces, here: Mapping[int, float]) -> list[Way]:
    """Their implementation's cost, ours as far as it can be told, none; `here`: seconds of a round by window."""
    theirs = {name: [made.charged(t) for t in group] for name, group in traces.items()}
    ours = {name: [replace(t, outside=here[t.window]) for t in group] for name, group in traces.items()}
    return [
        Way("their implementation's", made.link, theirs),
        Way("our sampler's on this CPU, NVLink", LINKS["NVLink"], ours),
        Way("none", FREE, traces),
    ]


def outside(shape: Sequence[int], window: int, some: int = 16) -> float:
    """Seconds of a round of the default outside the model on this machine, for one sample of this shape; a median.

    As in `overhead.py` memory as large as activations are was asked for before.
    """
    torch.ones(ACTIVATIONS)
    system = ddpm(scaled_linear(), 1000)
    generator = torch.Generator().manual_seed(0)
    x, marks = system.noise((1, *shape), generator), [0.0]
    began = time.perf_counter()
    for frame in iterate(lambda x, t: 0.1 * x, system, x, Spectral(), window=window, generator=generator):
        marks.append(time.perf_counter() - began - frame.evaluate.seconds)
        if frame.round > some:
            break
    return median(b - a for a, b in pairwise(marks[1:]))


def recovered(published: Published, traces: Traces, made: Fit) -> tuple[str, list[dict[str, float]]]:
    """The fit against the published points."""
    found = compared(published, traces[THEIRS], made)
    head = ("devices", "window", "published speedup", "recovered", "time off by")
    rows = [[P, w, f"{a:.2f}", f"{b:.2f}", f"{100 * e:+.1f} %"] for P, w, a, b, e in found]
    off = [abs(e) for *_, e in found]
    text = (
        f"t0 = {1000 * made.t0:.1f} ms of a sequential step (published), t1 = {1000 * made.t1:.1f} ms of each further "
        f"row on a device, h0 = {1000 * made.h0:.1f} ms of a round, h1 = {1000 * made.h1:.1f} ms of each further "
        f"device in a round: three numbers fitted to {len(found)}. The time is off by at most {100 * max(off):.1f} %, "
        f"by {100 * sum(off) / len(off):.1f} % in the mean. h0 and h1 are no part of a model call, which sequential "
        "steps have too: they are what that implementation spent on moving rows between processes and on the update. "
        "Window 80 is the figure's points, the last line the table's 16.2 s. The rounds are those of our own chain, at "
        "a tolerance whose counts are about the published ones.\n\n"
    )
    points = [dict(zip(("devices", "window", "published", "recovered", "off"), row, strict=True)) for row in found]
    return text + table(head, rows), points


def predictions(published: Published, made: Fit, found: Sequence[Way]) -> tuple[str, list[dict[str, Any]]]:
    """Eight devices at the paper's latencies: each method, each cost of a round, the best window."""
    paper = published.sequential / published.points[-1][2]
    rows, kept = [], []
    for way in found:
        for name, group in way.traces.items():
            p = best_window(made.latency, group, EIGHT, way.link)
            rows.append(
                [
                    way.name,
                    name,
                    p.window,
                    *(f"{v:.2f}" for v in (p.rounds, p.cost, p.seconds, p.speedup, p.speedup / paper)),
                ]
            )
            kept.append(
                {"cost of a round": way.name, "method": name, "over the paper's": p.speedup / paper, **p.json()}
            )
    head = (
        "cost of a round",
        "rounds of",
        "best window",
        "rounds",
        "evals / N",
        "s",
        "speedup",
        f"over the paper's {paper:.1f}",
    )
    return table(head, rows), kept


def windows(made: Fit, found: Sequence[Way], groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The frontier over windows on eight devices: errors, and speedup by cost of a round."""
    rows = []
    for name, group in found[0].traces.items():
        for k, trace in enumerate(group):
            speed = [predict_run(made.latency, way.traces[name][k], EIGHT, way.link).speedup for way in found]
            errors = [f"{100 * groups[name][k][which]:.2g} %" for which in ("max error", "median error")]
            facts = [name, trace.window, f"{trace.rounds:.1f}", f"{trace.cost:.2f}", *errors]
            rows.append([*facts, *(f"{s:.2f}" for s in speed)])
    head = ("rounds of", "window", "rounds", "evals / N", "max error", "median error")
    return table((*head, *(way.name for way in found)), rows)


def devices(made: Fit, way: Way, name: str) -> str:
    """The default at the paper's latencies by number of devices and link: speedup (window)."""
    counts = (1, 2, 4, 8, 16, 64)
    rows: list[list[Any]] = []
    for link in LINKS.values():
        if link is not FREE:
            row = [best_window(made.latency, way.traces[name], P, link) for P in counts]
            rows.append([link.name, *(f"{p.speedup:.2f} ({p.window})" for p in row)])
    rows.append(["device-hours per 1000, NVLink", *(hours(made, way, name, P) for P in counts)])
    return table(("link", *map(str, counts)), rows)


def hours(made: Fit, way: Way, name: str, P: int) -> str:
    """Device-hours per 1000 samples."""
    found: Prediction = best_window(made.latency, way.traces[name], P, LINKS["NVLink"])
    return f"{found.device_hours:.1f}"


RESTS = """**A prediction, not a measurement: no A100 was at hand.** It rests on (a) the latency recovered above; (b)
the rounds of `scenes`, a small model of 32x32 pictures without guidance, on Stable Diffusion's noise levels: whether
Stable Diffusion takes as many was not measured, though ParaDiGMS on that chain takes about as many as published on
Stable Diffusion; (c) what a round costs beside the model. Three answers to (c): all that the paper's implementation
spent, on our rounds too; our sampler's own seconds at 4x96x96 latents, measured on this machine's CPU, and NVLink at
its nominal speed; nothing. On GPUs the second was not measured. Each at its best window of those measured."""


WHY = """Errors are of 4 samples of `scenes` against their sequential ones. T grows almost in proportion to rows here,
so eight devices are busy with eight rows: evaluations cost more than rounds, and small windows win as soon as a round
itself costs little. The default's errors are several times as small as ParaDiGMS'; at 0.03 they are about as large."""


def main(out: Path, quick: bool = False) -> None:
    """Measures what is missing, prints the report, writes out/rounds.json, out/plan.md, .json and the pictures."""
    groups = measure_rounds(out / "quick" if quick else out, quick)
    about = read_json(NAMED["sd2-a100"])
    traces = {name: [trace_of(entry) for entry in group] for name, group in groups.items()}
    checked = check(CASES[-1:] if quick else CASES, PROCESSES, 2 if quick else 5)
    body = [("The plan against real runs on this machine", checked[0])]
    data: dict[str, Any] = {"check": checked[1]}
    if not quick:
        size = 4.0 * torch.Size(about["shape"]).numel()
        traces = {name: [replace(t, size=size) for t in group] for name, group in traces.items()}
        published = Published.of(about, TABLE_WINDOW)
        made = fit(published, traces[THEIRS])
        here = {t.window: outside(about["shape"], t.window) for t in traces[OURS]}
        found = ways(made, traces, here)
        shown, data["recovered"] = recovered(published, traces, made)
        planned, data["predicted"] = predictions(published, made, found)
        data |= {"fit": vars(made), "outside at 4x96x96, ms, by window": {w: 1000 * s for w, s in here.items()}}
        body = [
            ("The paper's A100 figure, recovered", shown),
            ("Prediction: SD v2, DDPM-1000 on 8 A100s", f"{RESTS}\n\n{planned}"),
            (
                "Prediction, by window: speedup on 8 devices for each cost of a round",
                f"{WHY}\n\n{windows(made, found, groups)}",
            ),
            (f"Prediction, by link: {OURS}, with our sampler's cost of a round", devices(made, found[1], OURS)),
            *body,
        ]
        pictures(out, published, made, found)
    print(write(out, "plan", "The plan", body, data))


def pictures(out: Path, published: Published, made: Fit, found: Sequence[Way]) -> None:
    """The paper's figure as recovered, and the prediction for ours."""
    theirs, ours = found[0], found[1]
    points = [(P, w, published.sequential / s) for P, w, s in published.points[:-1]]
    title, note = "ParaDiGMS on A100s, SD v2, DDPM-1000: recovered from the published points", "diamonds: published"
    recovered = Curves(made.latency, theirs.traces[THEIRS], SHOWN, theirs.link, points)
    write_curves(out / "plan-paper.png", title, recovered, note)
    title = "Prediction: our default at the same latencies"
    note = "rounds of scenes at tolerance 0.003; our sampler's seconds of a round as on this machine's CPU; NVLink"
    write_curves(out / "plan.png", title, Curves(made.latency, ours.traces[OURS], SHOWN, ours.link), note)
