"""`paradigms race`: the page on this machine, or one file of recorded races."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from typing import Any

import torch
import typer

from ..files import write_whole
from ..race.document import recorded, standalone
from ..race.serve import address, bound, serve
from ..race.server import application
from .race_job import choices, contest, missing

RECORDED = (
    ("Scenes, DDPM of 1000 steps", {"model": "scenes", "rule": "ddpm", "steps": "1000", "window": "32", "seed": "1"}),
    ("Scenes, DDIM of 200 steps", {"model": "scenes", "rule": "ddim", "steps": "200", "window": "16", "seed": "2"}),
    ("PushT, a robot's policy", {"model": "pusht", "window": "16", "seed": "0", "chunks": "38"}),
)
__all__ = ["bound", "export", "run"]
# How often each race is run. Chosen by hand.
TIMES = 3
# The most bytes of the file. Chosen by hand.
LARGEST = 3_000_000


def run(at: socket.socket, show: bool) -> None:
    """Serves the page until it is stopped by hand."""
    contest({})  # what the page begins with is loaded by the time it shows
    typer.echo(f"The race is at {address(at)} (Ctrl-C ends it)")
    serve(application(contest, choices()), at, show)


def export(path: Path) -> None:
    """Runs the races that are shown and writes them into one file; raises ValueError where it would be too large."""
    say: Any = lambda text: typer.echo(text, err=True)  # noqa: E731
    races = [
        recorded(contest(query), name, query, TIMES, say) for name, query in RECORDED if not missing(query["model"])
    ]
    text = standalone(races, choices(), machine())
    if len(text.encode()) > LARGEST:
        raise ValueError(f"the file would have {len(text.encode())} bytes; needed: at most {LARGEST}")
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    typer.echo(path)


def machine() -> str:
    """What the races ran on, in words."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    parts = [
        platform.machine(),
        f"{cores} CPU core{'s' * (cores > 1)}",
        f"{threads} thread{'s' * (threads > 1)} of torch",
    ]
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores + 1:  # one of the processes is this one
        parts.append("busy with other work as well")
    return f"{', '.join(parts)}; of {TIMES} runs of each sampler the quickest"
