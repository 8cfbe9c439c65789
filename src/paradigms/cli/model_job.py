"""A sampling job: what the command line was asked for, checked, and turned into arguments of `sample`.

| rule      | steps | rows        |        | criterion | tolerance |
| ddpm      | 1000  | steps       |        | error     | 0.003     |
| ddim      | 50    | steps       |        | noise     | 0.1       |
| dpmsolver | 50    | steps       |
| heun      | 25    | 2 steps - 1 |
| flow      | 50    | steps       |

The criteria are those of `stopping`: the error of the finished sample, and the paper's, the noise of a step. The window
picks itself; where it is to be looked at it is 80 rows from 500 rows on, else 32. Without a class, samples go through
the classes, the first of seed s is of s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import rules
from ..checks.problem import check_condition
from ..checks.solver import check_window
from ..execution.chunked import Model
from ..execution.guidance import Guided
from ..files import brief_name
from ..methods.anderson import Anderson
from ..methods.base import AbstractMethod
from ..methods.guess import Copy, Extrapolate, Guess
from ..methods.newton import QuasiNewton
from ..methods.picard import Jacobi, Picard
from ..methods.spectral import Spectral
from ..models import Pretrained, load
from ..schedule import Schedule, check_steps, linear
from ..solution import Solution
from ..solve import TOLERANCE, iterate, sample, sequential
from ..stopping.base import AbstractStop
from ..stopping.final_error import FinalError
from ..stopping.step_noise import StepNoise
from ..system import System
from ..window.frame import Frame
from .devices import device_named

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rule:
    """A rule as the command line knows it: its name on pictures, its steps unless told, its maker."""

    title: str
    steps: int
    make: Callable[..., System]


RULES = {
    "ddpm": Rule("DDPM", 1000, rules.ddpm),
    "ddim": Rule("DDIM", 50, rules.ddim),
    "dpmsolver": Rule("DPM-Solver", 50, rules.dpmsolver),
    "heun": Rule("Heun", 25, rules.heun),
    "flow": Rule("Flow", 50, lambda schedule, steps, **output: rules.flow(steps, schedule=schedule, **output)),
}
METHODS: dict[str, Callable[..., AbstractMethod]] = {
    "spectral": Spectral,
    "anderson": Anderson,
    "newton": QuasiNewton,
    "picard": Picard,
    "jacobi": Jacobi,
}
GUESSES: dict[str, Callable[[], Guess]] = {"extrapolate": Extrapolate, "copy": Copy}
CRITERIA: dict[str, tuple[Callable[[float], AbstractStop], float]] = {
    "error": (FinalError, TOLERANCE),
    "noise": (StepNoise, 0.1),
}


@dataclass(frozen=True)
class Request:
    """What was asked for; None stands for the default of the rule or the model."""

    model: str = "scenes"
    rule: str = "ddpm"
    steps: int | None = None
    method: str = "spectral"
    window: int | str = "auto"  # "wide": for pictures of it
    tolerance: float | None = None
    criterion: str = "error"
    guess: str = "extrapolate"
    seed: int = 0
    batch: int = 4
    label: int | None = None
    guidance: float | None = None
    eta: float | None = None
    clip: bool = False
    max_rounds: int | None = None
    verify: bool = False
    compare: bool = False
    device: str | None = "cpu"  # None: a GPU where there is one


@dataclass(frozen=True)
class Job:
    """A request that can be run: its system, its model and its condition, all checked."""

    request: Request
    shape: tuple[int, ...]
    system: System
    steps: int
    window: int | str
    stop: AbstractStop
    method: AbstractMethod
    model: Model
    condition: dict[str, Tensor]
    classes: int = 0
    device: torch.device = CPU

    def of(self, seed: int) -> Job:
        """The same job of another seed."""
        asked = replace(self.request, seed=seed)
        return replace(self, request=asked, condition=class_labels(asked, self.classes, self.device))

    @property
    def tolerance(self) -> float:
        """The criterion's."""
        return self.stop.tolerance

    @property
    def title(self) -> str:
        """The rule's name on pictures."""
        return RULES[self.request.rule].title

    def start(self) -> tuple[Tensor, torch.Generator]:
        """The starting noise (B, ...) of the seed, and the generator to draw the steps' noise from.

        Both are drawn on the CPU, so that a seed is one sample on any device.
        """
        generator = torch.Generator().manual_seed(self.request.seed)
        return self.system.noise((self.request.batch, *self.shape), generator).to(self.device), generator

    def sample(self, watch: Callable[[Iterator[Frame]], Iterable[Frame]] = iter, mesh: Any = None) -> Solution:
        """The parallel sampler's solution, on the ranks of a mesh if there is one; raises what the model raises."""
        x, generator = self.start()
        asked = self.request
        return sample(
            self.model,
            self.system,
            x,
            self.method,
            window=self.window,
            tolerance=self.stop,
            generator=generator,
            condition=self.condition,
            verify=asked.verify,
            compare=asked.compare,
            max_rounds=asked.max_rounds,
            watch=watch,
            mesh=mesh,
        )

    def sequential(self) -> Tensor:
        """The sequential sampler's sample (B, ...) on the same noise."""
        x, generator = self.start()
        return sequential(self.model, self.system, x, generator=generator, condition=self.condition)

    def one_by_one(self) -> Iterator[Frame]:
        """The sequential sampler as frames, which it is when the window is one row."""
        x, generator = self.start()
        how: dict[str, Any] = {"generator": generator, "condition": self.condition}
        return iterate(self.model, self.system, x, Jacobi(), window=1, tolerance=0.0, **how)


