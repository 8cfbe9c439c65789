"""The command line: `paradigms sample`, `demo`, `race`, `models`, `plan`; benchmarks are `python -m benchmarks`.

Results go to standard output, progress and errors to standard error. The exit code is 0 where everything converged,
1 where it did not or the model failed, 2 for bad input; an error is one line that says what to type.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import typer

from . import options
from .errors import fail, missing_dependency, run_or_exit, validate_or_exit
from .group import Group
from .output import say_loading

MAKE, KNOW = "Commands that make samples", "Commands that inform"
STARTED = """Begin with: paradigms demo

Tab completion: paradigms --install-completion"""
EXAMPLES = """Examples:

paradigms sample scenes --steps 100 --window 32 --compare

paradigms sample digits --rule ddim --steps 50 --class 3 --guidance 2

paradigms sample latent --prompt "pines, snow, mountains, day" --compare

The paper's rows, where the hub or its cache has the weights:

paradigms sample stabilityai/stable-diffusion-2 --prompt "a castle" --rule ddpm

paradigms sample google/ddpm-church-256 --rule ddim --steps 500

On many devices: torchrun --nproc-per-node=8 -m paradigms sample ..."""
PLANS = """Examples:

paradigms plan --model scenes --rule ddpm

paradigms sample scenes --window 32 --out out/run; paradigms plan out/run/trace.json --latency sd2-a100"""

app = typer.Typer(
    cls=Group,
    help="Parallel-in-time sampling of diffusion models.",
    epilog=STARTED,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def program(context: typer.Context, version: options.Version = False) -> None:
    """Parallel-in-time sampling of diffusion models."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("sample", rich_help_panel=MAKE, epilog=EXAMPLES)
def sample_command(
    target: options.Target = None,
    model: options.Named = None,
    rule: options.Rule = None,
    steps: options.Steps = None,
    method: options.Method = "spectral",
    window: options.Window = None,
    tolerance: options.Tolerance = None,
    criterion: options.Criterion = "error",
    guess: options.Guess = "extrapolate",
    seed: options.Seed = 0,
    batch: options.Samples = None,
    label: options.Class = None,
    guidance: options.Guidance = None,
    eta: options.Eta = None,
    clip: options.Clip = False,
    max_rounds: options.MaxRounds = None,
    verify: options.Verify = False,
    prompt: options.Prompt = None,
    negative: options.Negative = None,
    height: options.Height = None,
    width: options.Width = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    variant: options.Variant = None,
    trust_remote_code: options.Trust = False,
    compare: options.Compare = False,
    gif: options.Gif = False,
    count: options.Many = None,
    timeout: options.Timeout = 300.0,
    out: options.Out = Path("out/sample"),
    json: options.Json = False,
) -> None:
    """Sample a model in parallel, write pictures of it, and say what it took.

    MODEL is digits, scenes, a model file, or a diffusers pipeline: latent, which ships, or any by its hub id or folder.
    """
    from .launch import launched_team, local_device
    from .model_job import window_of
    from .output import command_output

    how = (steps, method, validate_or_exit(lambda: window_of(window, gif)), tolerance, criterion)
    of_shipped = {"--guess": guess != "extrapolate", "--clip": clip, "--max-rounds": max_rounds, "--verify": verify}
    words = {"--prompt": prompt, "--negative": negative, "--height": height, "--width": width}
    of_pipeline = words | {"--dtype": dtype, "--variant": variant, "--trust-remote-code": trust_remote_code}
    of_one = {"--batch": batch, "--compare": compare, "--gif": gif, "--verify": verify, "--max-rounds": max_rounds}
    target, model, pipeline = validate_or_exit(lambda: choose_target(target, model))
    if count is not None:
        validate_or_exit(lambda: refuse_unused(of_one, "--count, which makes samples one by one"))
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(command_output(json))
        team = validate_or_exit(lambda: stack.enter_context(launched_team(timeout, device)))
        place = local_device(device) if team else device
        if pipeline:
            from . import pipeline_job as hub
            from . import run_pipeline as hubrun

            validate_or_exit(lambda: refuse_unused(of_shipped | {"--gif": gif}, "a pipeline"), team)
            given = words | {"--guidance": guidance, "--eta": eta, "--class": label}
            where = (place, "float32" if dtype is None else dtype, variant, compare, trust_remote_code)
            ask = hub.PipelineRequest(
                str(target), "own" if rule is None else rule, *how, seed, 1 if batch is None else batch, *where, given
            )
            ready = validate_or_exit(lambda: hub.prepare_pipeline(ask), team)
            work = partial(hubrun.run_job, ready, out, count, team, said)
            settings = partial(hubrun.settings_of, ready)
        else:
            from .model_job import Request, prepare_job
            from .run_model import run_job, settings_of

            validate_or_exit(
                lambda: refuse_unused(of_pipeline, f"{target or model or 'scenes'}, which is no pipeline"), team
            )
            samples = (4 if count is None else 1) if batch is None else batch
            named = next((name for name in (target, model) if name is not None), "scenes")
            what = (named, "ddpm" if rule is None else rule, *how, guess, seed, samples)
            asked = Request(*what, label, guidance, eta, clip, max_rounds, verify, compare, place)
            job = validate_or_exit(lambda: prepare_job(asked), team)
            work = partial(run_job, job, out, count, team, said, gif=gif)
            settings = partial(settings_of, job)
        validate_or_exit(lambda: open_folder(out, team, settings if count is not None else None), team)
        code = run_or_exit(work, team)
    sys.exit(code)


