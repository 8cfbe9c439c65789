"""The frontier in pictures: the largest error against rounds and evaluations, a panel a rule, five lines at most.

The five are ours, the paper's, two rivals, and the plain sampler of fewer steps; the tables have every method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from paradigms.viz.palette import ACCENT, FAINT, GREY, INK, PAPER
from paradigms.viz.pictures import write_figure

BASE, FEW = "ParaDiGMS", "few-step sampler"
RIVALS = ("ParaTAA", "Anderson")  # published beside the paper; the best of the others in most cells
COLOURS = ("#3d7ea6", "#5b9a68", "#8f6bb3")  # of the rivals, in turn
MARKS = "svD"
OURS = (ACCENT, "#c0392b")
MAIN = ("scenes", "digits"), ("DDPM-1000", "DDPM-100", "DDIM-200", "DDIM-50")
ACROSS = 2  # panels beside each other in frontier.png: as many as a page shows in full size
FLOOR = 1e-5  # errors below are float32's
Lines = dict[str, list[tuple[float, float, float]]]  # of a name: rounds, evals / N, max error


def pictures(out: Path, data: Mapping[str, Any], names: Sequence[str], ours: set[str]) -> list[Path]:
    """Writes one figure a problem and window (the default one, the whole chain), and frontier.png; returns paths."""
    cells, few, written = data["cells"], data["few-step"], []
    style = styles(four(names, ours), ours)
    for problem in dict.fromkeys(cell["problem"] for cell in cells.values()):
        for suffix, pick in (("", usual), ("-whole", whole_chain)):
            panels = {
                cell["rule"]: (f"{cell['rule']}, window {cell['window']}", lines(cell, few))
                for cell in cells.values()
                if cell["problem"] == problem and pick(cell)
            }
            if panels:
                path = out / f"frontier-{problem}{suffix}.png"
                both(path, f"{problem}: lower left is better", list(panels.values()), style)
                written.append(path)
    problems, rules = MAIN
    usual_cells = {(c["problem"], c["rule"]): c for c in cells.values() if usual(c)}
    columns = [rule for rule in rules if any((p, rule) in usual_cells for p in problems)]
    rows = [
        [
            (f"{p}, {rule}, window {c['window']}", lines(c, few)) if (c := usual_cells.get((p, rule))) else ("", {})
            for rule in pair
        ]
        for p in problems
        for pair in (columns[k : k + ACROSS] for k in range(0, len(columns), ACROSS))
        if any((p, rule) in usual_cells for rule in pair)
    ]
    rows = [[*row, *[("", {})] * (len(rows[0]) - len(row))] for row in rows]
    if rows:
        written.append(out / "frontier.png")
        matters(written[-1], rows, style)
    return written


def usual(cell: Mapping[str, Any]) -> bool:
    """Whether the window is the default one."""
    return bool(cell["window"] == min(32 if cell["N"] < 500 else 80, cell["N"]))


def whole_chain(cell: Mapping[str, Any]) -> bool:
    """Whether the window is the whole chain, where that is not the default."""
    return bool(cell["window"] == cell["N"]) and not usual(cell)


def lines(cell: Mapping[str, Any], few: Mapping[str, Any]) -> Lines:
    """The points of every method in a cell, and the few-step sampler's, whose evaluations are its rounds."""
    found: Lines = {}
    for name, entry in cell["methods"].items():
        points = [p for p in entry["points"] if "rounds" in p]
        found[name] = [(p["rounds"], p["evals / N"], max(p["max error"], FLOOR)) for p in points if "max error" in p]
    steps = few.get(f"{cell['problem']}/{cell['rule']}/{cell['batch']}", {})
    found[FEW] = [
        (int(k), int(k) / cell["N"], max(v["max error"], FLOOR))
        for k, v in sorted(steps.items(), key=lambda item: int(item[0]))
    ]
    return found


def four(names: Sequence[str], ours: set[str]) -> list[str]:
    """The methods that are drawn: ours, the paper's and the rivals, or the first four where those take no part."""
    chosen = [n for n in names if n in ours or n in (BASE, *RIVALS)]
    return (chosen if BASE in chosen else list(names))[:4]


