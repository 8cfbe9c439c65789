"""A race as the page's address asks for it: checked, and turned into what `race/` runs.

| model   | what is raced                                      | its own controls    |
| scenes  | a picture of 32 x 32 pixels                        | rule, steps         |
| digits  | a digit of 8 x 8 pixels                            | rule, steps, class  |
| latent  | a landscape of 64 x 64 pixels from a prompt        | rule, steps, prompt |
| pusht   | an episode of the policy that pushes a T           | chunks              |
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..files import brief_name
from ..race.images import Images
from ..race.pushing import Observed, Pushing
from ..race.recording import Contest
from ..schedule import check_steps
from .model_job import CRITERIA, METHODS, RULES, Request, choose, prepare_job, window_of

NEEDS = {"latent": ("diffusers", "transformers"), "pusht": ("gym_pusht", "diffusers", "pymunk")}
EXTRA = {"latent": "zoo", "pusht": "pusht"}
TITLES = {
    "scenes": "Scenes, 32 x 32",
    "digits": "Digits, 8 x 8",
    "latent": "Landscapes from words",
    "pusht": "PushT, a robot's policy",
}
LATENT = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "dpmsolver": "DPMSolverMultistepScheduler"}
USUAL: dict[str, dict[str, str]] = {
    "scenes": {"rule": "ddpm", "steps": "1000", "tolerance": "0.003"},
    "digits": {"rule": "ddpm", "steps": "1000", "tolerance": "0.003", "class": "3"},
    "latent": {"rule": "ddim", "steps": "200", "tolerance": "0.003", "prompt": "pines, snow, mountains, day"},
    "pusht": {"tolerance": "0.01", "chunks": "24"},
}
STEPS = {"latent": {"ddpm": 500, "ddim": 200, "dpmsolver": 50}}  # its levels begin at 1, so that 1000 do not fit
COMMON = {"method": "spectral", "window": "auto", "seed": "0"}
GUIDANCE = 5.0  # of the landscapes: below the pipelines' usual 7.5, at which so small a model overdoes its colours
KEPT: dict[str, nn.Module] = {}
# Chunks of eight actions in an episode of 300: 300 / 8, rounded up.
CHUNKS = 38


def choices() -> dict[str, Any]:
    """What the page offers: models by name, what the absent ones lack, and where each control starts."""
    here = {name: not missing(name) for name in TITLES}
    models = {
        name: {
            "title": title,
            "here": here[name],
            "install": f"pip install 'paradigms-sampling[{EXTRA[name]}]'" if name in EXTRA else "",
            "usual": COMMON | USUAL[name],
            "rules": list(LATENT if name == "latent" else RULES) if name != "pusht" else [],
            "steps": {rule: of.steps for rule, of in RULES.items()} | STEPS.get(name, {}),
        }
        for name, title in TITLES.items()
    }
    return {"models": models, "rules": {n: rule.title for n, rule in RULES.items()}, "methods": list(METHODS)}


def missing(model: str) -> list[str]:
    """The packages that a model lacks here."""
    return [name for name in NEEDS.get(model, ()) if importlib.util.find_spec(name) is None]


def contest(query: dict[str, str]) -> Contest:
    """The race of an address; raises ValueError, one line that says what to type."""
    given = {k: v.strip() for k, v in query.items() if v.strip()}
    model = given.get("model", "scenes")
    choose("--model", model, TITLES)
    known = {"model", *COMMON, *USUAL[model]}
    if other := sorted(set(given) - known):
        raise ValueError(
            f"--{brief_name(other[0])[1:-1]} is not for {model}; leave it out, "
            f"or type one of {', '.join(sorted(known))}"
        )
    if absent := missing(model):
        extra = f"pip install 'paradigms-sampling[{EXTRA[model]}]'"
        raise ValueError(f"--model is {model!r}, which needs {', '.join(absent)}; type: {extra}")
    given = COMMON | USUAL[model] | given
    made: dict[str, Callable[[dict[str, str]], Contest]] = {"latent": latent, "pusht": pusht}
    return made[model](given) if model in made else picture(model, given)


def picture(model: str, given: dict[str, str]) -> Images:
    """A race on scenes or digits."""
    label = whole("class", given) if "class" in given else None
    asked = Request(
        model, given["rule"], whole("steps", given), given["method"], window_of(given["window"]),
        positive("tolerance", given), seed=whole("seed", given), batch=1, label=label, device=None,
    )  # fmt: skip
    job = prepare_job(asked)
    title = f"{TITLES[model].partition(',')[0]}, {job.title} of {job.steps} steps"
    facts = told(given, len(job.system))
    assert isinstance(job.model, nn.Module)  # what ships is one
    network = KEPT.setdefault(model, job.model)  # the same object each time, of which "auto" has learned something
    how = (job.window, job.stop, job.method, job.condition)
    return Images(title, network, job.system, job.start, *how, picture=lambda x: x, facts=facts)


class Words(nn.Module):
    """A pipeline's network as the core calls it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """The output for latents x (M, C, H, W) at t (M,) under encoded words (M, L, E)."""
        return self.network(x, t, encoder_hidden_states=words).sample  # type: ignore[no-any-return]


