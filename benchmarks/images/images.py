"""The paper's image networks on this machine, their real U-Nets or small ones.

1. Seconds of a call and peak memory against rows; a row of sd2 is two of the network's, with and without the prompt.
2. Seconds of a round with a window, the sampler's own among them.
3. The plan for 8 devices from 1, with the rounds of out/rounds.json (`python -m benchmarks plan`): a prediction.
4. With real weights the paper's table, see gallery.py; else it says what is missing.

Weights are random where none are found on this machine: they change no second and no byte, but every picture.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from paradigms.cli import pipeline_job as hub
from paradigms.cli.devices import device_named
from paradigms.cli.plan import trace_of
from paradigms.distributed.plan import DEVICES, LINKS, best_window
from paradigms.execution.latency import LatencyCurve
from paradigms.solve import sample

from ..core.rounds import recall
from ..report import table, write
from . import gallery, weights
from .network import SPECS, Network, Point, build, measure, network

ROUNDS = 3  # that are timed
FEWEST = 4  # points of a latency to plan with
LINE = 2  # points to plot
WINDOWS = {"gpu": 80, "small": 16, "cpu": None}  # of a round, unless told: a real network's on a CPU takes minutes
ROWS = {"gpu": 64, "small": 16, "cpu": 1}
NOT = gallery.NOT


@dataclass(frozen=True)
class Asked:
    """What to measure: None stands for what the device can be asked."""

    model: str
    small: bool = False
    weights: str = "local"
    device: str | None = None
    dtype: str = "float32"
    rows: int | None = None
    window: int | None = None
    count: int = 8
    prompts: Path | None = None
    reference: Path | None = None


@dataclass(frozen=True)
class Ready:
    """What is asked, checked: the folder of real weights, or why there is none."""

    asked: Asked
    device: torch.device
    folder: Path | None
    why: str
    prompts: tuple[str, ...]
    kind: str


def prepared(asked: Asked) -> Ready:
    """Checks all that can be checked before work; raises ValueError."""
    if asked.model not in SPECS:
        raise ValueError(f"--model is {asked.model!r}; type one of {', '.join(SPECS)}")
    if asked.dtype not in hub.DTYPES:
        raise ValueError(f"--dtype is {asked.dtype!r}; type one of {', '.join(hub.DTYPES)}")
    for name, value in (("--rows", asked.rows), ("--window", asked.window), ("--count", asked.count)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; type a whole number from 1")
    if asked.reference is not None:
        gallery.reference_paths(asked.reference)
    where, prompts = device_named(asked.device), gallery.read_prompts(asked.prompts)
    small = (None, "the small network has random weights")
    folder, why = small if asked.small else weights.find(SPECS[asked.model].hub, asked.weights)
    kind = "gpu" if where.type != "cpu" else "small" if asked.small else "cpu"
    return Ready(asked, where, folder, why, prompts, kind)


def main(out: Path, ready: Ready) -> None:
    """Measures, prints the report and writes out/images-MODEL.md, .json and, of two points or more, .png."""
    asked, spec = ready.asked, SPECS[ready.asked.model]
    if ready.folder is None:
        unet = build(spec, small=asked.small)
    else:
        unet = hub.load_pipeline(hub.PipelineRequest(str(ready.folder), dtype=asked.dtype)).unet
    net = network(asked.model, unet, ready.device, hub.DTYPES[asked.dtype])
    del unet
    points = measure(net, rows_up_to(asked.rows or ROWS[ready.kind]), tell)
    if not points:
        raise RuntimeError(f"there is no room for one row on {ready.device}; type --dtype float16, or --small")
    window = asked.window or WINDOWS[ready.kind]
    rounds = None if window is None else round_seconds(net, window)
    outside = 0.0 if rounds is None else rounds[0] - rounds[1]
    rows, quality = table_of_the_paper(ready)
    shown, plans = planned(net, points, groups(out, rows), outside)
    name = f"images-{asked.model}" + ("-small" if asked.small else "")
    sections = [
        ("The network", facts(ready, net)),
        ("A call", calls(points)),
        ("A round of the sampler", told(window, rounds)),
        ("Prediction: DDPM-1000, devices joined by NVLink at its nominal speed", shown),
        ("The paper's table", quality),
    ]
    data = {
        "model": asked.model, "small": asked.small, "shape": net.shape, "parameters": net.parameters,
        "device": str(net.device), "dtype": asked.dtype, "weights": ready.why, "rows": [p.rows for p in points],
        "seconds": [p.seconds for p in points], "memory": [p.memory for p in points], "window": window,
        "about": f"{asked.model}{' (small)' if asked.small else ''} on {ready.device}",
        "round": rounds and {"seconds": rounds[0], "in the model": rounds[1]}, "plan": plans, "table": rows,
    }  # fmt: skip
    print(write(out, name, f"Image rows: {asked.model}{', small' if asked.small else ''}", sections, data))
    draw(out / f"{name}.png", ready, net, points, plans)


def facts(ready: Ready, net: Network) -> str:
    """What was measured, in lines."""
    asked, spec = ready.asked, SPECS[ready.asked.model]
    size = "a small network of the same architecture" if asked.small else f"the published network of {spec.hub}"
    lines = [
        f"- {spec.kind}, {size}: {net.parameters:,} parameters",
        f"- rows of {'x'.join(map(str, net.shape))}, {asked.dtype}, on {net.device}"
        + (", guided: two rows of the network each" if spec.guided else ""),
        f"- {ready.why}" if ready.folder else f"- random weights: {ready.why}",
        "" if net.device.type != "cpu" else f"- on a GPU: {NOT}",
    ]
    return "\n".join(line for line in lines if line)


def calls(points: list[Point]) -> str:
    """Latency and memory."""
    first = points[0].seconds / points[0].rows
    rows = [
        [p.rows, p.seconds, p.seconds / p.rows / first, NOT if p.memory is None else f"{p.memory / 2**20:.0f}"]
        for p in points
    ]
    found = table(("rows", "s", "s a row / first", "peak memory, MiB, weights not counted"), rows)
    return found if len(points) >= LINE else f"{found}\n\nNo plot: it needs {LINE} points; type --rows 2"


def told(window: int | None, rounds: tuple[float, float] | None) -> str:
    """A round's seconds."""
    if rounds is None:
        return f"{NOT}: a round of a real network takes minutes on a CPU; type --window 2 to wait for it"
    total, inside = rounds
    share = 100 * (1 - inside / total)
    return f"Window {window}, one sample: {total:.3g} s a round, {share:.1f} % of it outside the model."