def open_folder(out: Path, team: Any, settings: Callable[[], dict[str, Any]] | None) -> None:
    """Makes the folder, on the rank that writes; raises ValueError where it cannot be, or holds other samples."""
    from ..files import make_folder

    if team is None or team.rank == 0:
        make_folder(out)
        if settings is not None:
            from .many import check_settings

            check_settings(out, settings())


def choose_target(target: str | None, model: str | None) -> tuple[str | None, str | None, bool]:
    """MODEL, --model, and whether it is a pipeline, no shipped name and no file; ValueError where both are given."""
    from ..files import brief_name, is_file
    from ..models.store import NAMES

    if target is not None and model is not None:
        raise ValueError(f"MODEL is {brief_name(target)} and --model {brief_name(model)}; type one of them")
    if model == "latent":
        target, model = model, None
    return target, model, target is not None and target not in NAMES and not is_file(target)


def refuse_unused(given: dict[str, Any], what: str) -> None:
    """Raises ValueError for options that were given and are not for what is sampled."""
    if names := [name for name, value in given.items() if value is not None and value is not False]:
        raise ValueError(
            f"{', '.join(names)}: not for {what}; leave it out, or see what is: type paradigms sample --help"
        )


@app.command("plan", rich_help_panel=KNOW, epilog=PLANS)
def plan_command(
    traces: options.Traces = None,
    latency: options.Curve = None,
    group: options.Group = None,
    devices: options.Devices = "1,2,4,8,16,64",
    over: options.Links = "NVLink,PCIe,100G,25G,10G,1G",
    model: options.Model = "scenes",
    rule: options.Rule = None,
    steps: options.Steps = None,
    method: options.Method = "spectral",
    tolerance: options.Tolerance = None,
    batch: options.PlanBatch = 1,
    windows: options.Windows = "4,8,16,32,64,128",
    device: options.Device = None,
    out: options.Out = Path("out/plan"),
) -> None:
    """Predict what 1 to 64 devices would give: time, speedup, evaluations, device-hours, the best window.

    TRACES are recorded rounds: trace.json of paradigms sample, run.json of a pipeline, rounds.json of bench plan.
    Without any, rounds and latency are measured here, on --model with each of --windows.
    """
    from ..files import make_folder
    from . import plan as planrun
    from .model_job import Request, prepare_job

    many, joined = (
        validate_or_exit(lambda: planrun.parse_numbers(devices, "--devices")),
        validate_or_exit(lambda: planrun.parse_links(over)),
    )
    curve: Any = None if latency is None else validate_or_exit(lambda: planrun.read_curve(latency))
    if traces:
        curve = curve or fail(
            2, f"--latency is missing beside recorded rounds; type {' or '.join(planrun.NAMED)}, or a file"
        )
        found = validate_or_exit(
            lambda: planrun.fit_traces(curve, [t for p in traces for t in planrun.read_traces(p, group)])
        )
        validate_or_exit(lambda: make_folder(out))
    else:
        wide = validate_or_exit(lambda: planrun.parse_numbers(windows, "--windows"))
        how: dict[str, Any] = {"steps": steps, "method": method, "tolerance": tolerance, "batch": batch}
        how["device"] = device
        job = validate_or_exit(lambda: prepare_job(Request(model, "ddpm" if rule is None else rule, **how)))
        validate_or_exit(lambda: make_folder(out))
        here, found = run_or_exit(lambda: planrun.measure(job, wide, lambda text: typer.echo(text, err=True)))
        curve = curve or here
        found = planrun.fit_traces(curve, found)
    run_or_exit(lambda: planrun.run_plan(curve, found, many, joined, out))


@app.command("demo", rich_help_panel=MAKE)
def demo_command(
    out: options.Out = Path("out/demo"),
    model: options.Model = "scenes",
    batch: options.Batch = 3,
    device: options.Device = None,
    quick: options.Quick = False,
) -> None:
    """Step by step against in parallel: a robot's policy, then pictures, one sample at a time; tables and pictures."""
    from ..files import make_folder
    from .demo import demo
    from .demo_cases import cases
    from .devices import device_named

    prepared = validate_or_exit(lambda: cases(model, batch, quick, device))
    where = validate_or_exit(lambda: device_named(device))
    validate_or_exit(lambda: make_folder(out))
    sys.exit(run_or_exit(lambda: demo(prepared, batch, model == "scenes" and not quick, where, out)))


@app.command("race", rich_help_panel=MAKE)
def race_command(
    port: options.Port = 8765,
    open_page: options.Open = True,
    export: options.Export = None,
) -> None:
    """A page on this machine: the sequential and the parallel sampler race on a model that ships."""
    say_loading()
    try:
        from . import race
    except ModuleNotFoundError as missing:
        missing_dependency(missing)
    if export is not None:
        from ..files import check_file_path

        validate_or_exit(lambda: check_file_path(export, "--export"))
        sys.exit(run_or_exit(lambda: race.export(export)))
    at = validate_or_exit(lambda: race.bound(port))
    race.run(at, open_page)


@app.command("models", rich_help_panel=KNOW)
def models_command() -> None:
    """List the models and policies that ship, and how each is sampled."""
    from .shipped import shipped_table
    from .tables import print_table

    print_table(shipped_table())
