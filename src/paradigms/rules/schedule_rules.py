"""The rules on a training schedule: each fills the table of equation (1) for a chain of (alpha, sigma).

Holding the denoised estimate D fixed over a row that goes from (alpha, sigma) to (alpha', sigma') gives

    a = sigma' / sigma,   b = alpha' - alpha a            DDIM, DPM-Solver++(1), Euler on Karras and flow grids

which is the same in every space. The other rules add terms for noise or for second order. All coefficients are float64.

In every rule `prediction` is what the model predicts (epsilon, v, flow or x0). `clip` or `threshold`, at most one of
them, limits its estimate of the data, see `denoiser.py`. Arguments that cannot be used raise ValueError, unknown names
TypeError.
"""

from __future__ import annotations

import torch

from ..schedule import Grid, Schedule, chain, karras_ratios, timesteps
from ..system import System
from ..validate import check_choice, check_flag, check_number, named_arguments
from .timestep_grid import (
    OutputReading,
    check_preserving,
    clip_of_data,
    dpm_grid,
    euler_rows,
    flow_grid,
    interpolate_linearly,
    posterior_std,
    table_of_grid,
    trapezoid_rows,
)


@named_arguments
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
    """Ancestral sampling (DDPM): the sampler of the paper's main result. Equals diffusers' DDPMScheduler.

    Args:
        schedule: Noise levels, variance preserving, T of them.
        steps: N, at most T.
        spacing: Which timesteps: "leading", "trailing" or "linspace", as in diffusers.
        offset: Added to the timesteps of "leading" spacing.
        variance: "small" (posterior) or "large" (beta).
        prediction: What the model predicts: "epsilon", "v", "x0" or "flow".
        clip: Limit of the denoised estimate's absolute value, or None.
        threshold: Dynamic thresholding, (quantile, maximum), or None.

    Returns:
        A `System` of N steps.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Ho et al. 2020, equations 6 and 7.

    Example:
        >>> import paradigms as pd
        >>> len(pd.ddpm(pd.linear(), steps=100))
        100
    """
    check_choice("variance", variance, ("small", "large"))
    T = check_preserving("ddpm", schedule, steps)
    t = timesteps(T, steps, spacing, offset)
    end = torch.ones(1).double()
    g = chain(schedule.t[t], torch.cat([schedule.alpha[t], end]), torch.cat([schedule.sigma[t], 0 * end]))
    posterior, beta = posterior_std(g), 1 - (g.alpha / g.alpha_next) ** 2
    c = posterior if variance == "small" else beta.sqrt() * (t > 0)
    a = (g.alpha / g.alpha_next) * (g.sigma_next / g.sigma) ** 2
    return table_of_grid(g, a, [g.alpha_next * beta / g.sigma**2], OutputReading(prediction, clip, threshold), c=c)


