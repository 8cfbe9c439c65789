"""The tables of `python -m benchmarks kept`: a line a cell and tolerance, totals before them, the worst samples after.

ratio = mean rounds / the release's mean rounds,   its mean over cells is geometric
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..report import table

GOAL, WORST = 0.99, 20  # the share that a cell is to keep; samples that are listed
SUMS = ("samples", "kept", "silent", "warned", "rounds", "evals")


def point(cell: Mapping[str, Any], way: str, tolerance: str) -> dict[str, Any] | None:
    """A way's numbers at a tolerance over all batches of a cell; None where nothing was measured."""
    batches = [b[tolerance] for b in cell["ways"].get(way, {"batches": {}})["batches"].values()]
    ran = [b for b in batches if "failed" not in b]
    if not ran:
        return None
    total = {name: sum(b[name] for b in ran) for name in SUMS}
    B, all_samples = total["samples"], sum(b["samples"] for b in batches)
    return {
        "samples": all_samples,
        "kept": total["kept"] / all_samples,
        "within": total["kept"],
        "silent": total["silent"],
        "warned": total["warned"],
        "worst": max(b["worst"] for b in ran) if len(ran) == len(batches) else math.inf,
        "rounds": total["rounds"] / B,
        "most": max(b["max rounds"] for b in ran),
        "evals / N": total["evals"] / B / cell["N"],
    }


def rows(cells: Mapping[str, Any], way: str, other: str) -> list[dict[str, Any]]:
    """A line a cell and tolerance: the way's point, the other's, what they are of."""
    found = []
    for name, cell in cells.items():
        tolerances = {t: None for b in cell["ways"].get(way, {"batches": {}})["batches"].values() for t in b}
        for t in tolerances:
            here, there = (point(cell, w, t) for w in (way, other))
            if here is not None:
                found.append({"cell": name, "problem": cell["problem"], "tolerance": t, "here": here, "there": there})
    return found


def percent(share: float) -> str:
    """A share, never rounded up to all."""
    return "100" if share == 1 else f"{math.floor(1000 * share) / 10:.1f}"


def lines(found: Sequence[Mapping[str, Any]]) -> str:
    """All cells."""
    cells: list[list[Any]] = []
    for row in found:
        h, t = row["here"], row["there"]
        cells.append([
            row["cell"], f"{100 * float(row['tolerance']):g} %", h["samples"], percent(h["kept"]), f"{h['worst']:.2f}",
            f"{h['rounds']:.1f} ({h['most']})", f"{h['evals / N']:.2f}",
            *([percent(t["kept"]), f"{t['worst']:.2f}", f"{t['rounds']:.1f} ({t['most']})", f"{t['evals / N']:.2f}",
               f"{h['rounds'] / t['rounds']:.2f}"] if t else ["-"] * 5),
        ])  # fmt: skip
    head = ("cell", "asked", "samples", "kept %", "worst / asked", "rounds (max)", "evals / N")
    return table((*head, *(f"0.1.0: {name}" for name in head[3:]), "rounds / 0.1.0"), cells)


def totals(found: Sequence[Mapping[str, Any]]) -> str:
    """By problem, by tolerance, and all."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        groups.setdefault(row["problem"], []).append(row)
    for row in found:
        groups.setdefault(f"all, {100 * float(row['tolerance']):g} %", []).append(row)
    groups["all"] = list(found)
    kept = ("cells with >= 99 %", "samples kept %", "worst / asked")
    head = (
        "what",
        "cells",
        *kept,
        "missed and called converged",
        "rounds / 0.1.0",
        *(f"0.1.0: {name}" for name in kept),
    )
    return table(head, [[name, *total(group)] for name, group in groups.items() if group])


def total(group: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The numbers of some cells together."""
    here, pairs = [row["here"] for row in group], [(row["here"], row["there"]) for row in group if row["there"]]
    ratio = math.exp(sum(math.log(h["rounds"] / t["rounds"]) for h, t in pairs) / len(pairs)) if pairs else math.nan
    return [
        len(here), *reached(here), sum(h["silent"] for h in here), f"{ratio:.2f}",
        *(reached([t for _, t in pairs]) if pairs else ["-"] * 3),
    ]  # fmt: skip


def reached(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Share of cells that reach the goal, share of samples kept, the worst multiple."""
    reach = sum(p["kept"] >= GOAL for p in points) / len(points)
    share = sum(p["within"] for p in points) / sum(p["samples"] for p in points)
    return [f"{percent(reach)} %", percent(share), f"{max(p['worst'] for p in points):.2f}"]


def worst(cells: Mapping[str, Any], way: str) -> str:
    """The samples that are furthest off, so that they can be made again."""
    found = [
        (multiple, name, t, seed, b)
        for name, cell in cells.items()
        for seed, batch in cell["ways"].get(way, {"batches": {}})["batches"].items()
        for t, entry in batch.items()
        for b, multiple in entry.get("missed", [])
    ]
    found.sort(reverse=True)
    rows = [[name, t, seed, b, f"{multiple:.2f}"] for multiple, name, t, seed, b in found[:WORST]]
    failed = [
        [name, t, seed, "all", entry["failed"]]
        for name, cell in cells.items()
        for seed, batch in cell["ways"].get(way, {"batches": {}})["batches"].items()
        for t, entry in batch.items()
        if "failed" in entry
    ]
    head = ("cell", "tolerance", "seed", "sample", "error / asked")
    return table(head, failed + rows) if failed + rows else "None is off by more than was asked."


def sections(cells: Mapping[str, Any], way: str, other: str) -> list[tuple[str, str]]:
    """The report of what was measured."""
    found = rows(cells, way, other)
    if not found:
        return [("Nothing", "No cell was measured in the time that was given.")]
    about = (
        "A cell counts once a tolerance. Kept: the relative error against the sequential sample on the same noise is "
        "at most what was asked. Rounds / 0.1.0: the ratio of mean rounds, its geometric mean over cells."
    )
    return [
        ("Totals", f"{totals(found)}\n\n{about}"),
        ("Furthest off", worst(cells, way)),
        ("Cells", lines(found)),
    ]
