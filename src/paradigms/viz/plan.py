"""The paper's three curves against the rows of a window: cost of iterating, efficiency of the devices, net speedup.

net speedup  =  efficiency / cost          Source: Shih et al. 2023, figure of Stable Diffusion on A100s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ..distributed.plan import FREE, Link, Seconds, Trace, hardware_efficiency, predict_run
from .palette import ACCENT, FAINT, GREY, INK, PAPER
from .pictures import write_figure


@dataclass(frozen=True)
class Curves:
    """What is drawn: a call's latency, traces of several windows, numbers of devices, and the link between them.

    points: (devices, window, speedup), drawn into the last panel as what was published.
    """

    latency: Seconds
    traces: Sequence[Trace]
    devices: Sequence[int]
    link: Link = FREE
    points: Sequence[tuple[int, float, float]] = ()


def write_curves(path: Path, title: str, curves: Curves, note: str = "") -> None:
    """Writes the three panels, of five numbers of devices at most, named at their lines."""
    latency, link = curves.latency, curves.link
    traces = sorted(curves.traces, key=lambda t: t.window)
    windows = [t.window for t in traces]
    figure = Figure(figsize=(12.4, 4.8), dpi=110, facecolor=PAPER)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    first, second, third = figure.subplots(1, 3)
    draw_cost(first, traces)
    batch = traces[0].batch
    devices = few_of(curves.devices)
    for P in devices:
        mark = {"color": shade_of(P, devices), "lw": 1.8, "marker": "o", "ms": 3.5}
        rate = [hardware_efficiency(latency, w * batch, P, link, traces[0].size, batch) for w in windows]
        second.plot(windows, rate, **mark)
        net = [predict_run(latency, t, P, link).speedup for t in traces]
        third.plot(windows, net, **mark)
        for place, values in ((second, rate), (third, net)):
            place.annotate(str(P), (windows[-1], values[-1]), (6, 0), textcoords="offset points", va="center",
                           size=9, color=shade_of(P, devices))  # fmt: skip
        found = [(w, s) for p, w, s in curves.points if p == P]
        third.plot(*zip(*found, strict=True), "D", ms=6, mfc="none", color=shade_of(P, devices)) if found else None
    # Only as far as the curves, whose labels stand behind their ends.
    third.plot((windows[0], windows[-1]), (1, 1), color=INK, lw=1, ls="--", zorder=0)
    dress_axes(second, windows, "efficiency of so many devices", "rows a second, sequential = 1")
    dress_axes(third, windows, "net speedup with so many devices", "sequential time / time")
    third.set_ylim(0, None)
    second.set_ylim(0, None)
    figure.suptitle(f"{title}\n", color=INK, size=12, weight="bold", x=0.012, ha="left")
    figure.text(0.012, 0.915, note, color=GREY, size=9)
    write_figure(figure, path)


def draw_cost(axes: Any, traces: Sequence[Trace]) -> None:
    """Evaluations over the chain's, and on the right the rounds."""
    windows = [t.window for t in traces]
    axes.plot(windows, [t.cost for t in traces], color=ACCENT, lw=2.4, marker="o", ms=4)
    dress_axes(axes, windows, "cost of iterating", "evaluations / sequential's")
    axes.set_ylim(0, None)
    axes.yaxis.label.set_color(ACCENT)
    right = axes.twinx()
    right.plot(windows, [t.rounds for t in traces], color=INK, lw=1.4, ls="--", marker="o", ms=3)
    right.set_ylim(0, None)
    right.set_ylabel("rounds (dashed)", color=INK, size=9)
    right.tick_params(which="both", colors=GREY, labelsize=8.5, length=2.5)
    for side, spine in right.spines.items():
        spine.set_visible(side == "right")
        spine.set_color(FAINT)


def few_of(devices: Sequence[int], most: int = 5) -> list[int]:
    """At most so many of them: the first, the last, and between them those that double."""
    kept = sorted(set(devices))
    doubling = [P for P in kept if P in (kept[0], kept[-1]) or P & (P - 1) == 0]
    kept = doubling if len(kept) > most else kept
    while len(kept) > most:
        del kept[len(kept) // 2]
    return kept


def shade_of(P: int, devices: Sequence[int]) -> Any:
    """A colour that darkens with the number of devices."""
    most = max(log2(max(devices)), 1)
    return colormaps["viridis_r"](0.12 + 0.85 * log2(P) / most)


def dress_axes(axes: Any, windows: Sequence[int], title: str, label: str) -> None:
    """One panel: windows on a log axis, named; no box."""
    axes.set_title(title, color=INK, size=10, loc="left", pad=8)
    axes.set_xlabel("rows of the window", color=GREY, size=9)
    axes.set_ylabel(label, color=GREY, size=9)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xticks(spaced_ticks(windows))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelsize=8.5, length=2.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def spaced_ticks(windows: Sequence[int]) -> list[int]:
    """Those of the windows that are at least a third of an octave apart, the last one among them."""
    kept: list[int] = []
    for w in sorted(set(windows), reverse=True):
        if not kept or kept[-1] / w >= 1.3:
            kept.append(w)
    return kept
