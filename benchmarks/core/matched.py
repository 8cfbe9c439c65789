"""The frontier's analysis: methods at matched error, from measured points alone.

    best(points, limit) = the point of least mean rounds, then least evaluations, with its largest error <= limit
    ratio = rounds(method) / rounds(ParaDiGMS)          winner = the method of least rounds, then least evaluations
    calibration = largest error found / error asked for

Three stand beside the methods and win nothing: the outside reference, which is ParaDiGMS again, on fewer samples; the
few-step sampler, which is another sampler; a method that is exact in law, whose path is another and has no error.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..report import cell as text
from ..report import table

LIMITS = (0.01, 0.001)
BASE, OUTSIDE = "ParaDiGMS", "diffusers"
Point = Mapping[str, Any]


def best(points: Sequence[Point], limit: float) -> Point | None:
    """The cheapest measured point whose largest error is within the limit; None where there is none."""
    good = [p for p in points if "max error" in p and p["max error"] <= limit]
    return min(good, key=cost, default=None)


def cost(point: Point) -> tuple[float, float]:
    """What points are ranked by."""
    return point["rounds"], point["evals / N"]


def plain_steps(point: Point, N: int) -> list[int]:
    """The steps of the plain sampler at a point's rounds and at its evaluations; fewer than N, whose error is none."""
    return [k for k in (round(point["rounds"]), round(point["evals / N"] * N)) if 0 < k < N]


