"""One chart of speedup over devices: what the paper published, what is planned for ours there, what was measured here.

python -m benchmarks.plots.speedup        reads benchmarks/results, runs nothing, writes docs/speedup.png
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure

from paradigms.cli.plan import NAMED, read_curve, trace_of
from paradigms.distributed.plan import LINKS, best_window
from paradigms.files import read_json
from paradigms.viz.palette import ACCENT, FAINT, GREY, INK, PAPER
from paradigms.viz.pictures import write_figure

from ..core.rounds import OURS

RESULTS = Path(__file__).parents[1] / "results"
OUT = Path(__file__).parents[2] / "docs" / "speedup.png"
MEASURED = "#3d7ea6"
COUNTS = range(1, 9)


def planned(about: Mapping[str, Any], plan: Mapping[str, Any], groups: Mapping[str, Any]) -> list[float]:
    """Our default at the paper's latencies and our own seconds of a round, at the best window for each count."""
    curve, here = read_curve("sd2-a100"), plan["outside at 4x96x96, ms, by window"]
    size = 4.0 * torch.Size(about["shape"]).numel()
    traces = [replace(t, size=size, outside=here[str(t.window)] / 1000) for t in map(trace_of, groups[OURS])]
    return [best_window(curve.latency, traces, P, LINKS["NVLink"]).speedup for P in COUNTS]


def main() -> None:
    """Draws the chart."""
    about, plan, groups = (read_json(p) for p in (NAMED["sd2-a100"], RESULTS / "plan.json", RESULTS / "rounds.json"))
    published = about["published"]["speedup"]
    figure = Figure(figsize=(6.4, 3.8), dpi=110, facecolor=PAPER)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    lines = (
        ("ours, planned\n(not measured)", list(COUNTS), planned(about, plan, groups["groups"]), ACCENT, "--", (8, 0)),
        ("the paper, published", list(map(int, published)), list(published.values()), INK, "-", (8, 0)),
        ("ours, measured: scenes,\none and two CPU cores", [1, 2], measured(plan), MEASURED, "-", (-52, 42)),
    )  # fmt: skip
    for name, x, y, colour, dash, beside in lines:
        axes.plot(x, y, color=colour, ls=dash, marker="o", ms=4, lw=1.8)
        axes.annotate(name, (x[-1], y[-1]), beside, textcoords="offset points", va="center", size=9, color=colour)
    axes.axhline(1, color=FAINT, lw=1.2, zorder=0)
    axes.set(xlim=(0.7, 10.4), ylim=(0, None), xticks=list(COUNTS))
    axes.set_xlabel("devices", color=GREY, size=9)
    axes.set_ylabel("sequential time / time", color=GREY, size=9)
    axes.set_title("Speedup over devices, one sample", color=INK, size=11, loc="left", weight="bold")
    axes.tick_params(colors=GREY, labelsize=8.5, length=2.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    write_figure(figure, OUT)


def measured(plan: Mapping[str, Any]) -> list[float]:
    """Real runs of scenes, DDPM-1000, on one process and on two of one core each, over stepping on one; medians."""
    runs = [c for c in plan["check"] if (c["model"], c["rule"]) == ("scenes", "ddpm-1000")]
    seconds = {(c["processes"], c["window"] > 1): median(c["measured"]) for c in runs}
    return [seconds[1, False] / seconds[P, True] for P in (1, 2)]


if __name__ == "__main__":
    main()
