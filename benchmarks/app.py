"""The commands `python -m benchmarks NAME`, a function each: it checks what it is given and returns the work in OUT.

def engine(out, quick):  ->  ValueError, which ends the program before any work;  or the work, which measures
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import typer

from paradigms.cli import options
from paradigms.cli.errors import run_or_exit, validate_or_exit
from paradigms.cli.group import Group
from paradigms.files import make_folder

from . import options as own

Work = Callable[[], Any]
OUT = Path("out/bench")
bench = typer.Typer(
    cls=Group, help="Measure the sampler on this machine.", add_completion=False, pretty_exceptions_enable=False
)


@bench.callback(invoke_without_command=True)
def program(context: typer.Context) -> None:
    """Measure the sampler on this machine."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def command(prepare: Callable[..., Work]) -> Callable[..., Work]:
    """Makes it the command of its name."""

    @wraps(prepare)
    def run(**given: Any) -> None:
        run_or_exit(validate_or_exit(lambda: prepare(**given)))

    bench.command(prepare.__name__)(run)
    return prepare


@command
def engine(out: options.Out = OUT, quick: options.Quick = False) -> Work:
    """Rounds and evaluations against error on the paper's chains, with the paper's iteration and criterion."""
    from .core.engine import main

    return partial(main, make_folder(out), quick)


@command
def overhead(
    out: options.Out = OUT, repeats: own.Repeats = 5, quick: options.Quick = False, alone: own.Alone = False
) -> Work:
    """The share of a call that is spent outside the model, and what a round asks of torch."""
    from .core.overhead import main

    return partial(main, make_folder(out), repeats, quick, alone)


@command
def gpu(
    out: options.Out = OUT,
    minutes: own.Minutes = 8.0,
    parts: own.Parts = "latency,ways,tables,outside,planner",
    device: options.Device = None,
    small: own.Small = False,
    plan: own.Plan = False,
) -> Work:
    """Every number that a GPU is asked for, the most important first; goes on where it was stopped."""
    from .gpu.command import Asked, prepared

    return prepared(Asked(out, minutes, parts, device, small, plan))


@command
def paper(
    row: own.Row,
    out: options.Out = OUT,
    weights: own.RowWeights = None,
    small: own.Small = False,
    count: own.Pictures = 8,
    window: own.FixedWindow = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    prompts: own.Prompts = None,
    reference: own.Reference = None,
    clip: own.Clip = None,
    timeout: options.Timeout = 300.0,
) -> Work:
    """A row of the paper's tables with real weights: sequential, ParaDiGMS, ours, beside what was published."""
    from .paper.main import Asked, prepared

    how = (weights, small, count, window, device, dtype or "float32", prompts, reference, clip, timeout)
    return prepared(Asked(row, out, *how))


@command
def reading(out: options.Out = OUT, source: own.Source = None) -> Work:
    """What one opens to follow a call, and how the source reads beside other libraries."""
    from .reading import found, main

    found(source or [])
    return partial(main, make_folder(out), source or [])


@command
def devices(out: options.Out = OUT, repeats: own.Repeats = 7, quick: options.Quick = False) -> Work:
    """Two processes on two cores against one on one; rows a rank, bytes on the wire."""
    from .devices.devices import main

    return partial(main, make_folder(out), repeats, quick)


@command
def skeleton(
    out: options.Out = OUT, only: own.Only = "", minutes: own.Minutes = 60.0, clock: own.Clock = False
) -> Work:
    """Skeleton sampling beside the windows of the default and of ParaDiGMS; goes on where it was stopped."""
    from .core.skeleton import FIRST, run
    from .core.skeleton_clock import main

    if clock:
        return partial(main, make_folder(out), only, minutes)
    return partial(run, make_folder(out), FIRST, minutes, only)


@command
def kept(
    out: options.Out = OUT,
    seeds: own.Seeds = "report",
    only: own.Only = "",
    minutes: own.Minutes = 1e9,
    quick: options.Quick = False,
) -> Work:
    """The share of samples within the error asked for, cell by cell, beside 0.1.0; goes on where it was stopped."""
    from .core.kept import cells, first, main, recall

    first(seeds)
    cells(only, quick)
    recall(make_folder(out) / f"kept-{seeds}.json")
    return partial(main, out, seeds, only, minutes, quick)


@command
def random(out: options.Out = OUT, seed: options.Seed = 0, cases: own.Cases = 1000, minutes: own.Minutes = 1e9) -> Work:
    """Random cases of the core against its promises; a failure is a line to type; goes on where it was stopped."""
    from .core.promises import main, recall

    recall(make_folder(out) / f"random-{seed}.json")
    return partial(main, out, seed, cases, minutes)