def rivals(cells: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each limit (per cent) and cell: the best point of every method that has one, the winner, the ratios."""
    found: dict[str, dict[str, Any]] = {}
    for limit in LIMITS:
        here = found.setdefault(f"{100 * limit:g}", {})
        for name, cell in cells.items():
            records = {m: cell["methods"][m] for m in names if m in cell["methods"]}
            law = [m for m, record in records.items() if record.get("law")]
            points = {m: best(r["points"], math.inf if m in law else limit) for m, r in records.items()}
            reached = {m: dict(p) for m, p in points.items() if p is not None}
            racing = in_the_race(reached, law)
            base = reached.get(BASE)
            here[name] = {
                "best": reached,
                "law": law,
                "missed": [m for m in points if m not in reached],
                "winner": min(racing, key=lambda m: cost(reached[m]), default=None),
                "ratio": {m: p["rounds"] / base["rounds"] for m, p in reached.items()} if base else {},
            }
    return found


def in_the_race(methods: Collection[str], law: Collection[str]) -> list[str]:
    """The methods that can win a cell."""
    return [m for m in methods if m != OUTSIDE and m not in law]


def calibration(cells: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """For each method that promises an error, what it gave over what was asked: median, worst and where, share kept."""
    found: dict[str, Any] = {}
    for method in names:
        ratios = [
            (p["max error"] / p["tolerance"], f"{name} at {p['tolerance']:g}")
            for name, cell in cells.items()
            for p in cell["methods"].get(method, {}).get("points", ())
            if "max error" in p and p["tolerance"] > 0
        ]
        if ratios:
            values, (worst, where) = [r for r, _ in ratios], max(ratios)
            kept = sum(v <= 1 for v in values) / len(values)
            shares = [
                (p["kept"], cell["batch"])
                for cell in cells.values()
                for p in cell["methods"].get(method, {}).get("points", ())
                if "kept" in p
            ]
            found[method] = {
                "points": len(values),
                "median": statistics.median(values),
                "worst": worst,
                "where": where,
                "kept": kept,
                "samples kept": sum(k * b for k, b in shares) / sum(b for _, b in shares) if shares else "-",
            }
    return found


def sections(data: Mapping[str, Any], names: Sequence[str], found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The report's (heading, text)."""
    cells, parts = data["cells"], []
    names = [m for m in names if any(m in cell["methods"] for cell in cells.values())]
    for limit, here in found["limits"].items():
        parts.append((f"Rounds at a largest error of {limit} %, against {BASE}", summary(cells, here, names)))
    for limit, here in found["limits"].items():
        parts.append((f"By rule: median ratio of rounds to {BASE} at {limit} %", by_rule(cells, here, names)))
    for limit, here in found["limits"].items():
        parts.append(
            (f"Every cell at {limit} %: mean and most rounds of a sample (evals / N)", every(data, here, names))
        )
    if found["calibration"]:
        head = ("method", "points", "median", "worst", "where", "kept", "samples kept")
        body = table(head, [[m, *entry.values()] for m, entry in found["calibration"].items()])
        parts.append(("Calibration: largest error found / error asked for", body))
    return parts


def summary(cells: Mapping[str, Any], here: Mapping[str, Any], names: Sequence[str]) -> str:
    """One row a method, over all cells."""
    rows: list[list[Any]] = []
    for m in names:
        tried = [name for name, cell in cells.items() if m in cell["methods"]]
        points = [here[name]["best"][m] for name in tried if m in here[name]["best"]]
        ratios = [here[name]["ratio"][m] for name in tried if m in here[name]["ratio"]]
        beside = m == OUTSIDE or any(m in here[name]["law"] for name in tried)
        wins = "-" if beside else str(sum(here[name]["winner"] == m for name in tried))
        evaluations = statistics.median(p["evals / N"] for p in points) if points else "-"
        middle, most = (statistics.median(ratios), max(ratios)) if ratios else ("-", "-")
        rows.append([m, f"{len(points)} of {len(tried)}", wins, middle, most, evaluations])
    return table(("method", "cells reached", "won", "median ratio", "largest ratio", "median evals / N"), rows)


def by_rule(cells: Mapping[str, Any], here: Mapping[str, Any], names: Sequence[str]) -> str:
    """One row a rule, one column a method; how many cells where it did not reach all that ParaDiGMS reached."""
    rows: list[list[Any]] = []
    for rule in dict.fromkeys(cell["rule"] for cell in cells.values()):
        of = [name for name, cell in cells.items() if cell["rule"] == rule]
        row: list[Any] = [rule, str(len(of))]
        for m in names:
            ratios = [here[name]["ratio"][m] for name in of if m in here[name]["ratio"]]
            short = f" ({len(ratios)} cells)" if ratios and len(ratios) < len(of) else ""
            row.append(f"{statistics.median(ratios):.2f}{short}" if ratios else "-")
        rows.append(row)
    return table(("rule", "cells", *names), rows)


def every(data: Mapping[str, Any], here: Mapping[str, Any], names: Sequence[str]) -> str:
    """One row a cell: the best point of each method, the winner's in bold, and the few-step sampler's error there."""
    rows: list[list[Any]] = []
    for name, cell in data["cells"].items():
        entry, winner = here[name], here[name]["winner"]
        row: list[Any] = [name]
        for m in names:
            if m in entry["best"]:
                point = entry["best"][m]
                told = f"{point['rounds']:.1f}, {point['max rounds']:.0f} ({point['evals / N']:.1f})"
                told += " in law" if m in entry["law"] else ""
                row.append(f"**{told}**" if m == winner else told)
            else:
                row.append("missed" if m in entry["missed"] else "")
        rows.append(row + plain_errors(data, cell, entry["best"].get(winner)))
    plain = "few-step max error, winner's rounds", "few-step max error, winner's evaluations"
    return table(("cell", *names, *plain), rows)


def plain_errors(data: Mapping[str, Any], cell: Mapping[str, Any], point: Point | None) -> list[str]:
    """The plain sampler's error at a point's rounds and at its evaluations; 0 where those are enough for all steps."""
    if point is None:
        return ["-", "-"]
    few, N = data["few-step"].get(f"{cell['problem']}/{cell['rule']}/{cell['batch']}", {}), cell["N"]
    steps = round(point["rounds"]), round(point["evals / N"] * N)
    return ["0" if k >= N else text(few[str(k)]["max error"]) if str(k) in few else "-" for k in steps]
