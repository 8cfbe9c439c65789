"""A network's rows on one machine: seconds of a call and peak memory against rows, and what devices would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from paradigms.viz.palette import ACCENT, GREY, INK, PAPER
from paradigms.viz.pictures import write_figure
from paradigms.viz.plan import dress_axes

COLOURS = {0: INK, 1: ACCENT, 2: "#3d7ea6"}


def curves(
    path: Path,
    title: str,
    note: str,
    points: Sequence[tuple[int, float, int | None]],
    plans: Mapping[str, Sequence[tuple[int, float]]],
) -> None:
    """Writes the panels: points (rows, seconds, bytes), plans (devices, speedup) by name; no last one without plans."""
    rows = [r for r, _, _ in points]
    figure = Figure(figsize=(12.4 if plans else 8.4, 4.6), dpi=110, facecolor=PAPER)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(1, 3 if plans else 2)
    panel(panels[0], rows, [s for _, s, _ in points], "latency", "seconds of a call")
    panels[0].plot(rows, [points[0][1] * r for r in rows], color=GREY, lw=1.2, ls="--", label="one row after another")
    panels[0].legend(frameon=False, labelcolor=INK, fontsize=9)
    told = [(r, b / 2**20) for r, _, b in points if b is not None]
    panel(panels[1], [r for r, _ in told], [b for _, b in told], "peak memory, weights not counted", "MiB")
    for k, (name, plan) in enumerate(plans.items()):
        counts = [P for P, _ in plan]
        panels[2].plot(counts, [s for _, s in plan], color=COLOURS[k % 3], lw=2, marker="o", ms=4, label=name)
        dress_axes(panels[2], counts, "a prediction: speedup of DDPM-1000", "sequential time / time")
        panels[2].set_xlabel("devices, at the best window each", color=GREY, size=9)
    if plans:
        panels[2].axhline(1, color=INK, lw=1, ls="--", zorder=0)
        panels[2].legend(frameon=False, labelcolor=INK, fontsize=9)
    for axes in panels:
        axes.set_ylim(0, None)
    figure.suptitle(f"{title}\n", color=INK, size=12, weight="bold", x=0.012, ha="left")
    figure.text(0.012, 0.91, note, color=GREY, size=9)
    write_figure(figure, path)


def panel(axes: Any, rows: Sequence[int], values: Sequence[float], title: str, label: str) -> None:
    """One measured quantity against rows."""
    axes.plot(rows, values, color=ACCENT, lw=2.4, marker="o", ms=4)
    dress_axes(axes, rows, title, label)
    axes.set_xlabel("rows of a call", color=GREY, size=9)
