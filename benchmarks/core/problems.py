"""What the frontier is measured on: problems x rules x windows, and what a cell of that grid will cost.

    rows of one run = spend N B,   spend = max(2, R u / (1 + u)),   u = window / N

R is fitted to runs of ParaDiGMS for each rule (a window of the whole chain is half accepted while it is swept), and the
estimate is good to a factor of two; faster methods spend less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from paradigms import rules
from paradigms.execution.chunked import Model
from paradigms.execution.guidance import Guided
from paradigms.models import load
from paradigms.models.mixture import FieldMixture
from paradigms.schedule import Schedule, linear, scaled_linear
from paradigms.system import System

RULES: dict[str, tuple[Callable[..., System], int, float]] = {  # the rule, N, R
    "DDPM-1000": (rules.ddpm, 1000, 35),
    "DDPM-100": (rules.ddpm, 100, 22),
    "DDIM-200": (rules.ddim, 200, 10),
    "DDIM-50": (rules.ddim, 50, 5.5),
    "DPMSolver-20": (rules.dpmsolver, 20, 4.2),
    "flow-28": (lambda schedule, steps, **output: rules.flow(steps, schedule=schedule, **output), 28, 4.5),
    "DDPM-250": (rules.ddpm, 250, 28),
    "DDIM-75": (rules.ddim, 75, 6.5),
    "flow-40": (lambda schedule, steps, **output: rules.flow(steps, schedule=schedule, **output), 40, 5.0),
}
SHORT = ("DDPM-100", "DDIM-200", "DDIM-50", "DPMSolver-20", "flow-28")
ALL, ONE = (8, 16, 32, 0), (32,)  # 0 stands for N, the whole chain
LONG = (32, 80)  # windows of a chain of 1000 rows
MIDDLE, WIDTHS = ("DDPM-250", "DDIM-75", "flow-40"), (4, 8, 16, 32)
GUIDANCE = 2.0
PROMPT = "a boat with red sails, night"
WIDTH, SEPARATIONS = 0.3, (1.0, 0.5, 2.0)  # of two Gaussians


@dataclass(frozen=True)
class Problem:
    """A model of images of `shape`, and how fast one thread of a CPU runs it."""

    name: str
    model: Model
    prediction: str
    shape: tuple[int, ...]
    classes: int
    per_second: float
    schedule: Callable[[], Schedule] = linear

    def system(self, rule: str, steps: int | None = None) -> System:
        """The rule's table, of its own number of steps or of `steps`."""
        make, own, _ = RULES[rule]
        return make(self.schedule(), own if steps is None else steps, prediction=self.prediction)

    def condition(self, batch: int) -> dict[str, Tensor]:
        """Classes 0, 1, 2, ... in turn (B,), where the model has classes."""
        return {"label": torch.arange(batch) % self.classes} if self.classes else {}


@dataclass(frozen=True)
class Cell:
    """One problem, rule and window, and how many samples are drawn."""

    problem: str
    rule: str
    window: int
    batch: int

    @property
    def name(self) -> str:
        """The cell's key in results."""
        return f"{self.problem}/{self.rule}/w{self.window}"

    @property
    def rows(self) -> int:
        """N; each of these rules has a row for each step."""
        return RULES[self.rule][1]

    @property
    def run(self) -> float:
        """Model rows of one run, as the docstring of this file estimates them."""
        u = self.window / self.rows
        return max(2, RULES[self.rule][2] * u / (1 + u)) * self.rows * self.batch


