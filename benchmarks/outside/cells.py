"""Cells that are measured one by one and kept as they are: a run that is cut, or out of time, goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paradigms.files import write_whole

Cell = dict[str, Any]


class Cells:
    """The cells of one page, by key, in OUT/NAME.cells.json; those that are there already are not measured again."""

    def __init__(self, out: Path, name: str, until: float) -> None:
        self.file, self.until, self.missing = out / f"{name}.cells.json", until, list[str]()
        self.kept: dict[str, Cell] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def __call__(self, key: str, facts: Cell, measure: Callable[[], Cell]) -> None:
        """Measures a cell, unless it is kept, or the time is over; facts: what is known of it before."""
        if key in self.kept:
            return
        if time.monotonic() > self.until:
            self.missing.append(key)
            return
        self.kept[key] = facts | measure()
        print(key, {k: v for k, v in self.kept[key].items() if not isinstance(v, list)}, flush=True)
        with write_whole(self.file) as part:
            part.write_text(json.dumps(self.kept, indent=1) + "\n")

    def of(self, kind: str) -> list[Cell]:
        """The cells of a kind, in the order in which they were measured."""
        return [cell for cell in self.kept.values() if cell["kind"] == kind]
