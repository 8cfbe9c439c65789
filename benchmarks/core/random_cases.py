"""Random sampling problems of the core: rules with all their options, models with several modes, methods, windows.

A case is drawn by a function that picks one of several values, so that `random.Random(seed).choice` and hypothesis draw
the same cases. Models answer in the prediction that the rule is told, by the equations of `denoiser.py` backwards:

    D = E[data | x]  ->  epsilon = (x - A D) / S,   v = (A x - D) / S,   flow = (x - D) / S,   x0 = D

| model    | D of a state x at the levels A, S                                                                |
| modes    | exact, of a mixture of equal Gaussians: posteriors choose between modes                          |
| smooth   | W2 tanh(W1 x + b + c A): a small random network                                                  |
| wavy     | A x + 0.3 sin(3 x): bent in every coordinate                                                     |
| wakes    | the same of every state while noise is high, then wavy: early rows say nothing of later ones     |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from paradigms import rules, schedule
from paradigms.execution.guidance import Guided
from paradigms.methods.anderson import Anderson, ExponentialPicard
from paradigms.methods.base import AbstractMethod
from paradigms.methods.guess import Copy, Extrapolate
from paradigms.methods.newton import QuasiNewton
from paradigms.methods.parareal import HeldCoarse, LinearCoarse, Parareal
from paradigms.methods.picard import Jacobi, Picard
from paradigms.methods.spectral import Spectral
from paradigms.methods.speculation import Speculation
from paradigms.schedule import Schedule
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError
from paradigms.stopping.step_noise import StepNoise
from paradigms.system import System

T = TypeVar("T")
Pick = Callable[[Sequence[Any]], Any]
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "linear": schedule.linear,
    "linear, 200": lambda: schedule.linear(200, 5e-4, 0.1),
    "scaled_linear": schedule.scaled_linear,
    "cosine": schedule.cosine,
    "cosine, 100": lambda: schedule.cosine(100),
    "zero SNR": lambda: schedule.zero_terminal_snr(schedule.scaled_linear()),
}
RULES = ("ddpm", "ddim", "dpmsolver", "dpmsolver_single", "heun", "flow", "flow_heun")
SHAPES = ((1,), (2,), (6,), (16,), (3, 4), (2, 4, 4), (1, 8, 8))
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """All that a case is drawn from, in plain values; `make` builds the problem."""

    seed: int
    schedule: str
    rule: str
    steps: int
    options: tuple[tuple[str, Any], ...]
    model: str
    modes: int
    width: float
    apart: float
    shape: tuple[int, ...]
    batch: int
    dtype: str
    noise: str
    condition: str
    method: AbstractMethod | None
    window: int | str
    tolerance: float | AbstractStop
    verify: bool
    max_rounds: int | None


def draw(pick: Pick, seed: int = 0) -> Case:
    """A case; the simplest values come first, for what shrinks an example."""
    rule, steps = pick(RULES), pick((1, 2, 3, 5, 8, 13, 20, 30, 50, 80))
    if rule in ("dpmsolver_single", "heun", "flow_heun"):
        steps = max(steps, 2)
    return Case(
        seed,
        pick(tuple(SCHEDULES)),
        rule,
        steps,
        options(pick, rule),
        pick(("modes", "modes", "modes", "smooth", "wavy", "wakes")),
        pick((2, 1, 3, 8)),
        pick((0.3, 0.1, 1.0)),
        pick((1.0, 0.5, 2.0)),
        pick(SHAPES),
        pick((1, 2, 3, 5)),
        pick(("float64", "float32", "float32", "bfloat16")),
        pick(("one generator", "one a sample", "given", "torch's own")),
        pick(("none", "none", "shift", "guided")),
        method(pick),
        pick((1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 100, "auto")),
        tolerance(pick),
        pick((False, False, True)),
        pick((None, None, None, None, None, 1, 3)),
    )


def options(pick: Pick, rule: str) -> tuple[tuple[str, Any], ...]:
    """The rule's own options, the prediction, a clip or a threshold."""
    found: dict[str, Any] = {}
    if rule in ("ddpm", "ddim"):
        found |= {"spacing": pick(("leading", "trailing", "linspace")), "offset": pick((0, 0, 1))}
    if rule == "ddpm":
        found["variance"] = pick(("small", "large"))
    if rule == "ddim":
        found |= {"eta": pick((0.0, 0.0, 0.5, 1.0)), "final_alpha_one": pick((True, False))}
    if rule.startswith("dpmsolver"):
        found |= {"spacing": pick(("linspace", "leading", "trailing")), "karras": pick((False, True))}
        found["final_zero"] = pick((True, False))
    if rule == "heun":
        found |= {"spacing": pick(("linspace", "trailing")), "karras": pick((True, False))}
    if rule.startswith("flow"):
        found |= {"shift": pick((1.0, 3.0)), "native": pick((True, False))}
    native = found.get("native", False)
    found["prediction"] = pick(("flow", "x0")) if native else pick(("epsilon", "x0", "v"))
    limit = pick(("none", "none", "clip", "threshold"))
    if limit != "none":
        found[limit] = 1.0 if limit == "clip" else (0.9, 1.5)
    return tuple(found.items())


