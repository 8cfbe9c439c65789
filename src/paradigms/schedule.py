"""Noise schedules: how much signal and noise a state holds, and where a chain of N steps stops on the way.

    x_t = alpha[t] x_data + sigma[t] noise

A `Schedule` lists the levels of training. A `Grid` is the N rows of a sampling chain on it: row n goes from
(alpha, sigma)[n] to (alpha_next, sigma_next)[n]. Three spaces are in use, and differ by a factor only:
variance preserving (alpha^2 + sigma^2 = 1), Karras/EDM (alpha = 1) and flow matching (alpha + sigma = 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .validate import (
    check_choice,
    check_dense,
    check_number,
    check_whole,
    in_numbers,
    in_words,
    named_arguments,
    refusal,
)

# How the timesteps of a chain are chosen from those of training, by the names that diffusers gives them.
SPACINGS = ("leading", "trailing", "linspace")
# The most noise levels of a schedule: the lists of more would fill the memory. Chosen by hand.
MOST_LEVELS = 10_000_000


@named_arguments
@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise levels that a model was trained on: a state is alpha times data plus sigma times noise.

    Attributes:
        t: What the model is given at each level (T,), int64 where it counts timesteps.
        alpha: Signal (T,), float64.
        sigma: Noise (T,), float64; sigma / alpha does not fall.

    Raises:
        ValueError: The tensors are no such levels.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    def __post_init__(self) -> None:
        for name in ("t", "alpha", "sigma"):
            v = getattr(self, name)
            if not isinstance(v, Tensor) or v.ndim != 1 or len(v) < 2 or v.is_complex() or v.dtype == torch.bool:
                raise refusal(name, in_words(v), "a tensor of one axis, a number for each of 2 or more noise levels")
            check_dense(name, v)
            if len(v) != len(self.t):
                raise refusal(name, f"{len(v)} levels", f"as many as t has, {len(self.t)}")
            v = v.detach().cpu() if name == "t" else v.detach().to("cpu", torch.float64)
            object.__setattr__(self, name, v)
            if not bool(torch.isfinite(v).all()) or (name != "t" and bool((v < 0).any())):
                raise refusal(name, "one that is negative or not finite", "finite levels, 0 or more")
        ratio = self.ratio
        if bool(ratio.isnan().any()) or not bool((ratio[1:] >= ratio[:-1]).all()):
            raise refusal(
                "schedule", "sigma / alpha that falls", "noise that grows from the first level to the last",
                "Schedule(t.flip(0), alpha.flip(0), sigma.flip(0))",
            )  # fmt: skip

    @property
    def ratio(self) -> Tensor:
        """Noise to signal, sigma / alpha (T,); infinite where the terminal SNR is zero."""
        return self.sigma / self.alpha

    def time_at(self, ratio: Tensor) -> Tensor:
        """The timestep at which the model saw a noise-to-signal ratio, log-linear between levels.

        Args:
            ratio: sigma / alpha (N,).

        Returns:
            Timesteps (N,), fractional.
        """
        if not isinstance(ratio, Tensor):
            raise refusal("ratio", in_words(ratio), "a tensor of noise-to-signal ratios", "torch.tensor([0.5])")
        known, wanted = self.ratio.clamp(1e-10, 1e10).log(), ratio.clamp(1e-10, 1e10).log()
        high = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
        weight = ((wanted - known[high - 1]) / (known[high] - known[high - 1])).clamp(0, 1)
        return torch.lerp(self.t[high - 1].double(), self.t[high].double(), weight)

    def retimed(self, model: Schedule) -> Schedule:
        """These noise levels for a model that was trained on another schedule.

        A model knows noise levels, not schedules: it is given its own timesteps for these.

        Args:
            model: The schedule that the model was trained on.

        Returns:
            A `Schedule` with these levels and the model's times.
        """
        check_schedule(model, "model")
        return Schedule(model.time_at(self.ratio), self.alpha, self.sigma)


@dataclass(frozen=True, eq=False)
class Grid:
    """The rows of a chain: `t` (N,) is what the model is given, the others (N,) the levels before and after a row."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    alpha_next: Tensor
    sigma_next: Tensor
    into: Tensor  # the state times this is what the model was trained to see


