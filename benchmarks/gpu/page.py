"""The page: every row that is asked for, measured or not, with the machine, the versions, medians and spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report import table, write
from .latency import MODES
from .settings import FULL, PARTS, Bench

if TYPE_CHECKING:
    from .rows import Row

NOT = "not measured"
COMMAND = "python -m benchmarks gpu --minutes 8 --out benchmarks/results"
WAYS_HEAD = ("way", "ms a sample, median", "least - most", "speedup", "rounds", "evaluations", "largest error")
Found = dict[str, Any]


def write_page(out: Path, name: str, data: Found, rows: Sequence[Row], bench: Bench, full: Sequence[Row] = ()) -> str:
    """Writes OUT/name.md and .json; returns the page. full: the rows of a full run, of which an estimate is made."""
    sections = [("What this is", about(data, rows, bench))]
    for part, title in PARTS.items():
        named = [row for row in rows if row.part == part]
        if named:
            sections.append((title, section(part, named, data)))
    sections.append(("The time it takes", times(data, rows, full)))
    kept = {**data, **({"estimate": {row.name: row.seconds(FULL) for row in full}} if full else {})}
    title = "On a GPU" if not bench.settings.small else "The GPU measurement in small, on this machine"
    return write(out, name, title, sections, kept)


def about(data: Found, rows: Sequence[Row], bench: Bench) -> str:
    """How many rows, on what, and the command."""
    n = sum(row.name in data["rows"] for row in rows)
    facts = "\n".join(f"- {k}: {data['device'][k]}" for k in ("device", "cuda", "float32", "captured", "compiled")
                      if k in data["device"])  # fmt: skip
    small = (
        "Small networks and short chains: what is measured here shows that the program works, not what a GPU does.\n\n"
    )
    return (
        f"{small * bench.settings.small}{n} of {len(rows)} rows were measured. The others say so, and why; "
        f"this measures them on a GPU, and goes on where it was stopped:\n\n    {COMMAND}\n\n{facts}"
    )


def section(part: str, rows: Sequence[Row], data: Found) -> str:
    """The tables of a part, and the rows that were not measured."""
    found = [(row.name, data["rows"][row.name]) for row in rows if row.name in data["rows"]]
    text = SECTIONS[part](found) if found else ""
    missing = [(row.name, data["left out"].get(row.name, "not tried")) for row in rows if row.name not in data["rows"]]
    why: dict[str, list[str]] = {}
    for name, reason in missing:
        why.setdefault("no time" if reason.startswith("no time") else reason, []).append(name.split(": ", 1)[1])
    said = [f"- {NOT} ({reason}): {'; '.join(names)}" for reason, names in why.items()]
    return "\n\n".join(filter(None, (text, "\n".join(said))))


def calls(found: Sequence[tuple[str, Found]]) -> str:
    """a. Milliseconds and memory by rows, a table for each network."""
    texts = []
    for name in dict.fromkeys(row["network"] for _, row in found):
        here = [row for _, row in found if row["network"] == name]
        sizes = sorted({p["rows"] for row in here for p in row["points"]})
        body = []
        for row in sorted(here, key=lambda r: (r["dtype"], MODES.index(r["mode"]))):
            by = {p["rows"]: p for p in row["points"]}
            body.append([row["dtype"], row["mode"], *(milliseconds(by.get(M)) for M in sizes), memory(row["points"])])
        shape = "x".join(map(str, here[0]["shape"]))
        head = ("dtype", "network is", *(f"{M} rows" for M in sizes), "peak memory, MiB")
        texts.append(f"**{name}**: {here[0]['parameters']:,} parameters, a row is {shape}\n\n{table(head, body)}")
    note = "Milliseconds of a call, the median, and in brackets the spread, most less least, in per cent of it."
    return "\n\n".join([*texts, note])


def milliseconds(point: Found | None) -> str:
    """A point of a table of calls."""
    if point is None:
        return ""
    if "no room" in point:
        return "no room"
    s = point["seconds"]
    return f"{1000 * s['median']:.3g} ({100 * (s['most'] - s['least']) / s['median']:.0f})"


def memory(points: Sequence[Found]) -> str:
    """Peak memory of the largest call."""
    known = [p for p in points if p.get("memory") is not None]
    return f"{known[-1]['memory'] / 2**20:.0f} at {known[-1]['rows']}" if known else NOT


def chains(found: Sequence[tuple[str, Found]]) -> str:
    """b and c. A table for each chain."""
    texts = []
    for _, row in found:
        body = []
        for way, told in row["ways"].items():
            if "failed" in told:
                body.append([way, told["failed"], *[""] * 5])
                continue
            s = told["seconds"]
            spread = f"{1000 * s['least']:.3g} - {1000 * s['most']:.3g}"
            counts = [f"{told[k]:.4g}" for k in ("rounds", "evaluations")]
            body.append([way + why_not(told), f"{1000 * s['median']:.3g}", spread, f"{told['speedup']:.2f}", *counts,
                         f"{max(told['errors']):.2g}"])  # fmt: skip
        n = max((t["seconds"]["repeats"] for t in row["ways"].values() if "seconds" in t), default=0)
        head = f"**{row['network']}, {row['rule']}, {row['steps']} steps, {row['dtype']}**, {n} samples one at a time"
        texts.append(f"{head}\n\n{table(WAYS_HEAD, body)}")
    return "\n\n".join(texts)


def why_not(told: Found) -> str:
    """Why rounds that were to be compiled were not."""
    return f" (not compiled: {told['not compiled']})" if told.get("not compiled") else ""


def rounds(found: Sequence[tuple[str, Found]]) -> str:
    """d."""
    keys = (
        "operators", "kernels, counted", "waits, counted", "kernels", "launches and copies", "synchronisations",
        "waits, by torch's debug mode",
    )  # fmt: skip
    body = []
    for _, row in found:
        counts = [NOT if row[k] is None else f"{row[k]:.1f}" for k in keys]
        ms = row["milliseconds"]
        body.append(
            [row["state"] + why_not(row), f"{ms['median']:.3g}", f"{ms['least']:.3g} - {ms['most']:.3g}", *counts]
        )
    return table(("state", "ms a round, median", "least - most", *keys), body)


def plans(found: Sequence[tuple[str, Found]]) -> str:
    """e."""
    body = [
        [
            f"{row['network']} {row['rule'].upper()}-{row['steps']}",
            w["window"],
            f"{1000 * w['predicted']:.3g}",
            f"{1000 * w['measured']['median']:.3g}",
            f"{100 * w['off']:+.0f} %",
            f"{100 * w['sequential off']:+.0f} %",
            f"{w['speedup predicted']:.2f}",
            f"{w['speedup measured']:.2f}",
        ]
        for _, row in found
        for w in row["windows"]
    ]
    head = ("chain", "window", "ms, predicted", "ms, measured", "off by", "sequential off by", "speedup, predicted",
            "measured")  # fmt: skip
    return table(head, body)


def times(data: Found, rows: Sequence[Row], full: Sequence[Row]) -> str:
    """What rows took, and what the full run is assumed to take."""
    parts = []
    for part, title in PARTS.items():
        named = [row for row in rows if row.part == part]
        taken = [data["seconds"][row.name] for row in named if row.name in data["seconds"]]
        if named:
            both = [f"{sum(t[k] for t in taken):.0f}" for k in ("taken", "on the processor")]
            parts.append([title, f"{len(taken)} of {len(named)}", *both])
    text = table(("part", "rows", "s, taken", "s on the processor"), parts)
    if not full:
        return text
    assumed = [[title, sum(row.part == part for row in full), f"{assumed_seconds(full, part):.0f}"]
               for part, title in PARTS.items()]  # fmt: skip
    note = (
        f"**An estimate, not a measurement: {sum(assumed_seconds(full, part) for part in PARTS) / 60:.1f} minutes for "
        "all rows of the full run.** Calls, operators and operations of the networks are counted; what one of them "
        "takes on a large GPU, and how many rounds a chain takes, is assumed (`benchmarks/gpu/estimate.py`). Rows are "
        "measured in the order of their importance while there is time, and a second run goes on."
    )
    return f"{text}\n\n{note}\n\n{table(('part', 'rows', 's, estimated'), assumed)}"


def assumed_seconds(rows: Sequence[Row], part: str) -> float:
    """Of a part of the full run."""
    return sum(row.seconds(FULL) for row in rows if row.part == part)


SECTIONS = {"latency": calls, "ways": chains, "tables": chains, "outside": rounds, "planner": plans}
