"""The options of the command line: what each is called, takes and means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__


def option(names: str, help: str, **how: Any) -> Any:
    """An option by its names, with one line of help."""
    return typer.Option(names, help=help, **how)


Target = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="digits, scenes, a model file; latent, a hub id or a folder of a diffusers pipeline"
    ),
]
Model = Annotated[str, option("--model", "digits, scenes or a model file")]
Named = Annotated[str | None, option("--model", "digits, scenes or a model file, as MODEL (default: scenes)")]
Rule = Annotated[
    str | None,
    option(
        "--rule",
        "ddpm, ddim, dpmsolver, heun or flow (default: ddpm); a pipeline: ddpm, ddim, dpmsolver, euler, unipc, flow or "
        "own (default: own, its own scheduler)",
    ),
]
Steps = Annotated[
    int | None,
    option("--steps", "steps of the rule (default: ddpm 1000, heun 25, a pipeline's flow 28, others 50)"),
]
Method = Annotated[
    str,
    option(
        "--method", "spectral, anderson, newton, picard or jacobi; a pipeline: spectral, exponential, picard or jacobi"
    ),
]
Window = Annotated[
    str | None,
    option("--window", "rows evaluated at once, or auto: what finishes soonest (default: auto; with --gif 80 or 32)"),
]
Tolerance = Annotated[
    float | None, option("--tolerance", "how exact, in the criterion's unit (default: error 0.003, noise 0.1)")
]
Criterion = Annotated[
    str,
    option("--criterion", "error: of the finished sample; noise: change of a row in units of its noise (paper)"),
]
Guess = Annotated[str, option("--guess", "what a new row holds: extrapolate or copy")]
Seed = Annotated[int, option("--seed", "seed of all noise")]
Batch = Annotated[int, option("--batch", "number of samples")]
Samples = Annotated[int | None, option("--batch", "number of samples (default: 4, of a pipeline 1)")]
Class = Annotated[int | None, option("--class", "class of all samples (default: SEED, SEED + 1, ... in turn)")]
Guidance = Annotated[float | None, option("--guidance", "scale of guidance (default: 1, none; a pipeline's own)")]
Eta = Annotated[float | None, option("--eta", "noise of ddim, from 0 to 1 (default: 0)")]
Clip = Annotated[bool, option("--clip/--no-clip", "keep denoised estimates within -1 and 1")]
MaxRounds = Annotated[int | None, option("--max-rounds", "stop after so many rounds")]
Verify = Annotated[bool, option("--verify", "evaluate the whole result once more and bound its error")]
Compare = Annotated[bool, option("--compare", "run the sequential sampler too, on the same noise")]
Gif = Annotated[bool, option("--gif", "write the animation")]
Out = Annotated[Path, option("--out", "folder to write to")]
Traces = Annotated[list[Path] | None, typer.Argument(metavar="[TRACES]...", help="files of recorded rounds")]
Curve = Annotated[str | None, option("--latency", "sd2-a100, or a JSON file of rows and seconds (default: measured)")]
Group = Annotated[str | None, option("--group", "which of the groups in a rounds.json")]
Devices = Annotated[str, option("--devices", "numbers of devices")]
Links = Annotated[str, option("--links", "what joins them: NVLink, PCIe, 100G, 25G, 10G, 1G, free")]
PlanBatch = Annotated[int, option("--batch", "number of samples made at once")]
Windows = Annotated[str, option("--windows", "windows to measure rounds with")]
Prompt = Annotated[str | None, option("--prompt", "what a pipeline is to make")]
Negative = Annotated[str | None, option("--negative", "what a pipeline is not to make")]
Height = Annotated[int | None, option("--height", "pixels, for a pipeline (default: its own)")]
Width = Annotated[int | None, option("--width", "pixels, for a pipeline (default: its own)")]
Device = Annotated[
    str | None, option("--device", "where it runs: cpu, cuda, cuda:1, mps (default: a CUDA GPU if any, else the CPU)")
]
Dtype = Annotated[
    str | None, option("--dtype", "of a pipeline's weights: float32, float16, bfloat16 (default: float32)")
]
Variant = Annotated[str | None, option("--variant", "of a pipeline's files, such as fp16")]
Many = Annotated[
    int | None,
    option(
        "--count", "so many samples, of seeds SEED, SEED + 1, ..., a file each; those in OUT already are left", min=1
    ),
]
Timeout = Annotated[
    float, option("--timeout", "under torchrun: seconds that a rank may keep the others waiting before all end")
]
Trust = Annotated[
    bool, option("--trust-remote-code", "run code that a pipeline's folder brings with it (default: it is refused)")
]
Json = Annotated[bool, option("--json", "print the numbers as one JSON object, and nothing else")]


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
