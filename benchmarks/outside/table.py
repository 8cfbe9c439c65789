"""The tables made on networks that nobody here designed, sequential by their own libraries: `python -m benchmarks
outside`, in the environment of `make integrations`. First `--train` trains and keeps the networks; then cells are
measured one by one and kept, so that a second run goes on where the first was cut."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import write
from paradigms.files import write_whole

from . import pictures, posteriors
from .cells import Cells

PARTS: dict[str, Any] = {"sbi": posteriors, "pictures": pictures}
TITLE = "Networks of another library, by its own sampler and by ours"


def file_of(nets: Path, name: str) -> Path:
    """Where a network is kept."""
    return nets / f"{name.replace(' ', '-')}.pt"


def train(nets: Path, minutes: float, only: str, quick: bool = False) -> None:
    """Trains the networks that are not kept yet, each for so many minutes at most (sbi counts epochs)."""
    nets.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for part in PARTS.values():
        for name in part.NETWORKS:
            if only in name and not file_of(nets, name).exists():
                began = time.monotonic()
                with write_whole(file_of(nets, name)) as kept:
                    torch.save(part.train(name, minutes, quick), kept)
                print(f"{name}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def main(out: Path, nets: Path, minutes: float, only: str, quick: bool) -> None:
    """Measures what is missing of each part, begins nothing new after so many minutes, and writes outside-PART.md."""
    until = time.monotonic() + 60 * minutes
    for name, part in PARTS.items():
        if only not in name:
            continue
        if quick:
            train(nets, 0.02, part.NETWORKS[0], quick)
        cells = Cells(out, f"outside-{name}", until)

        def load(network: str) -> Any:
            return torch.load(file_of(nets, network), weights_only=False)  # our own file, written by `train`

        part.measure(cells, load, quick)
        versions = ", ".join(f"{library} {version(library)}" for library in part.LIBRARIES)
        left = f"\n\nNot measured yet: {', '.join(cells.missing)}." if cells.missing else ""
        write(out, f"outside-{name}", TITLE, [("Library", versions + left), *part.sections(cells)],
              {"cells": list(cells.kept.values())})  # fmt: skip
        print(f"{name}: {len(cells.missing)} cells are missing" if cells.missing else f"{name}: complete")


def check_networks(nets: Path, only: str) -> None:
    """Raises ValueError where a network that is asked for is not kept."""
    asked = [network for name, part in PARTS.items() if only in name for network in part.NETWORKS]
    missing = [name for name in asked if not file_of(nets, name).exists()]
    if missing:
        raise ValueError(
            f"--nets: given {nets}, without {', '.join(missing)}; needed: trained networks; type "
            f"python -m benchmarks outside --train --nets {nets}"
        )