@command
def auto(out: options.Out = OUT, only: own.Only = "", minutes: own.Minutes = 1e9, busy: own.Busy = False) -> Work:
    """The window that picks itself, against stepping and every fixed window; goes on where it was stopped."""
    if busy:
        from .core.busy import main as rounds

        return partial(rounds, make_folder(out), only, minutes)
    from .core.auto import main

    return partial(main, make_folder(out), only, minutes)


@command
def pipelines(out: options.Out = OUT, quick: options.Quick = False) -> Work:
    """The shipped text-to-image pipeline in parallel, at equal error and beside fewer steps; what rewinding costs."""
    from .pipelines.pipelines import main

    return partial(main, make_folder(out), quick)


@command
def policies(
    out: options.Out = OUT,
    task: own.Task = "pusht",
    episodes: own.Episodes = 100,
    quick: options.Quick = False,
    only: own.Only = "",
    weights: own.PolicyFile = None,
) -> Work:
    """A diffusion policy step by step against in parallel, in its simulator; goes on where it was stopped."""
    from paradigms.policies.tasks.task import TASKS

    from .robots.policies import main

    if task not in TASKS:
        raise ValueError(f"--task is {task!r}; type one of {', '.join(TASKS)}")
    return partial(main, make_folder(out), task, episodes, quick, only, weights)


@command
def census(out: options.Out = OUT, only: own.Only = "") -> Work:
    """Every kind of diffusers pipeline in parallel at tolerance 0, against itself step by step; tiny ones, offline."""
    from .pipelines.census import chosen, main

    specimens = chosen(only)
    make_folder(out)
    return lambda: None if main(out, specimens) else sys.exit(1)


@command
def kinds(out: options.Out = OUT) -> Work:
    """The census' other kinds: bfloat16, two threads, loops of one's own, DDPMPipeline under every scheduler."""
    from .pipelines.census_kinds import main

    make_folder(out)
    return lambda: None if main(out) else sys.exit(1)


@command
def plan(out: options.Out = OUT, quick: options.Quick = False) -> Work:
    """The paper's A100 figure recovered, what ours would do there, and the plan against real runs on this machine."""
    from .devices.plan import main

    return partial(main, make_folder(out), quick)


@command
def images(
    model: own.Image,
    small: own.Small = False,
    weights: own.Weights = "local",
    device: options.Device = None,
    dtype: options.Dtype = None,
    rows: own.Rows = None,
    window: own.FixedWindow = None,
    count: own.Pictures = 8,
    prompts: own.Prompts = None,
    reference: own.Reference = None,
    out: options.Out = OUT,
) -> Work:
    """The paper's image networks: latency and memory against rows, a round, the plan; its table with real weights."""
    from .images.images import Asked, main, prepared

    asked = Asked(model, small, weights, device, dtype or "float32", rows, window, count, prompts, reference)
    ready = prepared(asked)
    return partial(main, make_folder(out), ready)


@command
def quality(
    out: options.Out = OUT,
    model: options.Model = "scenes",
    count: own.Count = 2000,
    tolerance: own.OneTolerance = None,
) -> Work:
    """Whether parallel sampling changes the pictures: Fréchet distances of sets of samples and their noise floor."""
    from paradigms.cli.model_job import choose

    from .core.quality import main

    choose("--model", model, dict.fromkeys(("digits", "scenes")))
    return partial(main, make_folder(out), model, count, tolerance)


@command
def frontier(
    out: options.Out = OUT,
    quick: options.Quick = False,
    only: own.Only = "",
    again: own.Again = None,
    plan: own.Plan = False,
    ablate: own.Ablate = False,
) -> Work:
    """Every method at matched final error, beside the few-step sampler and diffusers; goes on where it was stopped."""
    from .core import contestants as methods
    from .core import frontier
    from .core.problems import cells

    todo = cells(quick, only)
    contestants, out = (methods.ABLATIONS, out / "ablation") if ablate else (methods.CONTESTANTS, out)
    if plan:
        return lambda: typer.echo(frontier.plan(todo, contestants))
    frontier.named(again or [], contestants)
    frontier.recall(make_folder(out))
    return partial(frontier.main, out, quick, only, tuple(again or ()), contestants)


@command
def outside(
    out: options.Out = OUT,
    nets: own.Networks = Path("out/outside"),
    minutes: own.Minutes = 10.0,
    only: own.Only = "",
    train: own.Train = False,
    quick: options.Quick = False,
) -> Work:
    """Networks of sbi and denoising-diffusion-pytorch, each by its own sampler and by ours (`make integrations`)."""
    from .outside import table

    if train:
        return partial(table.train, make_folder(nets), minutes, only)
    if not quick and minutes:
        table.check_networks(nets, only)
    return partial(table.main, make_folder(out), nets, minutes, only, quick)


@command
def server(out: options.Out = OUT, repeats: own.Repeats = 5, quick: options.Quick = False) -> Work:
    """The server example under load: merged calls, latency and throughput against two servers that step."""
    from .outside.server import main

    return partial(main, make_folder(out), quick, repeats)
