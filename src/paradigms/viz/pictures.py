"""The still pictures: samples in labelled rows, and how the window went through the chain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..files import write_whole
from ..solution import Solution
from .palette import ACCENT, FAINT, GREY, INK, PAPER, Pixels, difference, enlarge, pixels

SIDE, GAP, ACROSS = 128, 8, 8  # pixels of a sample, between samples, samples in a row without a label
DPI = 100
# The difference is drawn so many times as large. Chosen by hand.
TIMES = 10


def rows_of(solution: Solution) -> list[tuple[str, Pixels]]:
    """The labelled rows of a solution: sequential, parallel and their difference where compared."""
    x = solution.x
    if solution.comparison is None:
        return [("", pixels(x[k : k + ACROSS])) for k in range(0, len(x), ACROSS)]
    reference = solution.comparison.x
    return [
        ("sequential", pixels(reference)),
        ("parallel", pixels(x)),
        (f"difference\ntimes {TIMES}", difference(x, reference, TIMES)),
    ]


def write_sample(path: Path, x: Tensor) -> None:
    """Write one sample (1, C, H, W) as it is, pixel for pixel."""
    from PIL import Image

    with write_whole(path) as partial:
        Image.fromarray(pixels(x)[0]).save(partial, format="PNG")


def write_grid(path: Path, title: str, rows: Sequence[tuple[str, Pixels]]) -> None:
    """Write rows of samples, each a label and at most 16 pictures (B, H, W, 3), under a title."""
    rows = [(label, pictures[: 2 * ACROSS]) for label, pictures in rows]  # a wider picture shows less
    across = max(len(pictures) for _, pictures in rows)
    left, top, edge = (104 if any(label for label, _ in rows) else 16), 48, 16
    wide = max(left + across * (SIDE + GAP) - GAP + edge, 24 + 9 * len(title), 320)
    high = top + len(rows) * (SIDE + GAP) - GAP + edge
    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI, facecolor=PAPER)
    figure.text(16 / wide, 1 - 24 / high, title, color=INK, size=11, weight="bold", va="center")
    for row, (label, pictures) in enumerate(rows):
        y = top + row * (SIDE + GAP)
        figure.text(16 / wide, 1 - (y + SIDE / 2) / high, label, color=GREY, size=9.5, va="center")
        for column, picture in enumerate(pictures):
            x = left + column * (SIDE + GAP)
            axes = figure.add_axes((x / wide, 1 - (y + SIDE) / high, SIDE / wide, SIDE / high))
            axes.imshow(enlarge(picture, SIDE), interpolation="nearest")
            axes.set_axis_off()
    write_figure(figure, path)


def write_trace(path: Path, title: str, solution: Solution, rows: int) -> None:
    """Write the plot of the window against rounds, with the sequential sampler's diagonal, for a chain of `rows`."""
    begin, end, _ = np.array(solution.trace).T
    rounds, begin, end = np.arange(len(begin) + 1), np.append(begin, begin[-1]), np.append(end, end[-1])
    figure = Figure(figsize=(6.4, 4), dpi=150, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(rounds, begin, end, color=ACCENT, alpha=0.35, lw=0, label="the window", step="post")
    axes.step(rounds, begin, color=ACCENT, lw=2, where="post", label="first row in the window")
    axes.plot(rounds, rounds, color=INK, lw=1.5, ls="--", label="one row a round: sequential")
    axes.set_title(title, color=INK, size=11, weight="bold", loc="left", pad=12)
    axes.set_xlabel("round: one batch through the model", color=GREY)
    axes.set_ylabel("row of the chain", color=GREY)
    axes.set_xlim(0, len(rounds))
    axes.set_ylim(0, rows * 1.02)
    dress_axes(axes)
    axes.legend(frameon=False, labelcolor=INK, loc="best", fontsize=9)
    write_figure(figure, path)


def dress_axes(axes: Any) -> None:
    """A plain frame: two thin axes, whole rounds, no box."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    axes.tick_params(colors=GREY, labelsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    with write_whole(path) as partial:
        figure.savefig(partial, format="png", facecolor=figure.get_facecolor())
