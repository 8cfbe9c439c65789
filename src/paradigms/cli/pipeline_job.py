"""`paradigms sample MODEL`: a diffusers pipeline from the hub or a folder, made ready to sample in parallel.

| rule        | the scheduler, built from the configuration of the pipeline's own     | steps |
| `own`       | the pipeline's own                                                    | 50    |
| `ddpm`      | DDPMScheduler                                                         | 1000  |
| `ddim`      | DDIMScheduler                                                         | 50    |
| `dpmsolver` | DPMSolverMultistepScheduler                                           | 50    |
| `euler`     | EulerDiscreteScheduler, for pipelines that scale what a network sees  | 50    |
| `unipc`     | UniPCMultistepScheduler                                               | 50    |
| `flow`      | FlowMatchEulerDiscreteScheduler, for flow-matching models, and only   | 28    |

A scheduler that reads a configuration which is not its own takes defaults for what it misses, and samples another
model's noise levels: those cases are refused. Everything is checked before the first call of a network.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import public as public  # a pipeline's own code may ask `paradigms` for any name
from ..adapters import parallelize
from ..adapters.remote_code import UntrustedError, check_folder, remote_code_refused
from ..files import brief_name, is_file, is_folder, shipped_weights
from ..methods.anderson import ExponentialPicard
from ..methods.base import AbstractMethod
from ..methods.picard import Jacobi, Picard
from ..methods.spectral import Spectral
from ..schedule import check_steps
from ..stopping.base import AbstractStop
from .devices import device_named
from .model_job import CRITERIA, choose

LATENT, LONGEST_ID = "latent", 200  # the pipeline that ships; characters of a hub id

RULES: dict[str, tuple[str, int]] = {
    "own": ("", 50),
    "ddpm": ("DDPMScheduler", 1000),
    "ddim": ("DDIMScheduler", 50),
    "dpmsolver": ("DPMSolverMultistepScheduler", 50),
    "euler": ("EulerDiscreteScheduler", 50),
    "unipc": ("UniPCMultistepScheduler", 50),
    "flow": ("FlowMatchEulerDiscreteScheduler", 28),
}
METHODS: dict[str, type[AbstractMethod]] = {
    "spectral": Spectral,
    "exponential": ExponentialPicard,
    "picard": Picard,
    "jacobi": Jacobi,
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TAKES = {
    "--prompt": "prompt",
    "--negative": "negative_prompt",
    "--guidance": "guidance_scale",
    "--eta": "eta",
    "--class": "class_labels",
    "--height": "height",
    "--width": "width",
}
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class PipelineRequest:
    """What was asked for; None stands for a default. options: those of `TAKES` that were given, with their values."""

    model: str
    rule: str = "own"
    steps: int | None = None
    method: str = "spectral"
    window: int | str = "auto"
    tolerance: float | None = None
    criterion: str = "error"
    seed: int = 0
    batch: int = 1
    device: str | None = None
    dtype: str = "float32"
    variant: str | None = None
    compare: bool = False
    trust: bool = False  # code of the folder's own may run
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineJob:
    """A pipeline under its rule, and the arguments of its call; all checked."""

    ask: PipelineRequest
    pipe: Any
    arguments: dict[str, Any]
    steps: int
    window: int | str
    method: AbstractMethod
    stop: AbstractStop


def prepare_pipeline(ask: PipelineRequest) -> PipelineJob:
    """Loads what was asked for; raises ValueError, one line that says what to type, for what cannot be sampled."""
    (_, usual), kind = choose("--rule", ask.rule, RULES), choose("--method", ask.method, METHODS)
    criterion, tolerance = choose("--criterion", ask.criterion, CRITERIA)
    choose("--dtype", ask.dtype, DTYPES)
    if ask.batch < 1 or not 0 <= ask.seed < 2**63:
        raise ValueError(f"--batch is {ask.batch}, --seed {ask.seed}; type whole numbers, a batch of 1 or more")
    steps = usual if ask.steps is None else ask.steps
    stop = criterion(tolerance if ask.tolerance is None else ask.tolerance)
    where = device_named(ask.device)
    with quiet_libraries():
        pipe = with_scheduler(load_pipeline(ask), ask.rule)
        check_steps(steps, int(pipe.scheduler.config.get("num_train_timesteps", steps)))
        arguments = call_arguments(pipe, ask, steps)
        with parallelize(pipe, method := kind(), tolerance=stop, window=ask.window):
            pass  # for its errors
        try:
            return PipelineJob(ask, pipe.to(where), arguments, steps, ask.window, method, stop)
        except RuntimeError as error:
            raise ValueError(
                f"no room on {where} ({first_line(error)}); type --dtype float16, or --device cpu"
            ) from error


def load_pipeline(ask: PipelineRequest) -> Any:
    """The pipeline of a name that ships, a folder or a hub id; raises ValueError, ImportError without diffusers.

    No code of the folder's own runs unless `ask.trust`, see `remote_code.py`.
    """
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise ImportError("pipelines need diffusers; type: pip install 'paradigms-sampling[cli,zoo]'") from error
    name = str(shipped_weights("latent")) if ask.model == LATENT else ask.model
    if is_folder(name) and not is_file(Path(name) / "model_index.json"):
        raise ValueError(
            f"folder {brief_name(name)} holds no pipeline; type the path of one that save_pretrained wrote"
        )
    if not is_folder(name) and (len(name) > LONGEST_ID or not HUB_ID.fullmatch(name)):
        raise ValueError(
            f"there is no folder {brief_name(name)}; type digits, scenes, latent, the path of a folder that "
            "save_pretrained wrote, or a hub id such as google/ddpm-church-256"
        )
    folder = name if is_folder(name) else download_pipeline(DiffusionPipeline, ask)
    if not ask.trust:
        check_folder(folder)
    how: dict[str, Any] = {"trust_remote_code": True} if ask.trust else {}
    try:
        with quiet_libraries(), contextlib.nullcontext() if ask.trust else remote_code_refused():
            return DiffusionPipeline.from_pretrained(folder, torch_dtype=DTYPES[ask.dtype], variant=ask.variant, **how)
    except UntrustedError:
        raise
    except Exception as error:  # whatever a folder that is not whole makes it raise
        why = first_line(error.__cause__ or error)
        raise ValueError(
            f"folder {brief_name(folder)} cannot be loaded ({why}); type the path of a whole pipeline"
        ) from error


def download_pipeline(kind: Any, ask: PipelineRequest) -> str:
    """The folder of a hub id, in the hub's cache on this machine; raises ValueError where it does not come."""
    try:
        return str(kind.download(ask.model, variant=ask.variant, trust_remote_code=ask.trust))
    except Exception as error:  # whatever a hub that is not reached makes it raise
        why = first_line(error.__cause__ or error)
        raise ValueError(
            f"{ask.model!r} is no folder here and did not come from the hub ({why}); where there is a network type: hf "
            f"download {ask.model} --local-dir FOLDER, then: paradigms sample FOLDER"
        ) from error


