"""The command line: `paradigms sample`, `paradigms demo`, `paradigms bench engine|overhead|quality|frontier`.

Results go to standard output, progress and errors to standard error. The exit code is 0 where everything converged,
1 where it did not or the model failed, 2 for bad input; an error is one line that says what to type.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from . import options

Refusal = cast(
    type[Exception], typer.BadParameter.__mro__[2]
)  # ClickException, which typer exports under no stable name


class Group(TyperGroup):
    """The commands, with every error of usage told in one line."""

    def main(self, *args: Any, **how: Any) -> Any:
        """Runs a command; exits with its code."""
        try:
            code = super().main(*args, **how | {"standalone_mode": False})
        except Refusal as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "paradigms"
            fail(2, f"{' '.join(error.format_message().split())}; type: {command} --help")  # type: ignore[attr-defined]
        except ModuleNotFoundError as missing:
            fail(2, f"this needs {missing.name}; type: pip install 'paradigms[cli]'")
        except typer.Abort:
            fail(130, "stopped by hand")
        sys.exit(code if isinstance(code, int) else 0)


HOW: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(cls=Group, help="Parallel-in-time sampling of diffusion models.", **HOW)
bench = typer.Typer(help="Measure the sampler on this machine.", **HOW)
app.add_typer(bench, name="bench")


@app.callback()
def program(version: options.Version = False) -> None:
    """Parallel-in-time sampling of diffusion models."""


def fail(code: int, message: str) -> NoReturn:
    """Ends the program with one line on standard error."""
    lines = message.splitlines() or [""]
    typer.echo(f"paradigms: {lines[0]}", err=True)
    raise SystemExit(code)


@app.command("sample")
def sample_command(
    model: options.Model = "scenes",
    rule: options.Rule = "ddpm",
    steps: options.Steps = None,
    method: options.Method = "spectral",
    window: options.Window = None,
    tolerance: options.Tolerance = None,
    criterion: options.Criterion = "error",
    guess: options.Guess = "extrapolate",
    seed: options.Seed = 0,
    batch: options.Batch = 4,
    label: options.Class = None,
    guidance: options.Guidance = None,
    eta: options.Eta = None,
    clip: options.Clip = False,
    max_rounds: options.MaxRounds = None,
    verify: options.Verify = False,
    compare: options.Compare = False,
    gif: options.Gif = False,
    out: options.Out = Path("out/sample"),
    json: options.Json = False,
) -> None:
    """Sample a model in parallel, write pictures of it, and say what it took."""
    from .job import Request, prepare
    from .run import run
    from .show.files import folder

    what = (model, rule, steps, method, window, tolerance, criterion, guess, seed, batch, label, guidance, eta, clip)
    job = refused(lambda: prepare(Request(*what, max_rounds, verify, compare)))
    refused(lambda: folder(out))
    sys.exit(attempted(lambda: run(job, out, gif=gif, as_json=json)))


@app.command("demo")
def demo_command(
    out: options.Out = Path("out/demo"),
    model: options.Model = "scenes",
    batch: options.Batch = 4,
    quick: options.Quick = False,
) -> None:
    """Sequential against parallel for DDPM, DDIM and DPM-Solver: a table, pictures and the animation."""
    from .demo import demo, jobs
    from .show.files import folder

    prepared = refused(lambda: jobs(model, batch, quick))
    refused(lambda: folder(out))
    sys.exit(attempted(lambda: demo(prepared, out)))


@bench.command("engine")
def engine_command(
    out: options.Out = Path("out/bench"),
    quick: options.Quick = False,
) -> None:
    """Rounds and evaluations against error on the paper's chains, with the paper's iteration and criterion."""
    from .bench.engine import main
    from .show.files import folder

    refused(lambda: folder(out))
    attempted(lambda: main(out, quick))


@bench.command("overhead")
def overhead_command(
    out: options.Out = Path("out/bench"),
    repeats: options.Repeats = 5,
    quick: options.Quick = False,
) -> None:
    """The share of a call that is spent outside the model."""
    from .bench.overhead import main
    from .show.files import folder

    refused(lambda: folder(out))
    attempted(lambda: main(out, repeats, quick))


@bench.command("quality")
def quality_command(
    out: options.Out = Path("out/bench"),
    model: options.Model = "scenes",
    count: options.Count = 2000,
    tolerance: options.OneTolerance = None,
) -> None:
    """Whether parallel sampling changes the pictures: Fréchet distances of sets of samples and their noise floor."""
    from .bench.quality import main
    from .job import choose
    from .show.files import folder

    refused(lambda: choose("--model", model, dict.fromkeys(("digits", "scenes"))))
    refused(lambda: folder(out))
    attempted(lambda: main(out, model, count, tolerance))


@bench.command("frontier")
def frontier_command(
    out: options.Out = Path("out/bench"),
    quick: options.Quick = False,
    only: options.Only = "",
    again: options.Again = None,
    plan: options.Plan = False,
    ablate: options.Ablate = False,
) -> None:
    """Every method at matched final error, beside the few-step sampler and diffusers; goes on where it was stopped."""
    from .bench import frontier
    from .bench.problems import cells
    from .show.files import folder

    todo = refused(lambda: cells(quick, only))
    contestants, out = (frontier.ABLATIONS, out / "ablation") if ablate else (frontier.CONTESTANTS, out)
    if plan:
        typer.echo(frontier.plan(todo, contestants))
        return
    refused(lambda: (folder(out), frontier.recall(out), frontier.named(again or [], contestants)))
    attempted(lambda: frontier.main(out, quick, only, tuple(again or ()), contestants))


@bench.callback()
def bench_group() -> None:
    """Measure the sampler on this machine."""


def refused(check: Callable[[], Any]) -> Any:
    """What `check` returns; its ValueError is bad input."""
    try:
        return check()
    except (ValueError, ImportError) as error:
        fail(2, str(error))


def attempted(work: Callable[[], Any]) -> Any:
    """What `work` returns; any failure in it is told in one line."""
    try:
        return work()
    except KeyboardInterrupt:
        fail(130, "stopped by hand")
    except Exception as error:
        fail(1, f"{type(error).__name__}: {error}")
