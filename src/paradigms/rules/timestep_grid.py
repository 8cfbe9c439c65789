"""The parts that rules are made of: the grid of noise levels of a chain, and the rows of a table on it.

| space      | sum that is 1         | a flow's state of noise s times this is of its scale |
| preserving | alpha^2 + sigma^2     | ((1 - s)^2 + s^2)^-1/2                               |
| exploding  | alpha                 | 1 / (1 - s)                                          |
| flow       | alpha + sigma         | 1                                                    |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..denoiser import make_denoiser
from ..schedule import (
    SPACINGS,
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
from ..system import System
from ..validate import check_choice, check_flag, check_whole, refusal


@dataclass(frozen=True)
class OutputReading:
    """How a model's output is read: the arguments of `make_denoiser` that a rule knows."""

    prediction: str
    clip: float | None
    threshold: tuple[float, float] | None
    clip_gain: Tensor | None = None


def check_preserving(rule: str, schedule: Schedule, steps: int) -> int:
    """T of a variance preserving schedule that has so many steps; refuses any other, and names what takes it."""
    check_schedule(schedule)
    check_steps(steps, T := len(schedule.t))
    space = space_scale(schedule)
    if space == "preserving":
        return T
    if space == "exploding":
        raise refusal(
            "schedule",
            f"variance exploding levels, alpha 1 and sigma up to {float(schedule.sigma[-1]):.3g}",
            f"alpha^2 + sigma^2 = 1 for {rule}()",
            "from_levels(t, 1.0, sigma, 'ddim', ...), with the levels of the chain from noise to data, or "
            'flow(steps, schedule=schedule, prediction="x0"), which takes any levels',
        )
    needed = f"one where it is for {rule}(); for a flow-matching model use flow()"
    raise refusal("schedule", "one whose alpha^2 + sigma^2 is not 1", needed)


def space_scale(schedule: Schedule) -> str:
    """The space of a schedule: preserving, exploding (alpha = 1), flow (alpha + sigma = 1) or other."""
    alpha, sigma, one = schedule.alpha, schedule.sigma, torch.ones_like(schedule.alpha)
    for space, sum_of in (("preserving", alpha**2 + sigma**2), ("exploding", alpha), ("flow", alpha + sigma)):
        if torch.allclose(sum_of, one, atol=1e-6):
            return space
    return "other"


def euler_rows(g: Grid) -> tuple[Tensor, Tensor]:
    """a, b (N,) of the rows that hold D fixed."""
    a = g.sigma_next / g.sigma
    return a, g.alpha_next - g.alpha * a


def posterior_std(g: Grid) -> Tensor:
    """The noise a DDPM step adds at each row (N,); 0 where a row ends without noise. Source: Ho et al. 2020, eq. 7."""
    return g.sigma_next * (1 - (g.alpha * g.sigma_next / (g.alpha_next * g.sigma)) ** 2).clamp(min=0).sqrt()


def clip_of_data(clip: float | str | None, b: Tensor, alpha_next: Tensor) -> tuple[float | None, Tensor | None]:
    """The limit of a DDIM's clip, and its gain (N,), for rows of weight b (N,) that end at signal alpha_next (N,).

    A number clips the data and leaves the noise direction (diffusers); "rederive" clips the data to 1 and derives the
    noise from what is left (denoising-diffusion-pytorch), which is what a gain of 1 says. Raises ValueError.
    """
    if isinstance(clip, str):
        if clip != "rederive":
            raise refusal("clip", repr(clip), 'a positive number such as 1.0, "rederive", or None')
        return 1.0, None
    return clip, torch.where(b == 0, 1.0, alpha_next / b)


def tolerance_unit(g: Grid) -> Tensor:
    """The unit of the tolerance (N,): the posterior noise, floored where the chain ends and it would be 0."""
    std = posterior_std(g)
    positive = std[std > 1e-8]  # rounding leaves 1e-9 where the chain ends
    return std.clamp(min=float(positive.min()) if len(positive) else 1.0)


def table_of_grid(
    g: Grid,
    a: Tensor,
    taps: list[Tensor],
    output: OutputReading,
    *,
    c: Tensor | None = None,
    start: float = 1.0,
) -> System:
    """The system of a grid: its coefficients, the unit of its tolerance, the reader of its model."""
    how: dict[str, Any] = {f.name: getattr(output, f.name) for f in fields(output)}
    reader = make_denoiser(g.alpha, g.sigma, g.into, **how)
    c = torch.zeros_like(a) if c is None else c
    return System(g.t, a, torch.stack(taps, 1), c, tolerance_unit(g), g.alpha, g.sigma, reader, start)


def trapezoid_rows(g: Grid, start: float, output: OutputReading, weight: Tensor | None = None) -> System:
    """Heun's rows: a predictor to sigma', and there x' = x + (sigma - sigma') / (2 sigma') (D[n] - D[n-1]).

    weight (N - 1,): in place of (sigma - sigma') / (2 sigma'), for levels where the rule holds in another scale.
    """
    N = len(g.t)
    level = (torch.arange(2 * N - 1) + 1) // 2  # the grid row whose level D is read at: 0, 1, 1, 2, 2, ...
    correct = torch.arange(1, 2 * N - 1, 2)
    a, b = (v[level] for v in euler_rows(g))
    back = torch.zeros_like(b)
    a[correct] = 1.0
    b[correct] = (g.sigma[:-1] - g.sigma[1:]) / (2 * g.sigma[1:]) if weight is None else weight
    back[correct] = -b[correct]
    wide = Grid(*(getattr(g, f.name)[level] for f in fields(g)))
    span = torch.arange(2 * N - 1) // 2  # a corrector ends where its predictor did, and has its noise
    return replace(table_of_grid(wide, a, [b, back], output, start=start), std=tolerance_unit(g)[span])


def dpm_grid(rule: str, schedule: Schedule, steps: int, spacing: str, karras: bool, final_zero: bool) -> Grid:
    """The chain of the DPM-Solvers; one more point than steps where not trailing."""
    check_flag("karras", karras)
    check_flag("final_zero", final_zero)
    check_choice("spacing", spacing, SPACINGS)  # with karras too, where it changes nothing
    T = check_preserving(rule, schedule, steps)
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
    check_whole("T", T, "a whole number, the timestep of pure noise; 1000 is usual", 1)
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
    if (space := space_scale(schedule)) not in scales:
        needed = "one where alpha^2 + sigma^2, alpha or alpha + sigma is 1 at every level"
        raise refusal("schedule", "levels of another scale", needed)
    return scales[space]


def interpolate_linearly(values: Tensor, t: Tensor) -> Tensor:
    """`values` (T,) at fractional places t (N,), linearly."""
    low = t.floor().long().clamp(max=len(values) - 2)
    return torch.lerp(values[low].double(), values[low + 1].double(), t - low)