def check_schedule(schedule: object, name: str = "schedule") -> None:
    """Refuses what is no `Schedule`, and names what would make one of it."""
    if isinstance(schedule, Schedule):
        return
    if isinstance(schedule, Tensor):
        raise refusal(name, "a tensor", "a Schedule", "from_betas(betas)")
    if hasattr(schedule, "step"):
        name_of = schedule.__name__ if isinstance(schedule, type) else type(schedule).__name__
        raise refusal(name, name_of, "a Schedule, or the table of that scheduler", "from_scheduler(scheduler, steps)")
    typed = f"{schedule.__name__}()" if callable(schedule) and hasattr(schedule, "__name__") else "linear()"
    raise refusal(name, in_words(schedule), "a Schedule, such as linear(), scaled_linear() or cosine()", typed)


@named_arguments
def from_betas(betas: Tensor) -> Schedule:
    """The variance preserving schedule of given betas.

    Args:
        betas: (T,), each above 0 and at most 1.

    Returns:
        A `Schedule` of T levels.

    Raises:
        ValueError: They are no betas.

    Source:
        Ho et al. 2020, equation 4.

    Example:
        >>> import torch, paradigms as pd
        >>> len(pd.from_betas(torch.linspace(0.0001, 0.02, 1000)).alpha)
        1000
    """
    if not isinstance(betas, Tensor) or not betas.is_floating_point():
        raise refusal("betas", in_words(betas), "a floating-point tensor", "torch.tensor(betas, dtype=torch.float64)")
    check_dense("betas", betas)
    if betas.ndim != 1 or len(betas) < 2:
        raise refusal("betas", in_words(betas), "one axis of 2 or more values in (0, 1]")
    outside = betas[~((betas > 0) & (betas <= 1))]
    if len(outside):
        raise refusal("betas", in_numbers(outside), "values in (0, 1]")
    level = torch.cumprod(1 - betas.detach().cpu().double(), 0)
    return Schedule(torch.arange(len(betas)), level.sqrt(), (1 - level).sqrt())