class TwoGaussians:
    """The exact epsilon of two Gaussians of std WIDTH in d dimensions, equally likely, `separation` sqrt(2 d) apart.

    data = mu[j] + WIDTH noise,   x = alpha data + sigma noise
    v = (alpha WIDTH)^2 + sigma^2,   delta[j] = x - alpha mu[j]
    E[data | x] = sum_j w[j] (mu[j] + alpha WIDTH^2 / v delta[j]),    w = softmax_j(-|delta[j]|^2 / (2 v))
    """

    prediction = "epsilon"

    def __init__(self, d: int, seed: int, separation: float = 1.0, schedule: Schedule | None = None) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.means = separation * torch.randn(2, d, generator=generator, dtype=torch.float64)
        self.ratio = (schedule or linear()).ratio.log()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x (M, d) at timesteps t (M,); between two, log-linear in sigma / alpha."""
        place = t.double()
        low = place.floor().long().clamp(0, len(self.ratio) - 2)
        ratio = torch.lerp(self.ratio[low], self.ratio[low + 1], place - low).exp()[:, None]
        alpha = (1 + ratio**2).rsqrt()
        sigma, v = (ratio * alpha).to(x), ((alpha * WIDTH) ** 2 + (ratio * alpha) ** 2).to(x)
        alpha, means = alpha.to(x), self.means.to(x)
        delta = x[:, None] - alpha[:, None] * means  # (M, 2, d)
        w = torch.softmax(-delta.square().sum(-1) / (2 * v), 1)[..., None]
        return (x - alpha * (w * (means + (alpha * WIDTH**2 / v)[:, None] * delta)).sum(1)) / sigma


def two_gaussians(d: int, seed: int) -> Problem:
    """Two Gaussians of means drawn at `seed`; how far they are apart goes through SEPARATIONS with the seed."""
    model = TwoGaussians(d, seed, SEPARATIONS[seed % len(SEPARATIONS)])
    return Problem(f"two-{d}", model, model.prediction, (d,), 0, 3e5)


@cache
def problem(name: str) -> Problem:
    """The problem of this name; raises ValueError for another."""
    if name not in MAKE:
        raise ValueError(f"problem: given {name!r}; needed: one of {', '.join(MAKE)}")
    return MAKE[name](name)


def mixture(name: str, shape: tuple[int, int, int], per_second: float) -> Problem:
    """The exact denoiser of random fields."""
    return Problem(name, FieldMixture(shape), FieldMixture.prediction, shape, 0, per_second)


def learned(name: str, model: str, per_second: float, guidance: float = 1.0) -> Problem:
    """A shipped model, guided where the scale is not 1."""
    found = load(model)
    net: Model = found.model if guidance == 1 else Guided(found.model, guidance, label=found.classes)
    return Problem(name, net, found.prediction, found.shape, found.classes, per_second)


def latent(name: str) -> Problem:
    """The network of the shipped latent pipeline, shown one prompt."""
    from paradigms.models import latent as pipelines

    pipe = pipelines.load()
    shown, net = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0], pipe.unet

    def model(x: Tensor, t: Tensor) -> Tensor:
        return net(x, t, encoder_hidden_states=shown.expand(len(x), -1, -1)).sample  # type: ignore[no-any-return]

    side = net.config.sample_size
    return Problem(name, model, "epsilon", (net.config.in_channels, side, side), 0, 390, scaled_linear)


MAKE: dict[str, Callable[[str], Problem]] = {
    "mixture-64": lambda name: mixture(name, (1, 8, 8), 1e5),
    "mixture-1024": lambda name: mixture(name, (1, 32, 32), 2e4),
    "mixture-8192": lambda name: mixture(name, (2, 64, 64), 2500),
    "digits": lambda name: learned(name, "digits", 2400),
    "digits-guided": lambda name: learned(name, "digits", 1200, GUIDANCE),
    "scenes": lambda name: learned(name, "scenes", 400),
    "latent": latent,
}
PLAN: tuple[tuple[str, tuple[str, ...], tuple[int, ...], int], ...] = (  # problem, rules, windows, samples
    ("mixture-64", SHORT, ALL, 8),
    ("mixture-64", ("DDPM-1000",), LONG, 8),
    ("mixture-1024", SHORT, ALL, 8),
    ("mixture-8192", SHORT, ONE, 4),
    ("digits", SHORT, ALL, 8),
    ("digits", ("DDPM-1000",), (80,), 8),
    ("digits-guided", SHORT, ONE, 8),
    ("scenes", SHORT, ONE, 4),
    ("scenes", ("DDPM-1000",), (80,), 2),
)
FURTHER: tuple[tuple[str, tuple[str, ...], tuple[int, ...], int], ...] = (  # of the frontier alone
    ("mixture-64", MIDDLE, WIDTHS, 8),
    ("mixture-64", ("DDPM-100", "DDIM-200", "DDIM-50"), (4,), 8),
    ("mixture-64", ("DDPM-1000",), (4, 8, 16), 8),
    ("digits", MIDDLE, WIDTHS, 8),
    ("digits", ("DDPM-100", "DDIM-200", "DDIM-50"), (4,), 8),
    ("digits", ("DDPM-1000",), (32,), 4),
    ("scenes", ("DDIM-75", "flow-40"), WIDTHS, 2),
    ("scenes", ("DDPM-100", "DDIM-50"), (4, 8, 16), 2),
    ("scenes", ("DDIM-200",), (8, 16), 2),
    ("scenes", ("DDPM-250",), (16, 32), 2),
    ("latent", ("DDIM-50", "DDIM-75", "DDPM-100", "flow-40"), (8, 32), 2),
    ("latent", ("DDIM-200", "DDPM-250"), (32,), 2),
)
MODES: tuple[tuple[str, tuple[str, ...], tuple[int, ...], int], ...] = tuple(  # as PLAN; a model a seed
    (f"two-{d}", SHORT, ALL[:-1], 8) for d in (2, 16, 64, 256)
)
QUICK = (Cell("mixture-64", "DDPM-100", 32, 2), Cell("mixture-64", "DDIM-50", 50, 2))


def cells(quick: bool = False, only: str = "") -> list[Cell]:
    """The cells of the plan whose name holds `only`; raises ValueError where none does."""
    return chosen(list(QUICK) if quick else planned((*PLAN, *FURTHER)), only)


def planned(plan: Iterable[tuple[str, tuple[str, ...], tuple[int, ...], int]]) -> list[Cell]:
    """All cells of a plan."""
    found: list[Cell] = []
    for name, some, windows, batch in plan:
        for rule in some:
            wide = {min(w or RULES[rule][1], RULES[rule][1]): None for w in windows}  # short chains repeat N
            found += [Cell(name, rule, w, batch) for w in wide]
    return found


def chosen(found: list[Cell], only: str) -> list[Cell]:
    """Those whose name holds `only`; raises ValueError where none does."""
    kept = [c for c in found if only in c.name]
    if not kept:
        raise ValueError(f"--only is {only!r}; type a part of a name such as {found[0].name}")
    return kept


def draw(problem: Problem, system: System, batch: int) -> tuple[Tensor, Tensor | None]:
    """Starting noise (B, ...) and, for a rule with noise, that of every row (N, B, ...): the same for all methods."""
    generator = torch.Generator().manual_seed(0)
    x = system.noise((batch, *problem.shape), generator)
    noisy = bool((system.c != 0).any())
    return x, torch.randn((len(system), *x.shape), generator=generator) if noisy else None


def coupled(fine: System, coarse: System, x: Tensor, noise: Tensor | None) -> dict[str, Any]:
    """The noise of a long chain as a short one of the same rule would have met it: its start, and a row's each.

    With D held fixed the noise of a long chain's rows adds up to sum c[n] prod_(m>n) a[m] z[n], which is what one long
    step adds; rows above the short chain's first timestep go into its start. Each sum is scaled to a variance of 1. So
    the few-step sampler is compared on the same noise, too; without this its error in DDPM would be that of chance.
    """
    if noise is None:
        return {"x": x}
    into = (coarse.t[None] >= fine.t[:, None]).sum(1) - 1  # (N,), the short row a long one falls in; -1: the start
    total, weight = torch.zeros(len(coarse) + 1, *x.shape), torch.zeros(len(coarse) + 1, dtype=torch.float64)
    total[0], weight[0] = x / (fine.start or 1.0), 1.0
    for n, k in enumerate((into + 1).tolist()):
        a, c = float(fine.a[n]), float(fine.c[n])
        total[k] = a * total[k] + c * noise[n]
        weight[k] = a * a * weight[k] + c * c
    scaled = total / weight.sqrt().clamp(min=1e-12).to(x).view(-1, *(1,) * x.ndim)
    empty = weight == 0
    if bool(empty.any()):  # more steps than the long chain has timesteps to tell apart
        scaled[empty] = torch.randn(scaled[empty].shape, generator=torch.Generator().manual_seed(1))
    return {"x": scaled[0] * (coarse.start or 1.0), "noise": scaled[1:]}
