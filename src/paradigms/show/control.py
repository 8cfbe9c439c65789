"""A policy in pictures: reward against time, and sequential beside parallel control in real time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .palette import ACCENT, GREY, INK
from .pictures import save

SHADES = {"sequential": INK, "paper": GREY, "ours": ACCENT, "ours, warm": "#d9534f", "few-step": "#3d7ea6"}
MARKS = {"DDPM-100": "o", "DDIM-15": "s", "DPMSolver-15": "^"}


def picture(out: Path, task: str, measured: Mapping[str, Any]) -> Path | None:
    """Writes out/policies-TASK.png, the mean reward against a chunk's time; None where neither was measured."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    drawn = 0
    for sampler, mark in MARKS.items():
        for way, shade in SHADES.items():
            alone = measured.get(f"chunks {sampler} {way}")
            blocks = [v["score"] for k, v in measured.items() if k.startswith(f"episodes {sampler} {way} ")]
            scores = [s for b in blocks for s in b]
            if not alone or len(scores) < 2:
                continue
            x, y = 1e3 * statistics.median(alone["seconds"]), statistics.mean(scores)
            error = statistics.stdev(scores) / len(scores) ** 0.5
            axes.errorbar(x, y, error, color=shade, marker=mark, ms=8, lw=0, elinewidth=1.2, capsize=2)
            drawn += 1
    if not drawn:
        return None
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a chunk (median, batch 1)", color=GREY)
    axes.set_ylabel("mean reward ± standard error", color=GREY)
    axes.set_title(f"{task}: up and to the left is better", loc="left", color=INK, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    ways = [axes.plot([], [], "o", color=c, label=w)[0] for w, c in SHADES.items()]
    kinds = [axes.plot([], [], m, color=GREY, label=s)[0] for s, m in MARKS.items()]
    axes.legend(handles=[*ways, *kinds], frameon=False, fontsize=8, ncol=2)
    path = out / f"policies-{task}.png"
    save(figure, path)
    return path
