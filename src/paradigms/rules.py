"""The rules: each fills the table of equation (1) for a chain of (alpha, sigma), and that is all it does.

Holding the denoised estimate D fixed over a row that goes from (alpha, sigma) to (alpha', sigma') gives

    a = sigma' / sigma,   b = alpha' - alpha a            DDIM, DPM-Solver++(1), Euler on Karras and flow grids

the same in every space. The other rules add what noise or second order asks for. All coefficients are float64.

Of every rule: `prediction` is what the model says (epsilon, v, flow or x0), `clip` and `threshold` limit its estimate
of the data, one of both at most, see `denoiser.py`. Arguments that cannot be used raise ValueError, names that nobody
has TypeError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .denoiser import denoiser
from .given import choice, flag, named, number, refusal, whole
from .schedule import (
    Grid,
    Schedule,
    chain,
    check_schedule,
    check_shift,
    check_steps,
    karras_ratios,
    rectified_flow,
    shift_noise,
    timesteps,
)
from .system import System


@named
def ddpm(
    schedule: Schedule,
    steps: int,
    *,
    spacing: str = "leading",
    offset: int = 0,
    variance: str = "small",
    prediction: str = "epsilon",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """Ancestral sampling; `variance` small (posterior) or large (beta). Source: Ho et al. 2020, eqs. 6, 7.

    Equals diffusers' DDPMScheduler. Raises ValueError.
    """
    choice("variance", variance, ("small", "large"))
    T = preserving("ddpm", schedule, steps)
    t = timesteps(T, steps, spacing, offset)
    end = torch.ones(1).double()
    g = chain(schedule.t[t], torch.cat([schedule.alpha[t], end]), torch.cat([schedule.sigma[t], 0 * end]))
    posterior, beta = posterior_std(g), 1 - (g.alpha / g.alpha_next) ** 2
    c = posterior if variance == "small" else beta.sqrt() * (t > 0)
    a = (g.alpha / g.alpha_next) * (g.sigma_next / g.sigma) ** 2
    return table(g, a, [g.alpha_next * beta / g.sigma**2], Output(prediction, clip, threshold), c=c)


@named
def ddim(
    schedule: Schedule,
    steps: int,
    *,
    eta: float = 0.0,
    spacing: str = "leading",
    offset: int = 0,
    final_alpha_one: bool = True,
    prediction: str = "epsilon",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """DDIM, from the ODE (eta 0) to the SDE (eta 1). Source: Song et al. 2021, eqs. 12, 16.

    A row goes T // steps timesteps down whatever the spacing, and the last to alpha = 1 or, with
    `final_alpha_one=False`, to the schedule's first, as in diffusers' DDIMScheduler. A clip acts on the data
    estimate but not on the noise direction, there as here. Raises ValueError.
    """
    number("eta", eta, "a number from 0 (deterministic) to 1", lambda v: 0 <= v <= 1)
    flag("final_alpha_one", final_alpha_one)
    T = preserving("ddim", schedule, steps)
    t = timesteps(T, steps, spacing, offset)
    down = t - T // steps
    last = 1.0 if final_alpha_one else float(schedule.alpha[0])
    alpha_next = torch.where(down >= 0, schedule.alpha[down.clamp(min=0)], last)
    alpha, sigma = schedule.alpha[t], schedule.sigma[t]
    g = Grid(schedule.t[t], alpha, sigma, alpha_next, (1 - alpha_next**2).clamp(min=0).sqrt(), torch.ones_like(alpha))
    c = eta * posterior_std(g)
    a = (g.sigma_next**2 - c**2).clamp(min=0).sqrt() / g.sigma
    b = g.alpha_next - g.alpha * a
    gain = torch.where(b == 0, 1.0, g.alpha_next / b)
    return table(g, a, [b], Output(prediction, clip, threshold), c=c, clip_gain=gain)


@named
def dpmsolver(
    schedule: Schedule,
    steps: int,
    *,
    spacing: str = "linspace",
    karras: bool = False,
    final_zero: bool = True,
    prediction: str = "epsilon",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """DPM-Solver++(2M), the multistep rule of ParaDPMSolver. Source: Lu et al. 2022b, algorithm 2.

    The first row and, where it ends at zero noise or in fewer than 15 steps, the last are of first order, as in
    diffusers' DPMSolverMultistepScheduler. Raises ValueError.
    """
    g = dpm_grid("dpmsolver", schedule, steps, spacing, karras, final_zero)
    a, b = euler(g)
    lam, lam_next = (g.alpha / g.sigma).log(), (g.alpha_next / g.sigma_next).log()
    before = lam - lam.roll(1)
    half = b / 2 * (lam_next - lam) / before  # b / (2 r0), r0 = the last row's step in lambda over this one's
    half[0] = 0
    half[before == 0] = 0  # a repeated timestep has nothing to extrapolate from
    if steps < 15 or g.sigma_next[-1] == 0:
        half[-1] = 0
    return table(g, a, [b + half, -half], Output(prediction, clip, threshold))


@named
def dpmsolver_single(
    schedule: Schedule,
    steps: int,
    *,
    spacing: str = "linspace",
    karras: bool = False,
    final_zero: bool = True,
    prediction: str = "epsilon",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """DPM-Solver++(2S) by single steps: an Euler row, then a midpoint row from the same start. Source: ibid., (2S).

    Equals diffusers' DPMSolverSinglestepScheduler of order 2. Raises ValueError.
    """
    g = dpm_grid("dpmsolver_single", schedule, steps, spacing, karras, final_zero)
    a, b = euler(g)
    lam, lam_next = (g.alpha / g.sigma).log(), (g.alpha_next / g.sigma_next).log()
    n = torch.arange(1, steps - 1 + steps % 2, 2)
    n = n[(g.sigma_next[n] > 0) & (lam[n] > lam[n - 1])]
    # row n spans n-1 -> n+1, and starts from x[n-1] = (x[n] - b[n-1] D[n-1]) / a[n-1]
    whole = g.alpha_next[n] - g.alpha[n - 1] * g.sigma_next[n] / g.sigma[n - 1]
    back, b_new = torch.zeros_like(b), b.clone()
    b_new[n] = whole * (lam_next[n] - lam[n - 1]) / (lam[n] - lam[n - 1]) / 2
    back[n] = whole - b_new[n] - a[n] * b[n - 1]
    return table(g, a, [b_new, back], Output(prediction, clip, threshold))


@named
def heun(
    schedule: Schedule,
    steps: int,
    *,
    karras: bool = True,
    spacing: str = "linspace",
    prediction: str = "epsilon",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """Heun's trapezoidal rule in Karras space: 2 steps - 1 rows. Source: Karras et al. 2022, algorithm 1.

    Equals diffusers' HeunDiscreteScheduler. The model is one of a variance preserving `schedule`, and is shown
    states of that scale. Raises ValueError.
    """
    flag("karras", karras)
    T = preserving("heun", schedule, steps)
    t = timesteps(T, steps, spacing).double()
    if spacing == "linspace":
        t = torch.linspace(T - 1, 0, steps, dtype=torch.float64)
    ratio, t = interpolate(schedule.ratio, t), interpolate(schedule.t, t)
    if karras:
        ratio = karras_ratios(float(ratio[-1]), float(ratio[0]), steps)
        t = schedule.time_at(ratio)
    sigma = torch.cat([ratio, ratio.new_zeros(1)])
    g = chain(t, torch.ones_like(sigma), sigma, into=(1 + ratio**2).rsqrt())
    start = ratio[0] if spacing != "leading" else (ratio[0] ** 2 + 1).sqrt()
    return trapezoid(g, float(start), Output(prediction, clip, threshold))


@named
def flow(
    steps: int,
    *,
    shift: float = 1.0,
    schedule: Schedule | None = None,
    T: int = 1000,
    prediction: str = "flow",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """Flow matching by Euler steps. Source: Lipman et al. 2023; Esser et al. 2024, eq. 23 for `shift`.

    Row n goes from noise s[n] to s[n+1], with data 1 - s: s[0..N-1] are evenly spaced from 1 to 1/T, s[N] = 0, and the
    model is told T s, as in diffusers' FlowMatchEulerDiscreteScheduler. That is not the grid 1 - n/N: for 1/N as the
    last s take T = N. A model that is told t in [0, 1] is `lambda x, t: net(x, t / T)`; one whose data are at t = 1,
    and which says data - noise, `lambda x, t: -net(x, 1 - t / T)`. `schedule` is the one the model was trained on where
    that is not the flow itself, of any noise levels: states are rescaled into it and its timesteps looked up, so any
    model can be sampled so. Raises ValueError.
    """
    g = flow_grid(steps, shift, schedule, T)
    a, b = euler(g)
    return table(g, a, [b], Output(prediction, clip, threshold), start=float(g.sigma[0]))


@named
def flow_heun(
    steps: int,
    *,
    shift: float = 1.0,
    schedule: Schedule | None = None,
    T: int = 1000,
    prediction: str = "flow",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """Flow matching by Heun's rule, 2 steps - 1 rows on `flow`'s grid: diffusers' FlowMatchHeunDiscreteScheduler."""
    g = flow_grid(steps, shift, schedule, T)
    return trapezoid(g, float(g.sigma[0]), Output(prediction, clip, threshold))