def with_scheduler(pipe: Any, rule: str) -> Any:
    """The pipeline with the scheduler of a rule; raises ValueError where that would sample another model's levels."""
    kind, own = type(pipe).__name__, getattr(pipe, "scheduler", None)
    if own is None or not hasattr(own, "config"):
        raise ValueError(f"{kind} has no scheduler; type the folder or id of a diffusion pipeline")
    if rule == "own":
        return pipe
    import diffusers

    scheduler, config, name = getattr(diffusers, RULES[rule][0]), own.config, type(own).__name__
    changes: dict[str, Any] = {}
    if is_flow(own):
        if rule not in ("flow", "dpmsolver", "unipc"):
            raise ValueError(f"--rule is {rule!r}, but {kind} is a flow-matching model; type --rule flow, or own")
        if rule != "flow" and config.get("use_dynamic_shifting"):
            raise ValueError(f"--rule is {rule!r}, but {kind} shifts its levels by size; type --rule flow, or own")
        shift = config.get("shift", config.get("flow_shift", 1.0))
        changes = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
        changes = {"shift": shift} if rule == "flow" else changes
    elif rule == "flow":
        raise ValueError(f"--rule is 'flow', but {kind} was not trained by flow matching; type --rule ddim, or own")
    elif "beta_start" not in config:
        raise ValueError(f"--rule is {rule!r}, but the levels of {kind}'s {name} are not a chain's; type --rule own")
    if rule == "euler" and "scale_model_input" not in inspect.getsource(sys.modules[type(pipe).__module__]):
        raise ValueError(f"--rule is 'euler', for which {kind} does not scale its network's input; type --rule ddim")
    try:
        made = scheduler.from_config(config, **changes)
    except Exception as error:  # whatever a scheduler says to levels that it does not have
        raise ValueError(
            f"--rule {rule} cannot follow {kind}'s {name} ({first_line(error)}); type --rule own"
        ) from error
    if kind == "DDIMPipeline" and rule != "ddim":  # it makes a DDIMScheduler of any, and hands it DDIM's arguments
        return diffusers.DDPMPipeline(unet=pipe.unet, scheduler=made)
    pipe.scheduler = made
    return pipe


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler's levels are those of flow matching."""
    config = scheduler.config
    return "FlowMatch" in type(scheduler).__name__ or config.get("prediction_type") == "flow_prediction"