def method(pick: Pick) -> AbstractMethod | None:
    """A method with options of its own; None is the default."""
    guess = pick((Extrapolate, Copy))()
    kind = pick(("default", "default", "jacobi", "picard", "exponential", "anderson", "newton", "spectral", "parareal"))
    if kind == "spectral":
        some: dict[str, Any] = {"width": pick((0.5, 0.1, 3.0)), "weight": pick((0.03, 1e-6, 1.0))}
        return Spectral(guess, forget=pick((0.5, 0.0, 1.0)), most=pick((1.0, 0.0, math.inf)), **some)
    if kind == "anderson":
        return Anderson(guess, depth=pick((2, 0, 1, 4)), variance=pick((1.0, 0.0, 0.1, math.inf)))
    if kind == "newton":
        return QuasiNewton(guess, damping=pick((1.0, 0.0, 0.5)), reach=pick((0.01, 1.0)))
    if kind == "parareal":
        block, coarse = pick((None, 1, 2)), pick((HeldCoarse, LinearCoarse))()
        return Parareal(block=block, tolerance=pick((0.0, 0.01)), coarse=coarse)
    if kind == "picard" and pick((False, False, False, True)):
        return Speculation(pick((0, 1)))
    plain = {"jacobi": Jacobi(guess), "picard": Picard(guess)}
    return ExponentialPicard(guess, variance=pick((math.inf, 1.0, 0.0))) if kind == "exponential" else plain.get(kind)


def tolerance(pick: Pick) -> float | AbstractStop:
    """Zero in every other case, else an error of the sample, by number or criterion, or noise of a step."""
    if pick((True, False)):
        return pick((0.0, 0.0, 0.0, FinalError(0.0), StepNoise(0.0)))  # type: ignore[no-any-return]
    error = pick((0.003, 0.001, 0.01, 0.03, 0.1))
    return pick((error, error, error, FinalError(error), FinalError(error, overlap=0.3), StepNoise(0.1)))  # type: ignore[no-any-return]


def system(case: Case) -> System:
    """The case's table; raises ValueError where the options do not go together."""
    how, levels = dict(case.options), SCHEDULES[case.schedule]()
    if case.rule.startswith("flow"):
        trained = None if how.pop("native") else levels
        return getattr(rules, case.rule)(case.steps, schedule=trained, **how)  # type: ignore[no-any-return]
    return getattr(rules, case.rule)(levels, case.steps, **how)  # type: ignore[no-any-return]


