"""A row of the paper: what is asked for is checked, measured three ways, and written beside the published line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from paradigms.cli.devices import device_named
from paradigms.cli.launch import launched_team
from paradigms.cli.pipeline_job import DTYPES, PipelineRequest
from paradigms.distributed.team import Team
from paradigms.files import make_folder

from ..images import gallery
from ..images.network import SPECS
from ..report import write
from . import images, robots, ways
from .published import ROWS, SOURCE, Row

SMALL_STEPS, SMALL_WINDOW, SMALL_SAMPLES = 12, 6, 3
SMALL_PROMPTS = ("a red boat", "hills", "night")
ROBOTS = ("kitchen", "square", "pusht")


@dataclass(frozen=True)
class Asked:
    """What was typed."""

    row: str
    out: Path = Path("out/bench")
    weights: str | None = None
    small: bool = False
    count: int = 8
    window: int | None = None
    device: str | None = None
    dtype: str = "float32"
    prompts: Path | None = None
    reference: Path | None = None
    clip: str | None = None
    timeout: float = 300.0


def prepared(asked: Asked) -> Callable[[], None]:
    """The work, once all that can be checked is checked; raises ValueError."""
    if asked.row not in ROWS:
        raise ValueError(f"--row is {asked.row!r}; type one of {', '.join(ROWS)}")
    if asked.dtype not in DTYPES:
        raise ValueError(f"--dtype is {asked.dtype!r}; type one of {', '.join(DTYPES)}")
    if asked.reference is not None:
        gallery.reference_paths(asked.reference)
    device_named(asked.device)
    gallery.read_prompts(asked.prompts)
    make_folder(asked.out)
    return lambda: work(asked, ROWS[asked.row])


def work(asked: Asked, row: Row) -> None:
    """Measures, prints the page and writes OUT/paper-ROW.md and .json."""
    if row.model in ROBOTS:
        policy = robots.policy_of(row, asked.weights, asked.small, device_named(asked.device))
        found, note = robots.measure(row, policy, min(asked.count, 2) if asked.small else asked.count)
        return told(asked, row, found, note, None)
    with launched_team(asked.timeout, asked.device) as team, TemporaryDirectory() as folder:
        found, note = of_images(asked, row, team, Path(folder))
        if team is None or team.rank == 0:
            told(asked, row, found, note, team)


def of_images(asked: Asked, row: Row, team: Team | None, folder: Path) -> tuple[dict[str, ways.Told], str]:
    """An image row, of the pipeline of --weights or of a narrow one."""
    where, prompts = device_named(asked.device), gallery.read_prompts(asked.prompts)
    common: dict[str, Any] = {"device": asked.device, "dtype": asked.dtype}
    if asked.small:
        from . import narrow

        pipe = narrow.PIPELINES[row.model]()
        pipe.save_pretrained(folder / "pipeline")
        ask = PipelineRequest(str(folder / "pipeline"), window=SMALL_WINDOW, steps=SMALL_STEPS, **common)
        scored = images.random_score(row, folder / "clip", 16)
        found = images.measure(row, ask, SMALL_SAMPLES, SMALL_PROMPTS, scored, team)
        return (
            found,
            f"A narrow network with random weights, {SMALL_STEPS} steps, {SMALL_SAMPLES} samples. {scored.note}",
        )
    spec = SPECS[row.model]
    ask = PipelineRequest(asked.weights or spec.hub, window=asked.window or row.window, **common)
    side = int(spec.config["sample_size"])
    scored = images.scored(row, where, asked.clip, asked.reference, side, local=False)
    found = images.measure(row, ask, asked.count, prompts, scored, team)
    return found, f"{asked.weights or spec.hub}, {asked.dtype}, {asked.count} samples one at a time. {scored.note}"


def told(asked: Asked, row: Row, found: dict[str, ways.Told], note: str, team: Team | None) -> None:
    """The page."""
    ranks = 1 if team is None else team.size
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() and asked.device != "cpu" else "CPU"
    text = (
        f"{ways.lines(row, found)}\n\nMeasured on {ranks} x {kind}. {note} ParaDiGMS here is its iteration in this "
        f"library, with a tolerance of {ways.PAPERS_TOLERANCE:g} of a step's noise and the same window as ours. "
    )
    at_hand = "The published lines are those of " + SOURCE + "." if row.sequential else (
        f"The paper, {SOURCE}, has this row; its numbers were not at hand."
    )  # fmt: skip
    name = f"paper-{row.name}" + ("-small" if asked.small else "")
    title = f"The paper's row: {row.name}" + (", small" if asked.small else "")
    data = {"row": row.name, "small": asked.small, "ranks": ranks, "ways": ways.numbers(found)}
    print(write(asked.out, name, title, [("Three ways", text + at_hand)], data))
