"""`python -m benchmarks.gpu.complete FILE`: fails unless a gpu.json has every row, and every way the right sample."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from paradigms.files import read_json

from .rows import all_rows
from .settings import FULL, SMALL

FAR = 0.02  # the default asks for 0.003; a sample beyond this is another one


def faults(data: dict[str, Any]) -> list[str]:
    """What is missing or wrong, a line each."""
    rows = all_rows(SMALL if data["device"]["small"] == "True" else FULL)
    found = [f"{r.name}: {data['left out'].get(r.name, 'not there')}" for r in rows if r.name not in data["rows"]]
    for name, row in data["rows"].items():
        for way, told in row.get("ways", {}).items():
            if "failed" in told:
                found.append(f"{name}, {way}: {told['failed']}")
            elif told.get("rounds compiled") == 0 or told.get("not compiled"):
                found.append(f"{name}, {way}: no round was compiled: {told['not compiled']}")
            elif way.startswith(("sequential", "ours")) and max(told["errors"]) > FAR:
                found.append(f"{name}, {way}: errors {told['errors']}; needed: at most {FAR:g}")
    return found


def main(path: str) -> int:
    """Prints what is wrong; the exit code."""
    found = faults(read_json(Path(path)))
    print("\n".join(found) or f"{path}: complete")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