class Net:
    """The case's model: x (M, ...), t (M,), shift (M,) where it has a condition. `rows`: how many it was asked for."""

    def __init__(self, case: Case) -> None:
        how = dict(case.options)
        self.case, self.prediction, self.rows, self.calls = case, how["prediction"], 0, 0
        self.native = bool(how.get("native"))
        self.known = SCHEDULES[case.schedule]().ratio.clamp(1e-10, 1e10).log()
        d, g = math.prod(case.shape), torch.Generator().manual_seed(case.seed)
        self.means = case.apart * torch.randn(case.modes, d, generator=g, dtype=torch.float64)
        H = 2 * d + 2
        self.W1 = torch.randn(H, d, generator=g, dtype=torch.float64) / d**0.5
        self.W2 = torch.randn(d, H, generator=g, dtype=torch.float64) / H**0.5
        self.b, self.c = (torch.randn(H, generator=g, dtype=torch.float64) for _ in range(2))

    def levels(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """A and S (M, 1) at timesteps t (M,), fractional ones log-linear in the ratio."""
        if self.native:  # the flow's own time
            S = t.double() / 1000
            return (1 - S)[:, None].to(x), S[:, None].to(x)
        low = t.double().floor().long().clamp(0, len(self.known) - 2)
        ratio = torch.lerp(self.known[low], self.known[low + 1], t.double() - low).exp()
        A = (1 + ratio**2).rsqrt()
        return A[:, None].to(x), (ratio * A)[:, None].to(x)

    def __call__(self, x: Tensor, t: Tensor, shift: Tensor | None = None) -> Tensor:
        self.rows, self.calls = self.rows + len(x), self.calls + 1
        flat = x.flatten(1)
        A, S = self.levels(flat, t)
        D = self.estimate(flat, A, S)
        if shift is not None:
            D = D + 0.3 * shift[:, None].to(D)
        read = {"x0": lambda: D, "epsilon": lambda: (flat - A * D) / S, "v": lambda: (A * flat - D) / S}
        return (read | {"flow": lambda: (flat - D) / S})[self.prediction]().view_as(x)

    def estimate(self, x: Tensor, A: Tensor, S: Tensor) -> Tensor:
        """D (M, d) of x (M, d)."""
        if self.case.model == "modes":
            v, means = (A * self.case.width) ** 2 + S**2, self.means.to(x)
            apart = x[:, None] - A[:, None] * means  # (M, J, d)
            w = torch.softmax(-apart.square().sum(-1) / (2 * v), 1)[..., None]
            return (w * (means + (A * self.case.width**2 / v)[:, None] * apart)).sum(1)
        if self.case.model == "smooth":
            hidden = (x @ self.W1.T.to(x) + self.b.to(x) + A * self.c.to(x)).tanh()
            return hidden @ self.W2.T.to(x)
        D = A * x + 0.3 * torch.sin(3 * x)
        return torch.where(A > 0.5, D, 0.3) if self.case.model == "wakes" else D


@dataclass(frozen=True)
class Problem:
    """What `sample` and `sequential` take, made anew for each call: model, system, x, and keywords."""

    case: Case
    system: System

    def call(self) -> tuple[Net, Any, Tensor, dict[str, Any], list[torch.Generator]]:
        """The net that counts, the model, the starting noise, keywords, and the generators that rows are drawn from."""
        case, net = self.case, Net(self.case)
        g = torch.Generator().manual_seed(case.seed + 1)
        x = self.system.noise((case.batch, *case.shape), g).to(DTYPES[case.dtype])
        how: dict[str, Any] = {}
        drawn: list[torch.Generator] = []
        if case.noise == "given":
            how["noise"] = torch.randn((len(self.system), *x.shape), generator=g).to(x)
        elif case.noise == "one generator":
            how["generator"] = torch.Generator().manual_seed(case.seed + 2)
            drawn = [how["generator"]]
        elif case.noise == "one a sample":
            drawn = how["generator"] = [torch.Generator().manual_seed(case.seed + 2 + b) for b in range(case.batch)]
        else:
            torch.manual_seed(case.seed + 2)
            drawn = [torch.default_generator]
        model: Any = net
        if case.condition != "none":
            how["condition"] = {"shift": torch.linspace(-1, 1, case.batch)}
            model = Guided(net, 1.5, shift=torch.tensor(0.0)) if case.condition == "guided" else net
        return net, model, x, how, drawn
