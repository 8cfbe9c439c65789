"""The frontier in short: one row a chain, and how often another method needs fewer rounds.

    rounds = mean rounds of the best measured point whose largest error is within the limit
    ratio = our rounds / the least rounds of another method, in the same cell

The others are measured with the criterion beside their name, some of them with ours. ParaDiGMS run by diffusers, and
methods that are exact in law, are not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..report import table
from .matched import BASE, in_the_race, plain_errors

Cells = Mapping[str, Any]
USUAL = 32  # of the windows that a chain was measured with, the one nearest to it is shown
SHARES = ((1 / 12, "at most 1/12"), (1 / 6, "1/12 to 1/6"), (1 / 3, "1/6 to 1/3"), (1.0, "above 1/3"))


def short_sections(data: Mapping[str, Any], limits: Mapping[str, Any], ours: Sequence[str]) -> list[tuple[str, str]]:
    """The report's first (heading, text); data: cells and the few-step sampler's errors."""
    return [
        ("At a glance", at_a_glance(data, limits, ours)),
        ("Against the best other method, by window / steps", by_share(data["cells"], limits, ours)),
    ]


def at_a_glance(data: Mapping[str, Any], limits: Mapping[str, Any], ours: Sequence[str]) -> str:
    """One row a chain: rounds and evaluations a step of ParaDiGMS, the best other method and ours, at each limit."""
    rows = []
    for name in usual_windows(data["cells"]):
        row = [name]
        for here in limits.values():
            best, other = here[name]["best"], best_other(here[name], ours)
            row += [told(best, BASE), f"{told(best, other)} {other}" if other else "-", *(told(best, m) for m in ours)]
        loosest = next(iter(limits.values()))[name]["best"]
        fewest = min((loosest[m] for m in ours if m in loosest), key=lambda p: p["rounds"], default=None)
        rows.append([*row, plain_errors(data, data["cells"][name], fewest)[0]])
    heads = [f"{who}, {limit} %" for limit in limits for who in (BASE, "best other", *ours)]
    return table(("chain and window", *heads, "few-step error at our rounds"), rows)


def by_share(cells: Cells, limits: Mapping[str, Any], ours: Sequence[str]) -> str:
    """One row a limit and range of window / steps: the cells where no other method needs fewer rounds, the ratio."""
    rows: list[list[Any]] = []
    for limit, here in limits.items():
        low = 0.0
        for high, label in SHARES:
            ratios = []
            for name, cell in cells.items():
                best, other = here[name]["best"], best_other(here[name], ours)
                mine = [best[m]["rounds"] for m in ours if m in best]
                if low < cell["window"] / cell["N"] <= high and other and mine:
                    ratios.append([r / best[other]["rounds"] for r in (mine[0], min(mine))])
            low = high
            if ratios:
                first, least = zip(*ratios, strict=True)
                counts = sum(r <= 1 for r in first), sum(r <= 1 for r in least)
                middle = statistics.median(first), statistics.median(least), max(least)
                rows.append([f"{limit} %", label, str(len(ratios)), *map(str, counts), *(f"{m:.2f}" for m in middle)])
    who = ours[0], "the better of " + " and ".join(ours)
    heads = *(f"{m} first" for m in who), *(f"median ratio, {m}" for m in who), "largest ratio"
    return table(("largest error", "window / steps", "cells", *heads), rows)


def usual_windows(cells: Cells) -> list[str]:
    """Of each problem and rule the cell whose window is nearest to the usual one, in the order of the cells."""
    found: dict[tuple[str, str], str] = {}
    for name, cell in cells.items():
        known = found.setdefault((cell["problem"], cell["rule"]), name)
        if abs(cell["window"] - USUAL) < abs(cells[known]["window"] - USUAL):
            found[cell["problem"], cell["rule"]] = name
    return list(found.values())


def best_other(entry: Mapping[str, Any], ours: Collection[str]) -> str | None:
    """The method that is not ours with the fewest rounds in a cell; None where none reached the limit."""
    others = [m for m in in_the_race(entry["best"], entry["law"]) if m not in ours]
    return min(others, key=lambda m: entry["best"][m]["rounds"], default=None)


def told(best: Mapping[str, Any], method: str) -> str:
    """Rounds and (evaluations a step)."""
    point = best.get(method)
    return f"{point['rounds']:.1f} ({point['evals / N']:.1f})" if point else "-"