@named_arguments
def ddim(
    schedule: Schedule,
    steps: int,
    *,
    eta: float = 0.0,
    spacing: str = "leading",
    offset: int = 0,
    final_alpha_one: bool = True,
    prediction: str = "epsilon",
    clip: float | str | None = None,
    threshold: tuple[float, float] | None = None,
) -> System:
    """DDIM, from deterministic (eta 0) to as random as DDPM (eta 1). Equals diffusers' DDIMScheduler.

    Args:
        schedule: Noise levels, variance preserving, T of them.
        steps: N, at most T.
        eta: Share of the noise, 0 to 1.
        spacing: Which timesteps: "leading", "trailing" or "linspace", as in diffusers.
        offset: Added to the timesteps of "leading" spacing.
        final_alpha_one: Whether the last step ends without noise, or at the schedule's first level.
        prediction: What the model predicts: "epsilon", "v", "x0" or "flow".
        clip: Limit of the denoised estimate's absolute value, or None. It does not act on the noise direction, as in
            diffusers; "rederive" clips to 1 and derives the noise again, as in denoising-diffusion-pytorch.
        threshold: Dynamic thresholding, (quantile, maximum), or None.

    Returns:
        A `System` of N steps.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Song et al. 2021, equations 12 and 16.

    Example:
        >>> import paradigms as pd
        >>> bool((pd.ddim(pd.linear(), steps=50).c == 0).all())  # no noise
        True
    """
    check_number("eta", eta, "a number from 0 (deterministic) to 1", lambda v: 0 <= v <= 1)
    check_flag("final_alpha_one", final_alpha_one)
    T = check_preserving("ddim", schedule, steps)
    t = timesteps(T, steps, spacing, offset)
    down = t - T // steps
    last = 1.0 if final_alpha_one else float(schedule.alpha[0])
    alpha_next = torch.where(down >= 0, schedule.alpha[down.clamp(min=0)], last)
    alpha, sigma = schedule.alpha[t], schedule.sigma[t]
    g = Grid(schedule.t[t], alpha, sigma, alpha_next, (1 - alpha_next**2).clamp(min=0).sqrt(), torch.ones_like(alpha))
    c = eta * posterior_std(g)
    a = (g.sigma_next**2 - c**2).clamp(min=0).sqrt() / g.sigma
    b = g.alpha_next - g.alpha * a
    limit, gain = clip_of_data(clip, b, g.alpha_next)
    return table_of_grid(g, a, [b], OutputReading(prediction, limit, threshold, gain), c=c)


@named_arguments
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
    """DPM-Solver++(2M), a multistep solver of second order. Equals diffusers' DPMSolverMultistepScheduler.

    The first step is of first order, and so is the last where it ends without noise or there are fewer than 15.

    Args:
        schedule: Noise levels, variance preserving, T of them.
        steps: N, at most T.
        spacing: Which timesteps: "leading", "trailing" or "linspace", as in diffusers.
        karras: Space the noise levels as Karras et al. 2022 do.
        final_zero: Whether the last step ends without noise.
        prediction: What the model predicts: "epsilon", "v", "x0" or "flow".
        clip: Limit of the denoised estimate's absolute value, or None.
        threshold: Dynamic thresholding, (quantile, maximum), or None.

    Returns:
        A `System` of N steps with 2 taps.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Lu et al. 2022b, algorithm 2.

    Example:
        >>> import paradigms as pd
        >>> pd.dpmsolver(pd.linear(), steps=20).taps
        2
    """
    g = dpm_grid("dpmsolver", schedule, steps, spacing, karras, final_zero)
    a, b = euler_rows(g)
    lam, lam_next = (g.alpha / g.sigma).log(), (g.alpha_next / g.sigma_next).log()
    before = lam - lam.roll(1)
    half = b / 2 * (lam_next - lam) / before  # b / (2 r0), r0 = the last row's step in lambda over this one's
    half[0] = 0
    half[before == 0] = 0  # a repeated timestep has nothing to extrapolate from
    if steps < 15 or g.sigma_next[-1] == 0:
        half[-1] = 0
    return table_of_grid(g, a, [b + half, -half], OutputReading(prediction, clip, threshold))


@named_arguments
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
    """DPM-Solver++(2S), the single-step solver of second order.

    Equals diffusers' DPMSolverSinglestepScheduler of order 2. A full step is two rows of the table: an
    Euler step, then a midpoint step from the same start.

    Args:
        schedule, steps, spacing, karras, final_zero, prediction, clip, threshold: As in `dpmsolver`.

    Returns:
        A `System` of N steps.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Lu et al. 2022b, (2S).
    """
    g = dpm_grid("dpmsolver_single", schedule, steps, spacing, karras, final_zero)
    a, b = euler_rows(g)
    lam, lam_next = (g.alpha / g.sigma).log(), (g.alpha_next / g.sigma_next).log()
    n = torch.arange(1, steps - 1 + steps % 2, 2)
    n = n[(g.sigma_next[n] > 0) & (lam[n] > lam[n - 1])]
    # row n spans n-1 -> n+1, and starts from x[n-1] = (x[n] - b[n-1] D[n-1]) / a[n-1]
    whole = g.alpha_next[n] - g.alpha[n - 1] * g.sigma_next[n] / g.sigma[n - 1]
    back, b_new = torch.zeros_like(b), b.clone()
    b_new[n] = whole * (lam_next[n] - lam[n - 1]) / (lam[n] - lam[n - 1]) / 2
    back[n] = whole - b_new[n] - a[n] * b[n - 1]
    return table_of_grid(g, a, [b_new, back], OutputReading(prediction, clip, threshold))


