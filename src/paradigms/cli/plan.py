"""`paradigms plan`: latency and traces, recorded or measured here, put together; a table, JSON, a picture.

| file                                   | holds                                                                       |
| a latency                              | {"rows": [1, 8], "seconds": [0.05, 0.28], "shape": [4, 96, 96]}, or less   |
| trace.json of `paradigms sample MODEL` | rows of every round of one run                                              |
| run.json of a pipeline                 | rows accepted in every round, from which those evaluated follow             |
| rounds.json of the benchmark `plan`    | traces of several windows and methods, in groups                            |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod
from operator import sub
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from ..distributed.plan import LINKS, Link, Prediction, Trace, check_together, plan_runs
from ..execution.latency import LatencyCurve
from ..execution.latency import measure_latency as measure_latency
from ..files import brief_name, one_line, read_json, write_json
from .model_job import Job
from .tables import print_table

NAMED = {"sd2-a100": Path(__file__).parent / "sd2-a100.json"}
WINDOWS = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Curve:
    """A latency, what it is of, and the bytes of a row's output in float32, where the shape is known."""

    latency: LatencyCurve
    about: str
    size: float | None = None


def read_curve(name: str) -> Curve:
    """The latency of a name such as sd2-a100 or of a JSON file; raises ValueError."""
    path = NAMED.get(name, Path(name))
    found = read_json(path)
    try:
        latency = LatencyCurve(tuple(found["rows"]), tuple(found["seconds"]))
        shape = found.get("shape")
        size = None if shape is None else 4.0 * prod(int(n) for n in shape)
        return Curve(latency, one_line(found.get("about", path.name)), size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        why = reason(error, "its values are no numbers")
        raise ValueError(
            f'{brief_name(name)} is no latency ({why}); needed: {{"rows": [1, 8], "seconds": [0.05, 0.28]}}, or '
            f"a name: {', '.join(NAMED)}"
        ) from error


def read_traces(path: Path, group: str | None = None) -> list[Trace]:
    """The traces of a file, those of one group where it holds several; raises ValueError."""
    found = read_json(path)
    try:
        if "groups" in found:
            groups = found["groups"]
            if not isinstance(groups, dict) or not groups.get(group):
                known = brief_name(", ".join(groups))
                raise ValueError(f"it holds several groups; type --group, one of {known}; needed: one that has rounds")
            return [trace_of(entry) for entry in groups[group]]
        return [recorded(found, path.name)]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        why = reason(error, "its values are not those of a run; needed: a trace.json, a run.json or a rounds.json")
        raise ValueError(f"{brief_name(path)} is no trace to plan with: {why}") from error


def reason(error: Exception, otherwise: str) -> str:
    """Why a file cannot be used: what it lacks, what a check of ours says, or that its values are of other kinds."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(error) if isinstance(error, ValueError) and "needed" in str(error) else otherwise


def trace_of(entry: dict[str, Any]) -> Trace:
    """A trace as `rounds.json` holds it."""
    names = ("N", "window", "batch", "size", "outside", "about", "step")
    given = {k: entry[k] for k in names if k in entry}
    return Trace(runs=tuple(map(tuple, entry["runs"])), **given | {"about": one_line(entry.get("about", ""))})


def recorded(found: dict[str, Any], name: str) -> Trace:
    """The trace of a trace.json, or of a run.json."""
    N, batch = found["rows"], found["batch"]
    if "trace" in found:
        begin, end, evaluations, *more = zip(*found["trace"], strict=True)
        check_fixed_window(more[0] if more else [])
        rows = [b - a for a, b in pairwise((0, *evaluations))]
        # begin is of the slowest sample and end of the fastest, which may be further apart than a window
        told = more[0] if more else [found["window"]] if isinstance(found.get("window"), int) else ()
        window = min(max(told), N) if told else max(max(map(sub, end, begin)), -(-max(rows) // batch))
        about = f"{found['model']}, {found['rule']}, {name}"
    else:
        window = found["window"]
        check_fixed_window([window])
        rows = [batch * m for m in rows_of(found["accepted"], N, window)]
        about = f"{found['pipeline']}, {found['scheduler']}, {name}"
    outside = max(found["seconds"] - found["model_seconds"], 0.0) / max(len(rows), 1)
    return Trace(N, window, batch, (tuple(rows),), outside=outside, about=one_line(about))


def check_fixed_window(windows: Sequence[Any]) -> None:
    """Raises ValueError where a run's window was not the same number in all of its rounds."""
    if len(set(windows)) > 1 or not all(isinstance(w, int) for w in windows):
        raise ValueError("its window picked itself; needed: a run with a fixed one, type --window 32")


def rows_of(accepted: Sequence[int], N: int, window: int) -> tuple[int, ...]:
    """The rows evaluated in each round of a chain of N, from those accepted in it."""
    begins = accumulate(accepted, initial=0)
    return tuple(min(window, N - begin) for begin, _ in zip(begins, accepted, strict=False))


def measure(job: Job, windows: Sequence[int], tell: Callable[[str], None]) -> tuple[Curve, list[Trace]]:
    """Latency and traces of a shipped model or a model file, measured here."""
    B, N = job.request.batch, len(job.system)
    windows = sorted({min(w, N) for w in windows})
    most = max(windows) * B
    points = sorted({B, *(2**k for k in range(13) if B < 2**k < most), most})
    tell(f"latency of {points[0]} to {most} rows ...")
    curve = measure_latency(timed_caller(job, most), points)
    about = f"{job.request.model}, {job.request.rule}-{job.steps}, measured here"
    size = 4.0 * prod(job.shape)
    step = stepping_seconds(job)
    traces = []
    for window in windows:
        tell(f"rounds at window {window} ...")
        runs, outside = measured_run(job, window)
        traces.append(Trace(N, window, B, runs, size, outside, about, step))
    return Curve(curve, about, size), traces


def timed_caller(job: Job, most: int) -> Callable[[int], object]:
    """A call of the job's model on M rows of noise, at timesteps of its chain."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(most, *job.shape, generator=generator).to(job.device)
    n = torch.arange(most) % len(job.system)
    t = job.system.t[n].float().to(job.device)
    b = torch.arange(most) % job.request.batch
    condition = {k: v[b] for k, v in job.condition.items()}

    def call(M: int) -> object:
        with torch.no_grad():
            answer = job.model(x[:M], t[:M], **{k: v[:M] for k, v in condition.items()})
        return float(answer.flatten()[-1])  # a device has done its work once it gives a number

    return call


def measured_run(job: Job, window: int) -> tuple[tuple[tuple[int, ...], ...], float]:
    """The rows of every round of one run with this window, and the seconds of a round outside the model."""
    solution = replace(job, window=window).sample()
    evaluations = [e for _, _, e in solution.trace]
    rows = tuple(b - a for a, b in pairwise((0, *evaluations)))
    return (rows,), max(solution.seconds - solution.model_seconds, 0.0) / len(rows)


def stepping_seconds(job: Job, some: int = 64) -> float:
    """The seconds of a single step outside the model, in the mean over some."""
    return measured_run(replace(job, request=replace(job.request, max_rounds=some)), 1)[1]


def fit_traces(curve: Curve, traces: Sequence[Trace]) -> list[Trace]:
    """The traces with the size of the curve's rows, where it tells one; raises ValueError for two chains."""
    check_together(traces)
    return [t if curve.size is None else replace(t, size=curve.size) for t in traces]


def parse_numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 1, in rising order, of text such as 1,2,4; raises ValueError."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise ValueError(f"{option} is {brief_name(text)}; type whole numbers from 1, as 1,2,4,8")
    return found


def parse_links(text: str) -> list[Link]:
    """The links named in text such as NVLink,10G; raises ValueError."""
    known = {name.lower(): link for name, link in LINKS.items()}
    for name in text.split(","):
        if name.strip().lower() not in known:
            raise ValueError(f"--links is {brief_name(text)}; type some of {', '.join(LINKS)}")
    return [known[name.strip().lower()] for name in text.split(",")]


def run_plan(curve: Curve, traces: Sequence[Trace], devices: Sequence[int], over: Sequence[Link], out: Path) -> Any:
    """Predicts, writes plan.json and plan.png to `out`, prints the table; returns what plan.json holds."""
    found = plan_runs(curve.latency, traces, devices, over)
    content = {
        "prediction": True,
        "latency": {"about": curve.about, "rows": curve.latency.rows, "seconds": curve.latency.seconds},
        "traces": [
            {
                "about": t.about,
                "N": t.N,
                "window": t.window,
                "batch": t.batch,
                "rounds": t.rounds,
                "evaluations": t.evaluations,
            }
            | {"outside": t.outside, "size": t.size, "step": t.step}
            for t in traces
        ],
        "links": {k.name: {"bytes_per_second": k.speed, "seconds": k.lag, "nominal": True} for k in over if k.lag},
        "plan": [p.json() for p in found],
    }
    write_json(out / "plan.json", content)
    from ..viz.plan import Curves, write_curves

    title = f"{curve.about}: a prediction"
    note = f"rounds of {traces[0].about}; devices joined by {over[0].name}"
    write_curves(out / "plan.png", title, Curves(curve.latency, traces, devices, over[0]), note)
    print_table(plan_details(found, over[0]), plan_speedups(found))
    print(f"latency: {curve.about}\nrounds: {traces[0].about}")
    for name in ("plan.json", "plan.png"):
        print(out / name)
    return content


def plan_details(found: Sequence[Prediction], link: Link) -> Table:
    """Each number of devices joined by one link."""
    made = Table(title=f"Predicted, best window each, devices joined by {link.name}", title_justify="left")
    for name in ("devices", "window", "rounds", "evals/N", "s/sample", "speedup", "device-h/1000"):
        made.add_column(name, justify="right", no_wrap=True)
    for p in found:
        if p.devices == 1 or p.link == link.name:
            row = (str(p.devices), str(p.window), f"{p.rounds:.1f}", f"{p.cost:.2f}", f"{p.sample:.3g}")
            made.add_row(*row, f"{p.speedup:.2f}", f"{p.device_hours:.3g}")
    return made


def plan_speedups(found: Sequence[Prediction]) -> Table:
    """Speedup, and the window it takes, of every link and number of devices; a window of 1 is sequential stepping."""
    made = Table(title="Speedup (window) by link, at its nominal speed", title_justify="left")
    made.add_column("link")
    devices = list(dict.fromkeys(p.devices for p in found))
    for P in devices:
        made.add_column(str(P), justify="right", no_wrap=True)
    alone = [p for p in found if p.devices == 1]
    for link in dict.fromkeys(p.link for p in found if p.devices != 1):  # none, where there is one device only
        here = {p.devices: p for p in alone + [p for p in found if p.link == link]}
        made.add_row(link, *(f"{here[P].speedup:.2f} ({here[P].window})" for P in devices))
    return made