# ------------------------------------------------------------------------------------------------ what they share


@dataclass(frozen=True)
class Output:
    """How a model's answer is read: the arguments of `denoiser` that every rule has."""

    prediction: str
    clip: float | None
    threshold: tuple[float, float] | None


def preserving(rule: str, schedule: Schedule, steps: int) -> int:
    """T of a variance preserving schedule that has so many steps; refuses any other, and names what takes it."""
    check_schedule(schedule)
    check_steps(steps, T := len(schedule.t))
    space = scaled(schedule)
    if space == "preserving":
        return T
    if space == "exploding":
        raise refusal(
            "schedule",
            f"variance exploding levels, alpha 1 and sigma up to {float(schedule.sigma[-1]):.3g}",
            f"alpha^2 + sigma^2 = 1 for {rule}()",
            'flow(steps, schedule=schedule, prediction="x0"), which takes any levels, or '
            "from_scheduler(diffusers.EDMEulerScheduler(), steps)",
        )
    needed = f"one where it is for {rule}(); for a flow-matching model use flow()"
    raise refusal("schedule", "one whose alpha^2 + sigma^2 is not 1", needed)


def scaled(schedule: Schedule) -> str:
    """The space of a schedule: preserving, exploding (alpha = 1), flow (alpha + sigma = 1) or other."""
    alpha, sigma, one = schedule.alpha, schedule.sigma, torch.ones_like(schedule.alpha)
    for space, sum_of in (("preserving", alpha**2 + sigma**2), ("exploding", alpha), ("flow", alpha + sigma)):
        if torch.allclose(sum_of, one, atol=1e-6):
            return space
    return "other"