def styles(names: Sequence[str], ours: set[str]) -> dict[str, dict[str, Any]]:
    """How each line is drawn, in the order of the legend: ours in front, the few-step sampler behind."""
    found: dict[str, dict[str, Any]] = {}
    rivals = [n for n in names if n not in ours and n != BASE]
    for n in names:
        if n in ours:
            colour = OURS[[m for m in names if m in ours].index(n) % len(OURS)]
            shade = {"color": colour, "lw": 2.8, "marker": "o", "ms": 6, "zorder": 5}
        elif n == BASE:
            shade = {"color": INK, "lw": 1.8, "marker": "o", "ms": 4, "zorder": 4}
        else:
            k = rivals.index(n) % len(COLOURS)
            shade = {"color": COLOURS[k], "lw": 1.3, "marker": MARKS[k], "ms": 4, "zorder": 3}
        found[n] = shade
    found[FEW] = {"color": GREY, "lw": 1.4, "ls": "--", "zorder": 2}
    return found


def both(path: Path, title: str, panels: Sequence[tuple[str, Lines]], style: dict[str, dict[str, Any]]) -> None:
    """Rounds above, evaluations below, a column a panel."""
    figure, axes = sheet(2, len(panels))
    for column, (name, found) in enumerate(panels):
        for row, label in enumerate(("rounds", "evaluations / N")):
            draw(axes[row][column], found, style, row)
            axes[row][column].set_xlabel(label, color=GREY, size=9)
        heading(axes[0][column], name)
    finish(figure, axes, path, title, style, [f for _, f in panels])


def matters(path: Path, rows: Sequence[Sequence[tuple[str, Lines]]], style: dict[str, dict[str, Any]]) -> None:
    """Rounds against the largest error: a problem after the other, each a panel a rule."""
    figure, axes = sheet(len(rows), len(rows[0]))
    for row, panels in enumerate(rows):
        for place, (name, found) in zip(axes[row], panels, strict=True):
            if not found:
                place.set_axis_off()
                continue
            draw(place, found, style, 0)
            heading(place, name)
            if row == len(rows) - 1:
                place.set_xlabel("rounds: model calls one after the other", color=GREY, size=9)
    title = "Fewer rounds at equal error: lower left is better"
    finish(figure, axes, path, title, style, [f for panels in rows for _, f in panels])


def sheet(rows: int, columns: int) -> tuple[Figure, list[list[Any]]]:
    """A figure with rows x columns of axes that share their errors."""
    figure = Figure(figsize=(max(2.9 * columns + 0.5, 6.4), 2.7 * rows + 1.3), dpi=110, facecolor=PAPER)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=True).tolist()


def draw(axes: Any, found: Lines, style: dict[str, dict[str, Any]], across: int) -> None:
    """The lines of one panel: column `across` of the points against the largest error, sparse ticks, no box."""
    for name, how in style.items():
        points = sorted(found.get(name, ()), key=lambda p: (p[across], -p[2]))
        axes.plot([p[across] for p in points], [p[2] for p in points], **how)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(FLOOR / 1.5, 3)
    for limit in (0.01, 0.001):
        axes.axhline(limit, color=FAINT, lw=1.2, zorder=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    axes.tick_params(which="both", colors=GREY, labelsize=8.5, length=2.5)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(
        LogLocator(10, subs=(1, 2, 5) if high > 6 * low else (1, 1.5, 2, 3, 4, 6, 8), numticks=12)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))


def heading(axes: Any, text: str) -> None:
    """A panel's title."""
    axes.set_title(text, color=INK, size=10, loc="left", pad=8)


def finish(
    figure: Figure,
    axes: list[list[Any]],
    path: Path,
    title: str,
    style: dict[str, dict[str, Any]],
    panels: Sequence[Lines],
) -> None:
    """Title, one legend below all panels for what was drawn, labels on the left; then the file."""
    for row in axes:
        row[0].set_ylabel("largest error", color=GREY, size=9)
    shown = [name for name in style if any(found.get(name) for found in panels)]
    handles = [axes[0][0].plot([], [], label=name, **style[name])[0] for name in shown]
    columns = min(len(shown), int(figure.get_figwidth() / 2.1))
    how: dict[str, Any] = {"ncols": columns, "frameon": False, "labelcolor": INK, "fontsize": 9}
    figure.legend(handles=handles, loc="outside lower center", **how)
    figure.suptitle(title, color=INK, size=12, weight="bold", x=0.012, ha="left")
    write_figure(figure, path)
