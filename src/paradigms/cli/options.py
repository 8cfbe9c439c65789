"""The options of the command line: what each is called, takes and means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__

WHAT, HOW, EXACT = "What is sampled", "By which steps", "In parallel, and how exactly"
PIPELINE, WHERE, OUTPUT = "For a diffusers pipeline", "Where it runs", "What comes out"


def option(names: str, help: str, panel: str | None = None, values: Sequence[str] = (), **how: Any) -> Any:
    """An option by its names, with one line of help; `panel` groups it, `values` are what a shell completes."""
    complete = (lambda incomplete: [v for v in values if v.startswith(incomplete)]) if values else None
    return typer.Option(names, help=help, rich_help_panel=panel, autocompletion=complete, **how)


SHIPPED = ("digits", "scenes", "latent")


def complete_model(incomplete: str) -> list[str]:
    """Names that ship; a shell completes paths of files itself."""
    return [name for name in SHIPPED if name.startswith(incomplete)]


Target = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="digits, scenes, a model file; latent, a hub id or a folder of a diffusers pipeline (default: scenes)",
        autocompletion=complete_model,
    ),
]
Model = Annotated[str, option("--model", "digits, scenes or a model file")]
Named = Annotated[
    str | None,
    option("--model", "digits, scenes or a model file, as MODEL (default: scenes)", panel=WHAT, values=SHIPPED),
]
Rule = Annotated[
    str | None,
    option(
        "--rule",
        "ddpm, ddim, dpmsolver, heun or flow (default: ddpm); a pipeline: ddpm, ddim, dpmsolver, euler, unipc, flow or "
        "own (default: own, its own scheduler)",
        panel=HOW,
        values=("ddpm", "ddim", "dpmsolver", "heun", "flow", "euler", "unipc", "own"),
    ),
]
Steps = Annotated[
    int | None,
    option("--steps", "steps of the rule (default: ddpm 1000, heun 25, a pipeline's flow 28, others 50)", panel=HOW),
]
Method = Annotated[
    str,
    option(
        "--method",
        "spectral, anderson, newton, picard or jacobi; a pipeline: spectral, exponential, picard or jacobi",
        panel=EXACT,
        values=("spectral", "anderson", "newton", "picard", "jacobi", "exponential"),
    ),
]
Window = Annotated[
    str | None,
    option(
        "--window",
        "steps evaluated at once, or auto: whatever finishes first (default: auto; with --gif 80 or 32)",
        panel=EXACT,
        values=("auto", "16", "32", "80"),
    ),
]
Tolerance = Annotated[
    float | None,
    option("--tolerance", "how exact, in the criterion's unit (default: error 0.003, noise 0.1)", panel=EXACT),
]
Criterion = Annotated[
    str,
    option(
        "--criterion",
        "error: of the finished sample; noise: change of a state in units of its step's noise (the paper's)",
        panel=EXACT,
        values=("error", "noise"),
    ),
]
Guess = Annotated[
    str, option("--guess", "first guess of a state: extrapolate or copy", panel=EXACT, values=("extrapolate", "copy"))
]
Seed = Annotated[int, option("--seed", "seed of all noise", panel=WHAT)]
Batch = Annotated[int, option("--batch", "number of samples")]
Samples = Annotated[int | None, option("--batch", "number of samples (default: 4, of a pipeline 1)", panel=WHAT)]
Class = Annotated[
    int | None, option("--class", "class of all samples (default: SEED, SEED + 1, ... in turn)", panel=WHAT)
]
Guidance = Annotated[
    float | None, option("--guidance", "scale of guidance (default: 1, none; a pipeline's own)", panel=HOW)
]
Eta = Annotated[float | None, option("--eta", "noise of ddim, from 0 to 1 (default: 0)", panel=HOW)]
Clip = Annotated[bool, option("--clip/--no-clip", "keep denoised estimates within -1 and 1", panel=HOW)]
MaxRounds = Annotated[int | None, option("--max-rounds", "stop after this many rounds", panel=EXACT)]
Verify = Annotated[bool, option("--verify", "evaluate the whole result once more and bound its error", panel=EXACT)]
Compare = Annotated[bool, option("--compare", "run the sequential sampler too, on the same noise", panel=EXACT)]
Gif = Annotated[bool, option("--gif", "write the animation", panel=OUTPUT)]


def folder_path(text: str | Path) -> Path:
    """The path that was typed; an empty one, as of a variable that is not set, would be this folder."""
    if not str(text) or "\0" in str(text):
        raise typer.BadParameter(f"given {str(text)!r}; needed: the path of a folder")
    return Path(text)


Out = Annotated[Path, option("--out", "folder to write to", panel=OUTPUT, parser=folder_path, metavar="PATH")]
Traces = Annotated[list[Path] | None, typer.Argument(metavar="[TRACES]...", help="files of recorded rounds")]
Curve = Annotated[str | None, option("--latency", "sd2-a100, or a JSON file of rows and seconds (default: measured)")]
Group = Annotated[str | None, option("--group", "which of the groups in a rounds.json")]
Devices = Annotated[str, option("--devices", "numbers of devices")]
Links = Annotated[str, option("--links", "what joins them: NVLink, PCIe, 100G, 25G, 10G, 1G, free")]
PlanBatch = Annotated[int, option("--batch", "number of samples made at once")]
Windows = Annotated[str, option("--windows", "windows to measure rounds with")]
Prompt = Annotated[str | None, option("--prompt", "what a pipeline is to make", panel=PIPELINE)]
Negative = Annotated[str | None, option("--negative", "what a pipeline is not to make", panel=PIPELINE)]
Height = Annotated[int | None, option("--height", "pixels, for a pipeline (default: its own)", panel=PIPELINE)]
Width = Annotated[int | None, option("--width", "pixels, for a pipeline (default: its own)", panel=PIPELINE)]
Device = Annotated[
    str | None,
    option(
        "--device",
        "where it runs: cpu, cuda, cuda:1, mps (default: a CUDA GPU if any, else the CPU)",
        panel=WHERE,
        values=("cpu", "cuda", "mps"),
    ),
]
Dtype = Annotated[
    str | None,
    option(
        "--dtype",
        "of a pipeline's weights: float32, float16, bfloat16 (default: float32)",
        panel=PIPELINE,
        values=("float32", "float16", "bfloat16"),
    ),
]
Variant = Annotated[str | None, option("--variant", "of a pipeline's files, such as fp16", panel=PIPELINE)]
Many = Annotated[
    int | None,
    option(
        "--count",
        "number of samples, of seeds SEED, SEED + 1, ..., one file each; files already in OUT are kept",
        min=1,
        panel=WHAT,
    ),
]
Timeout = Annotated[
    float,
    option("--timeout", "under torchrun: seconds that a rank may keep the others waiting before all end", panel=WHERE),
]
Trust = Annotated[
    bool,
    option(
        "--trust-remote-code",
        "run code that a pipeline's folder brings with it (default: it is refused)",
        panel=PIPELINE,
    ),
]
Json = Annotated[bool, option("--json", "print the numbers as one JSON object, and nothing else", panel=OUTPUT)]


def say_version(asked: bool) -> None:
    """Prints the version and ends the program, where asked."""
    if asked:
        typer.echo(f"paradigms {__version__}")
        raise typer.Exit()


Version = Annotated[bool, option("--version", "print the version", callback=say_version, is_eager=True)]
Quick = Annotated[bool, option("--quick", "small and fast")]
Port = Annotated[int, option("--port", "of this machine, 0 for any that is free")]
Open = Annotated[bool, option("--open/--no-open", "show the page in a browser")]
Export = Annotated[Path | None, option("--export", "write one HTML file with recorded races, and end")]