def euler(g: Grid) -> tuple[Tensor, Tensor]:
    """a, b (N,) of the rows that hold D fixed."""
    a = g.sigma_next / g.sigma
    return a, g.alpha_next - g.alpha * a


def posterior_std(g: Grid) -> Tensor:
    """The noise a DDPM step adds at each row (N,); 0 where a row ends without noise. Source: Ho et al. 2020, eq. 7."""
    return g.sigma_next * (1 - (g.alpha * g.sigma_next / (g.alpha_next * g.sigma)) ** 2).clamp(min=0).sqrt()


def unit(g: Grid) -> Tensor:
    """The unit of the tolerance (N,): the posterior noise, floored where the chain ends and it would be 0."""
    std = posterior_std(g)
    positive = std[std > 1e-8]  # rounding leaves 1e-9 where the chain ends
    return std.clamp(min=float(positive.min()) if len(positive) else 1.0)


def table(
    g: Grid,
    a: Tensor,
    taps: list[Tensor],
    output: Output,
    *,
    c: Tensor | None = None,
    start: float = 1.0,
    clip_gain: Tensor | None = None,
) -> System:
    """The system of a grid: its coefficients, the unit of its tolerance, the reader of its model."""
    how: dict[str, Any] = {f.name: getattr(output, f.name) for f in fields(output)}
    reader = denoiser(g.alpha, g.sigma, g.into, clip_gain=clip_gain, **how)
    c = torch.zeros_like(a) if c is None else c
    return System(g.t, a, torch.stack(taps, 1), c, unit(g), g.alpha, g.sigma, reader, start)