def call_arguments(pipe: Any, ask: PipelineRequest, steps: int) -> dict[str, Any]:
    """The arguments of a call but its generator; raises ValueError for options that the pipeline has no use for."""
    kind, takes = type(pipe).__name__, inspect.signature(pipe.__call__).parameters
    given = {option: value for option, value in ask.options.items() if value is not None}
    for option in given:
        if TAKES[option] not in takes:
            raise ValueError(f"{option} is not for {kind}, which does not take it; leave {option} out")
    if "prompt" in takes and "--prompt" not in given:
        raise ValueError(f"{kind} makes what a prompt says and none was given; type --prompt 'what you want to see'")
    made = {TAKES[option]: value for option, value in given.items()} | {"num_inference_steps": steps}
    if "--class" in given:
        made["class_labels"] = [given["--class"]] * ask.batch
    elif "prompt" in made:
        made |= {k: [made[k]] * ask.batch for k in ("prompt", "negative_prompt") if k in made and ask.batch > 1}
    elif "batch_size" in takes:
        made["batch_size"] = ask.batch
    elif ask.batch > 1:
        raise ValueError(f"--batch is {ask.batch}, but {kind} makes one at a time; type --batch 1")
    missing = [k for k, v in takes.items() if v.default is v.empty and v.kind is v.POSITIONAL_OR_KEYWORD]
    missing += (
        ["image"] if "image" in takes and "strength" in takes else []
    )  # what is to be changed, though it may be None
    if missing := [k for k in missing if k not in made]:
        raise ValueError(
            f"{kind} needs {', '.join(missing)}, which no option gives; type in Python: with paradigms.parallelize("
            "pipe) as run: pipe(...)"
        )
    return made | ({"output_type": "np"} if "output_type" in takes else {})


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within it diffusers and transformers say nothing but errors, and their bars are for terminals."""
    try:
        from diffusers.utils import logging as ours
        from transformers.utils import logging as theirs
    except ImportError:  # told where they are needed
        yield
        return
    levels, bare = [(log, log.get_verbosity()) for log in (ours, theirs)], not sys.stderr.isatty()
    try:
        for log, _ in levels:
            log.set_verbosity_error()
            if bare:
                log.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch_dtype has another name in the newest diffusers
            yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
            if bare:
                log.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """An error's kind and the beginning of what it says, in one line."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:160]}" if said else type(error).__name__