@functools.cache
def loaded() -> tuple[Any, Words]:
    """The shipped pipeline, and its network."""
    from ..models.latent import load
    from .pipeline_job import quiet_libraries

    with quiet_libraries():
        pipe = load()
    return pipe, Words(pipe.unet)


def latent(given: dict[str, str]) -> Images:
    """A race on the shipped latent pipeline, in its latents, which are decoded to be drawn."""
    import diffusers

    from ..adapters import from_scheduler
    from ..execution.guidance import Guided

    rule, method = choose("--rule", given["rule"], LATENT), choose("--method", given["method"], METHODS)()
    steps, seed, window, stop = (
        whole("steps", given),
        whole("seed", given),
        window_of(given["window"]),
        criterion(given),
    )
    pipe, network = loaded()
    check_steps(steps, int(pipe.scheduler.config.num_train_timesteps))
    try:
        system = from_scheduler(getattr(diffusers, rule).from_config(pipe.scheduler.config), steps)
    except (ValueError, IndexError) as error:  # levels that the scheduler does not have
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"--steps is {steps}, of which {rule} makes no chain ({why}); type fewer") from error
    with torch.no_grad():
        words, none = pipe.encode_prompt(given["prompt"], "cpu", 1, True)
    size, vae = pipe.unet.config, pipe.vae

    def start() -> tuple[Tensor, torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        return system.noise((1, size.in_channels, size.sample_size, size.sample_size), generator), generator

    def decoded(x: Tensor) -> Tensor:
        return vae.decode(x / vae.config.scaling_factor).sample  # type: ignore[no-any-return]

    title = f"“{brief_name(given['prompt'], 60)[1:-1]}”, {RULES[given['rule']].title} of {steps} steps"
    guided = Guided(network, GUIDANCE, words=none[0])
    facts = told(given, len(system)) | {"decoded": True}
    return Images(title, guided, system, start, window, stop, method, {"words": words}, decoded, facts)


@functools.cache
def policy() -> tuple[Any, Observed]:
    """The shipped policy, and its network."""
    from ..policies.store import load_policy
    from ..policies.tasks.task import load_task

    found = load_policy("pusht-unet")
    load_task("pusht").environment()  # imports the simulator
    return found, Observed(found.model)


def pusht(given: dict[str, str]) -> Pushing:
    """A race of the PushT policy."""
    from ..adapters import from_scheduler
    from ..policies.tasks.task import load_task

    method, window, stop = choose("--method", given["method"], METHODS)(), window_of(given["window"]), criterion(given)
    seed, chunks = whole("seed", given), whole("chunks", given)
    if not 1 <= chunks <= CHUNKS:
        raise ValueError(f"--chunks is {chunks}; type a whole number from 1 to {CHUNKS}, an episode's")
    found, network = policy()
    system = from_scheduler(found.noise_scheduler, found.num_inference_steps)
    title = f"PushT, DDPM of {found.num_inference_steps} steps a chunk, seed {seed}"
    how = (seed, window, stop, method, chunks, told(given, len(system)))
    return Pushing(title, found, network, load_task("pusht"), system, *how)


def told(given: dict[str, str], rows: int) -> dict[str, Any]:
    """What the page says of how it was run."""
    return {"threads": torch.get_num_threads(), "method": given["method"], "asked": given["window"], "N": rows}


def criterion(given: dict[str, str]) -> Any:
    """The criterion of a tolerance."""
    kind, _ = CRITERIA["error"]
    return kind(positive("tolerance", given))


def whole(name: str, given: dict[str, str]) -> int:
    """A whole number of 18 digits at most; raises ValueError."""
    text = given[name]
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19):
        raise ValueError(f"--{name} is {brief_name(text)}; type a whole number")
    if name == "seed" and text.startswith("-"):
        raise ValueError(f"--seed is {text}; type a whole number from 0")
    return int(text)


def positive(name: str, given: dict[str, str]) -> float:
    """A number; raises ValueError for what is none."""
    with contextlib.suppress(ValueError):
        return float(given[name])
    raise ValueError(f"--{name} is {brief_name(given[name])}; type a number such as 0.003")
