"""How results are written down: markdown to read, JSON to compute with, the machine and the versions in both."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from paradigms import __version__
from paradigms.files import write_whole


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "paradigms": __version__,
    }


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A markdown table; numbers to the right, floats in three digits."""
    cells = [[cell(v) for v in row] for row in rows]
    wide = [max(len(r[k]) for r in [list(head), *cells]) for k in range(len(head))]
    right = [all(not isinstance(r[k], str) for r in rows) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return (
            "| " + " | ".join(v.rjust(w) if r else v.ljust(w) for v, w, r in zip(row, wide, right, strict=True)) + " |"
        )

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(wide, right, strict=True)) + "|"
    return "\n".join([line(list(head)), rule, *(line(r) for r in cells)])


def cell(value: Any) -> str:
    """One value as text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def spread(values: Sequence[float]) -> str:
    """Median and range of repeated measurements."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def write(out: Path, name: str, title: str, sections: Sequence[tuple[str, str]], data: dict[str, Any]) -> str:
    """Writes out/name.md and out/name.json, and returns the markdown; sections are (heading, text)."""
    where = machine()
    facts = "\n".join(f"- {k}: {v}" for k, v in where.items())
    text = "\n\n".join([f"# {title}", facts, *(f"## {heading}\n\n{body}" for heading, body in sections)]) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".md", text), (".json", json.dumps({"machine": where, **data}, indent=1) + "\n")):
        with write_whole(out / f"{name}{suffix}") as part:
            part.write_text(content)
    return text