def prepare_job(asked: Request) -> Job:
    """The job of a request.

    Raises ValueError, with one line that says what to type, for anything that cannot be run.
    """
    rule, method, guess, (criterion, usual) = (
        choose("--rule", asked.rule, RULES),
        choose("--method", asked.method, METHODS),
        choose("--guess", asked.guess, GUESSES),
        choose("--criterion", asked.criterion, CRITERIA),
    )
    for name, value in (("--batch", asked.batch), ("--max-rounds", asked.max_rounds)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; type a whole number from 1")
    if not 0 <= asked.seed < 2**63:
        raise ValueError(f"--seed is {asked.seed}; type a whole number from 0")
    if asked.model == "latent":
        raise ValueError(
            "latent is a pipeline; type paradigms sample latent --prompt 'pines, snow', or digits or scenes here"
        )
    where, pretrained = device_named(asked.device), load(asked.model)
    steps = rule.steps if asked.steps is None else asked.steps
    system = make_system(asked, rule, steps, pretrained)
    window = shown_window(len(system)) if asked.window == "wide" else asked.window
    stop = criterion(usual if asked.tolerance is None else asked.tolerance)
    condition = class_labels(asked, pretrained.classes, where)
    probe = torch.zeros(asked.batch, *pretrained.shape, device=where)
    check_window(window)
    check_condition(condition, probe)
    pretrained.model.to(where)
    model = guided_model(asked, pretrained)
    how = (system, steps, window, stop, method(guess()), model, condition, pretrained.classes, where)
    return Job(asked, pretrained.shape, *how)


def shown_window(rows: int) -> int:
    """A window that shows what a window does, for a chain of so many rows."""
    return 80 if rows >= 500 else 32


def window_of(text: str | None, gif: bool = False) -> int | str:
    """The window that was typed; raises ValueError."""
    if text is None or text == "auto":
        return "wide" if gif and text is None else "auto"
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise ValueError(f"--window is {brief_name(text)}; type a whole number from 1, or auto")
    return int(text)


def choose(option: str, given: str, known: dict[str, Any]) -> Any:
    """The entry of `known` that was asked for."""
    if given not in known:
        raise ValueError(f"{option} is {brief_name(given)}; type one of {', '.join(known)}")
    return known[given]


def make_system(asked: Request, rule: Rule, steps: int, pretrained: Pretrained) -> System:
    """The rule's table for this model."""
    how: dict[str, Any] = {"prediction": pretrained.prediction, "clip": 1.0 if asked.clip else None}
    if asked.eta is not None:
        if asked.rule != "ddim":
            raise ValueError(f"--eta is not for {asked.rule}; leave it out or type --rule ddim")
        how["eta"] = asked.eta
    schedule = trained_on(pretrained)
    check_steps(steps, len(schedule.t))
    return rule.make(schedule, steps, **how)


def trained_on(pretrained: Pretrained) -> Schedule:
    """The noise schedule of a model file."""
    betas = pretrained.betas
    if betas.get("kind") != "linear":
        raise ValueError(f"the model's schedule is {betas.get('kind')!r}; only 'linear' can be sampled here")
    return linear(int(betas["count"]), float(betas["first"]), float(betas["last"]))


def class_labels(asked: Request, classes: int, where: torch.device) -> dict[str, Tensor]:
    """The class of each sample (B,), or nothing for a model without classes."""
    last = classes - 1
    if asked.guidance is not None and not math.isfinite(asked.guidance):
        raise ValueError(f"--guidance is {asked.guidance}; type a finite number, 1 for none")
    if not classes:
        for option, value in (("--class", asked.label), ("--guidance", asked.guidance)):
            if value is not None:
                raise ValueError(f"{option} needs a model with classes; leave it out or type --model digits")
        return {}
    if asked.label is None:
        return {"label": ((torch.arange(asked.batch) + asked.seed % classes) % classes).to(where)}
    if not 0 <= asked.label <= last:
        raise ValueError(f"--class is {asked.label}; type a whole number from 0 to {last}")
    return {"label": torch.full((asked.batch,), asked.label, device=where)}


def guided_model(asked: Request, pretrained: Pretrained) -> Model:
    """The model, with guidance where a scale other than 1 was asked for."""
    if asked.guidance is None or asked.guidance == 1:
        return pretrained.model
    return Guided(pretrained.model, asked.guidance, label=pretrained.classes)
