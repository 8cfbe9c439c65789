"""`paradigms sample --count`: many samples, a file each, made one by one; those that are there stay as they are.

    seeds seed, seed + 1, .., seed + count - 1      OUT/000017.png: the sample of a call of seed 17
                                                    OUT/settings.json: what else it was called with

A file is written whole or not at all, and one that is no whole picture is made again. So a job that was stopped goes on
where it was: run it again, or let torchrun, --max-restarts, do so. For several jobs in one folder give other seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..distributed.partition import Sharing
from ..distributed.team import Team
from ..files import brief_name, is_png, read_json, write_json
from .output import CommandOutput

SETTINGS = "settings.json"
Make = Callable[[int], tuple[Callable[[Path], None], int, int, Sharing | None]]  # writer, rounds, evaluations, ranks


def path_of(out: Path, seed: int) -> Path:
    """The file of a seed."""
    return out / f"{seed:06d}.png"


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Raises ValueError where a folder holds samples that were made in another way; else notes how they are made."""
    kept = out / SETTINGS
    if kept.exists():
        try:
            found = read_json(kept)
        except ValueError as error:
            raise ValueError(f"--out {brief_name(out)} holds settings that are not ours: {error}") from error
        if other := [k for k in settings if found.get(k) != settings[k]]:
            name = other[0]
            raise ValueError(
                f"--out {brief_name(out)} holds samples of {name} {shown_setting(found.get(name))}, "
                f"not {shown_setting(settings[name])}; type another folder, or the same options"
            )
    elif any(out.glob("[0-9]*.png")):
        raise ValueError(f"--out {brief_name(out)} holds pictures of unknown origin; type another folder")
    else:
        write_json(kept, settings)


def shown_setting(value: Any) -> str:
    """A setting as an error shows it."""
    return repr(value) if len(repr(value)) < 80 else brief_name(value, 60)


def missing_seeds(out: Path, seeds: range, team: Team | None) -> list[int]:
    """The seeds without a whole picture; on many ranks those that rank 0 does not see."""
    gone = torch.tensor([not is_png(path_of(out, seed)) for seed in seeds])
    if team is not None:
        (gone,) = team.broadcast([gone], torch.device("cpu"))
    return [seed for seed, absent in zip(seeds, gone.tolist(), strict=True) if absent]


def sample_many(make: Make, out: Path, seeds: range, team: Team | None, answer: CommandOutput) -> int:
    """Makes the samples that are missing, in the order of their seeds, and says what it took; gives 0."""
    console, began = Console(stderr=True), time.perf_counter()
    first = team is None or team.rank == 0
    todo = missing_seeds(out, seeds, team)
    rounds, evaluations, sharing = 0, 0, None
    columns = (TextColumn("samples"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (first and console.is_terminal)) as bar:
        task = bar.add_task("", total=len(seeds), completed=len(seeds) - len(todo))
        for seed in todo:
            write, more, asked, spent = make(seed)
            rounds, evaluations = rounds + more, evaluations + asked
            sharing = spent if sharing is None or spent is None else sharing + spent
            if first:
                write(path_of(out, seed))
                answer.wrote(path_of(out, seed))
            bar.advance(task)
    numbers = {
        "count": len(seeds), "made": len(todo), "there": len(seeds) - len(todo), "rounds": rounds,
        "evaluations": evaluations, "seconds": time.perf_counter() - began, **seconds_of_ranks(sharing),
    }  # fmt: skip
    if first:
        text = f"{len(seeds)} samples: {len(seeds) - len(todo)} found, {len(todo)} made in {rounds} rounds"
        console.print(
            f"{text}, {evaluations:,} evaluations, {numbers['seconds']:.1f} s", highlight=False, soft_wrap=True
        )
        answer.numbers(numbers)
    return 0


def seconds_of_ranks(sharing: Sharing | None) -> dict[str, Any]:
    """What ranks spent, by name, as JSON takes it; None on one."""
    if sharing is None:
        return dict.fromkeys(("ranks", "rank_rows", "wire_bytes", "wire_seconds"))
    return {
        "ranks": len(sharing.rows), "rank_rows": list(sharing.rows), "wire_bytes": sharing.wire_bytes,
        "wire_seconds": sharing.wire_seconds,
    }  # fmt: skip