@named_arguments
def linear(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
    """Betas that rise linearly, as in DDPM.

    Args:
        T: Noise levels.
        start, end: The first and the last beta.

    Returns:
        A `Schedule` of T levels.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Ho et al. 2020.
    """
    check_betas(T, start, end)
    return from_betas(torch.linspace(start, end, T, dtype=torch.float64))


@named_arguments
def scaled_linear(T: int = 1000, start: float = 0.00085, end: float = 0.012) -> Schedule:
    """Betas whose square roots rise linearly, as in Stable Diffusion.

    Args:
        T: Noise levels.
        start, end: The first and the last beta.

    Returns:
        A `Schedule` of T levels.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Rombach et al. 2022.
    """
    check_betas(T, start, end)
    return from_betas(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2)


@named_arguments
def cosine(T: int = 1000, max_beta: float = 0.999) -> Schedule:
    """The squared cosine schedule, as robot policies use it.

    Args:
        T: Noise levels.
        max_beta: Upper limit of the betas.

    Returns:
        A `Schedule` of T levels.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Nichol and Dhariwal 2021, equation 17.
    """
    check_length(T)
    check_number("max_beta", max_beta, "a number above 0 and at most 1", lambda v: 0 < v <= 1)
    level = torch.cos((torch.arange(T + 1).double() / T + 0.008) / 1.008 * math.pi / 2) ** 2
    return from_betas((1 - level[1:] / level[:-1]).clamp(max=max_beta))


@named_arguments
def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """A schedule shifted and scaled so that its last level is pure noise.

    Args:
        schedule: A variance preserving schedule.

    Returns:
        A `Schedule`; sample it with a model that predicts "v" or "x0".

    Raises:
        ValueError: It is no schedule.

    Source:
        Lin et al. 2023, algorithm 1.
    """
    check_schedule(schedule)
    alpha = schedule.alpha
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return Schedule(schedule.t, alpha, (1 - alpha**2).sqrt())


@named_arguments
def rectified_flow(T: int = 1000, shift: float = 1.0) -> Schedule:
    """The levels of flow matching: alpha = 1 - s, sigma = s, t = T s.

    Args:
        T: Noise levels.
        shift: Moves levels towards noise, as Stable Diffusion 3 does; 1 leaves them.

    Returns:
        A `Schedule` of T levels.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Esser et al. 2024.
    """
    check_length(T)
    check_shift(shift)
    s = shift_noise(torch.arange(1, T + 1).double() / T, shift)
    return Schedule(s * T, 1 - s, s)


def shift_noise(s: Tensor, shift: float) -> Tensor:
    """Flow noise `s` (N,) moved towards 1 by `shift` >= 1. Source: Esser et al. 2024, eq. 23."""
    return shift * s / (1 + (shift - 1) * s)


def timesteps(T: int, steps: int, spacing: str, offset: int = 0) -> Tensor:
    """`steps` of the T training timesteps, descending (N,) int64. Source: Lin et al. 2023, table 2."""
    check_choice("spacing", spacing, SPACINGS)
    check_whole("offset", offset, f"a whole number from 0 to {T - 1} of timesteps", 0, T - 1)
    if offset and spacing != "leading":
        raise refusal("offset", f"{offset} beside spacing {spacing!r}", "offset=0, or 'leading', which alone it moves")
    if spacing == "leading":
        t = torch.arange(steps).flip(0) * (T // steps) + offset
    elif spacing == "trailing":
        down = (T - T / steps) - T  # rounded as numpy.arange does, so that halves fall to the same side
        t = (T + torch.arange(steps).double() * down).round().long() - 1
    else:
        t = (torch.arange(steps).flip(0).double() * ((T - 1) / max(steps - 1, 1))).round().long()
    if t[0] >= T:
        raise ValueError(f"offset: given {offset}, so the first timestep is {int(t[0])}; the schedule ends at {T - 1}")
    return t


def check_steps(steps: int, T: int) -> None:
    """Refuse a number of steps that the schedule of T timesteps does not have."""
    check_whole("steps", steps, f"a whole number from 1 to {T}, the schedule's length", 1, T)


def check_length(T: int) -> None:
    """Refuse a number of noise levels that makes no schedule."""
    check_whole("T", T, f"a whole number of noise levels, 2 to {MOST_LEVELS}; 1000 is usual", 2, MOST_LEVELS)


def check_betas(T: int, start: float, end: float) -> None:
    """Refuse ends of a schedule's betas that are none."""
    check_length(T)
    for name, beta in (("start", start), ("end", end)):
        check_number(name, beta, "a number above 0 and at most 1", lambda v: 0 < v <= 1)


def check_shift(shift: float) -> None:
    """Refuse a shift of flow noise that is none."""
    check_number("shift", shift, "a positive number; 1 leaves the grid as it is", lambda v: 0 < v < math.inf)


def karras_ratios(low: float, high: float, steps: int, rho: float = 7.0) -> Tensor:
    """`steps` noise-to-signal ratios from high to low (N,). Source: Karras et al. 2022, eq. 5."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def chain(t: Tensor, alpha: Tensor, sigma: Tensor, into: Tensor | None = None) -> Grid:
    """The grid whose row n ends where row n + 1 begins: t (N,), alpha and sigma (N + 1,)."""
    return Grid(t, alpha[:-1], sigma[:-1], alpha[1:], sigma[1:], torch.ones_like(alpha[:-1]) if into is None else into)