def trapezoid(g: Grid, start: float, output: Output) -> System:
    """Heun's rows: a predictor to sigma', and there x' = x + (sigma - sigma') / (2 sigma') (D[n] - D[n-1])."""
    N = len(g.t)
    level = (torch.arange(2 * N - 1) + 1) // 2  # the grid row whose level D is read at: 0, 1, 1, 2, 2, ...
    correct = torch.arange(1, 2 * N - 1, 2)
    a, b = (v[level] for v in euler(g))
    back = torch.zeros_like(b)
    a[correct], b[correct] = 1.0, (g.sigma[:-1] - g.sigma[1:]) / (2 * g.sigma[1:])
    back[correct] = -b[correct]
    wide = Grid(*(getattr(g, f.name)[level] for f in fields(g)))
    span = torch.arange(2 * N - 1) // 2  # a corrector ends where its predictor did, and has its noise
    return replace(table(wide, a, [b, back], output, start=start), std=unit(g)[span])


def dpm_grid(rule: str, schedule: Schedule, steps: int, spacing: str, karras: bool, final_zero: bool) -> Grid:
    """The chain of the DPM-Solvers; one more point than steps where not trailing."""
    flag("karras", karras)
    flag("final_zero", final_zero)
    T = preserving(rule, schedule, steps)
    alpha = schedule.alpha.clamp(min=2.0**-12)  # log SNR must stay finite at zero terminal SNR, as in diffusers
    ratio_of = (1 - alpha**2).sqrt() / alpha
    if karras:
        ratio = karras_ratios(float(ratio_of[0]), float(ratio_of[-1]), steps)
        told = schedule.time_at(ratio)
        told = told.round().long() if not schedule.t.is_floating_point() else told
    else:
        if spacing == "leading" and steps == T:
            raise ValueError(f"steps: given {steps}; needed: fewer than {T} with leading spacing, or 'trailing'")
        t = timesteps(T, steps, spacing) if spacing == "trailing" else timesteps(T, steps + 1, spacing)[:-1]
        ratio, told = ratio_of[t], schedule.t[t]
    ratio = torch.cat([ratio, torch.zeros(1).double() if final_zero else ratio_of[:1]])
    level = (1 + ratio**2).rsqrt()
    return chain(told, level, ratio * level)


def flow_grid(steps: int, shift: float, schedule: Schedule | None, T: int) -> Grid:
    """The flow's chain; the end points are shifted once by the schedule and once by the chain, as in diffusers."""
    whole("T", T, "a whole number, the timestep of pure noise; 1000 is usual", 1)
    check_steps(steps, T)
    check_shift(shift)
    if schedule is None:
        known, model_alpha = rectified_flow(max(T, 2), shift), None
    else:
        check_schedule(schedule)
        known, model_alpha = schedule, into_space(schedule)
    ends = known.ratio[[-1, 0]]
    high, low = torch.where(ends.isinf(), 1.0, ends / (1 + ends)).tolist()
    s = shift_noise(torch.linspace(high, low, steps, dtype=torch.float64), shift)
    s_end = torch.cat([s, s.new_zeros(1)])
    if model_alpha is None:
        return chain(s * T, 1 - s_end, s_end)
    return chain(known.time_at(s / (1 - s)), 1 - s_end, s_end, into=model_alpha(s))


def into_space(schedule: Schedule) -> Callable[[Tensor], Tensor]:
    """What a flow's state of noise s (N,) is multiplied by to be of the schedule's scale, in the schedule's space."""
    scales: dict[str, Callable[[Tensor], Tensor]] = {
        "preserving": lambda s: ((1 - s) ** 2 + s**2).rsqrt(),
        "exploding": lambda s: 1 / (1 - s),
        "flow": torch.ones_like,
    }
    if (space := scaled(schedule)) not in scales:
        needed = "one where alpha^2 + sigma^2, alpha or alpha + sigma is 1 at every level"
        raise refusal("schedule", "levels of another scale", needed)
    return scales[space]


def interpolate(values: Tensor, t: Tensor) -> Tensor:
    """`values` (T,) at fractional places t (N,), linearly."""
    low = t.floor().long().clamp(max=len(values) - 2)
    return torch.lerp(values[low].double(), values[low + 1].double(), t - low)