@named_arguments
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
    """Heun's second-order rule on Karras' noise levels. Equals diffusers' HeunDiscreteScheduler.

    Args:
        schedule: Noise levels the model was trained on, variance preserving. The model is shown states of that scale.
        steps: Steps of the rule; the table has N = 2 steps - 1 rows, one for each model call.
        karras: Space the noise levels as Karras et al. 2022 do.
        spacing: Which timesteps where `karras` is False.
        prediction: What the model predicts: "epsilon", "v", "x0" or "flow".
        clip: Limit of the denoised estimate's absolute value, or None.
        threshold: Dynamic thresholding, (quantile, maximum), or None.

    Returns:
        A `System` of 2 steps - 1 rows.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Karras et al. 2022, algorithm 1.
    """
    check_flag("karras", karras)
    T = check_preserving("heun", schedule, steps)
    t = timesteps(T, steps, spacing).double()
    if spacing == "linspace":
        t = torch.linspace(T - 1, 0, steps, dtype=torch.float64)
    ratio, t = interpolate_linearly(schedule.ratio, t), interpolate_linearly(schedule.t, t)
    if karras:
        ratio = karras_ratios(float(ratio[-1]), float(ratio[0]), steps)
        t = schedule.time_at(ratio)
    sigma = torch.cat([ratio, ratio.new_zeros(1)])
    g = chain(t, torch.ones_like(sigma), sigma, into=(1 + ratio**2).rsqrt())
    start = ratio[0] if spacing != "leading" else (ratio[0] ** 2 + 1).sqrt()
    return trapezoid_rows(g, float(start), OutputReading(prediction, clip, threshold))


@named_arguments
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
    """Flow matching by Euler steps. Equals diffusers' FlowMatchEulerDiscreteScheduler.

    Noise levels are evenly spaced from 1 to 1/T and end at 0; the model is given T times the level. For the grid
    ``1 - n/N``, for times in [0, 1], for data at t = 1 and any other grid type `euler(times)`.

    Args:
        steps: N.
        shift: Moves noise levels towards 1, as Stable Diffusion 3 does; 1 leaves them.
        schedule: The schedule that the model was trained on, of any noise levels, where it is not the flow itself.
        T: Scale of the times that the model is given.
        prediction: What the model predicts: "flow", "epsilon", "v" or "x0".
        clip: Limit of the denoised estimate's absolute value, or None.
        threshold: Dynamic thresholding, (quantile, maximum), or None.

    Returns:
        A `System` of N steps.

    Raises:
        ValueError: An argument cannot be used.

    Source:
        Lipman et al. 2023; Esser et al. 2024, equation 23, for `shift`.
    """
    g = flow_grid(steps, shift, schedule, T)
    a, b = euler_rows(g)
    return table_of_grid(g, a, [b], OutputReading(prediction, clip, threshold), start=float(g.sigma[0]))


@named_arguments
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
    """Flow matching by Heun's rule. Equals diffusers' FlowMatchHeunDiscreteScheduler.

    Args:
        steps, shift, schedule, T, prediction, clip, threshold: As in `flow`.

    Returns:
        A `System` of 2 steps - 1 rows on the grid of `flow`.

    Raises:
        ValueError: An argument cannot be used.
    """
    g = flow_grid(steps, shift, schedule, T)
    return trapezoid_rows(g, float(g.sigma[0]), OutputReading(prediction, clip, threshold))