def table_of_the_paper(ready: Ready) -> tuple[list[dict[str, Any]], str]:
    """Sequential against parallel with real weights, or what is missing."""
    asked = ready.asked
    if ready.folder is None:
        return [], f"{NOT}: it needs real weights, and {ready.why}."
    name, notes = ("CLIP score" if asked.model == "sd2" else "FID"), []
    metric, reference = None, None
    try:
        if asked.model == "sd2":
            local = asked.weights == "local" or not weights.reachable()
            metric = gallery.clip_metric(ready.device, local=local)
        elif asked.reference is None:
            notes.append(f"FID: {NOT}, for no --reference DIR was given.")
        else:
            reference = gallery.read_reference(asked.reference, SPECS[asked.model].config["sample_size"])
            metric, reference = gallery.frechet_metric(ready.device), reference.to(ready.device)
    except ValueError as error:
        notes.append(f"{name}: {NOT}: {error}.")
    score = gallery.quality(metric, reference)
    ask = hub.PipelineRequest(
        "", device=str(ready.device), dtype=asked.dtype, window=asked.window or WINDOWS["gpu"] or "auto"
    )
    found = []
    for entry in gallery.rows(ready.folder, ask, asked.model, asked.count, ready.prompts, score):
        tell(f"{entry['sampler']}: {entry['rounds']:.1f} rounds, speedup {entry['speedup']:.2f}")
        found.append(entry)
    notes.append(
        f"Means of {asked.count} samples, one at a time. A FID of fewer than thousands of pictures is too large."
    )
    return found, gallery.text(found, name) + "\n\n" + " ".join(notes)


def tell(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def draw(path: Path, ready: Ready, net: Network, points: list[Point], plans: list[dict[str, Any]]) -> None:
    """The picture, where there are points enough; else none is left there."""
    if len(points) < LINE:
        path.unlink(missing_ok=True)
        return print(f"written to {path.with_suffix('.md')} and .json")
    from ..plots.images import curves

    asked = ready.asked
    lines: dict[str, list[tuple[int, float]]] = {}
    for p in plans:
        lines.setdefault(p["rounds of"], []).append((p["devices"], p["speedup"]))
    title = f"{asked.model}{', small' if asked.small else ''}: {net.parameters / 1e6:.1f}M parameters, {asked.dtype}"
    card = torch.cuda.get_device_name(net.device) if net.device.type == "cuda" else "CPU"
    note = f"rows of {'x'.join(map(str, net.shape))} on {card}, {torch.get_num_threads()} threads" * (card == "CPU")
    note = note or f"rows of {'x'.join(map(str, net.shape))} on {card}"
    curves(path, title, note, [(p.rows, p.seconds, p.memory) for p in points], lines)
    print(f"written to {path.with_suffix('.md')}, .json and .png")


def round_seconds(net: Network, window: int) -> tuple[float, float]:
    """Seconds of a round of the default with this window, and those of them in the model: the mean of three rounds."""
    generator = torch.Generator().manual_seed(0)
    x = net.system.noise((1, *net.shape), generator).to(net.device)
    run = sample(net.model, net.system, x, window=window, generator=generator, max_rounds=ROUNDS)
    return run.seconds / run.rounds, run.model_seconds / run.rounds


def groups(out: Path, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Traces by name: those of out/rounds.json, and of this network's own DDPM-1000 where it was run."""
    own = [row["trace"] for row in rows if row["sampler"] == "ddpm-1000"]
    return ({"this network's": own} if own else {}) | recall(out)


def planned(
    net: Network, points: list[Point], traces_by_name: dict[str, list[dict[str, Any]]], outside: float
) -> tuple[str, list[dict[str, Any]]]:
    """The plan of DDPM-1000 from 1 to 64 devices with each group of rounds."""
    if not traces_by_name:
        return f"{NOT}: there is no rounds.json in --out; type: python -m benchmarks plan, with the same --out", []
    if len(points) < FEWEST:
        return f"{NOT}: a latency of {len(points)} of {FEWEST} points says too little of others; type --rows 8", []
    latency = LatencyCurve.of({p.rows: p.seconds for p in points})
    size, rows, kept = 4.0 * prod(net.shape), [], []
    for name, entries in traces_by_name.items():
        traces = [replace(trace_of(entry), size=size, outside=outside) for entry in entries]
        for P in DEVICES:
            p = best_window(latency, traces, P, LINKS["NVLink"])
            row = [name, P, p.window, *(f"{v:.2f}" for v in (p.rounds, p.cost))]
            rows.append([*row, f"{p.seconds:.3g}", f"{p.speedup:.2f}", f"{p.device_hours:.3g}"])
            kept.append({"rounds of": name, **p.json()})
    head = ("rounds of", "devices", "best window", "rounds", "evals / N", "s / sample", "speedup", "device-h / 1000")
    return table(head, rows), kept


def rows_up_to(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return sorted({*(2**k for k in range(12) if 2**k < most), most})
