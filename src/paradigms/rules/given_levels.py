"""Samplers on noise levels of your own: k-diffusion's sigmas, EDM, and flows in either direction of time.

    x[n] = alpha[n] data + sigma[n] noise,    n = 0..N, from noise to data

| rule      | what it is                                                                     | model calls |
| ddim      | DDIM, and Euler's rule in any scale of the states; eta adds noise              | N           |
| ddpm      | the same with eta = 1: Ho et al.'s posterior, k-diffusion's ancestral Euler    | N           |
| dpmsolver | DPM-Solver++(2M), of the last two estimates                                    | N           |
| heun      | Heun's rule: an Euler row, then the trapezoid at its end                       | 2N - 1      |
| lms       | linear multistep of the last four epsilons                                     | N           |
| gamma     | DDIM with a momentum of the last two epsilons, and noise drawn anew            | N           |

The equations are in `level_rules.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..schedule import Grid, chain, karras_ratios
from ..system import System
from ..validate import (
    check_choice,
    check_dense,
    check_number,
    check_whole,
    in_numbers,
    in_words,
    named_arguments,
    refusal,
)
from .level_rules import epsilon_steps, heun_steps, preconditioned_reader, preserving_levels, single_steps
from .timestep_grid import OutputReading, clip_of_data

# The rules that can be run on given levels; the table above says what each is.
RULES = ("ddim", "ddpm", "dpmsolver", "heun", "lms", "gamma")
# Those whose taps are predicted noise e, see `level_rules.py`, and not denoised estimates D.
EPSILON_RULES = ("lms", "gamma")
# The smallest level that is above 0.
TINY = torch.finfo(torch.float64).tiny


@named_arguments
def from_levels(
    t: Tensor | None,
    alpha: Tensor | float,
    sigma: Tensor,
    rule: str = "ddim",
    *,
    prediction: str = "epsilon",
    eta: float = 0.0,
    start: float | None = None,
    into: Tensor | None = None,
    clip: float | str | None = None,
    threshold: tuple[float, float] | None = None,
    order: int = 4,
    gamma: float = 2.0,
    mu: float = 0.0,
) -> System:
    """The sampler of a chain of noise levels that are given one by one, on any scale of the states.

    Args:
        t: (N,), what the model is told at each level, in the dtype of the states where it is fractional; None tells it
            sigma. For "heun" (N + 1,) where the last level has noise left, since the model is asked there, too.
        alpha: (N + 1,) signal in the states, from noise to data; 1.0 where it is 1 throughout (variance exploding,
            EDM, k-diffusion).
        sigma: (N + 1,) noise in the states; the last may be 0. sigma / alpha must fall.
        rule: "ddim", "ddpm", "dpmsolver", "heun", "lms" or "gamma".
        prediction: what the model says: "epsilon", "v", "flow" (noise - data), "flow_to_data" (data - noise) or "x0".
        eta: of "ddim", from 0 (deterministic) to 1 (ancestral).
        start: standard deviation of x[0]; None takes 1 where alpha^2 + sigma^2 = 1, and else sigma[0].
        into: as long as t, the state times this is what the model is shown; None shows it the state.
        clip: limit of the data estimate; for "ddim" a number leaves the noise direction as the model said it, as
            diffusers does, and "rederive" clips to 1 and derives the noise again from the clipped data.
        threshold: (quantile, maximum) in place of a clip.
        order: of "lms", the most epsilons that a row uses.
        gamma, mu: of "gamma": the weight of the newest epsilon, and the share of noise drawn anew, 0 <= mu < 1.

    Returns:
        The table, a `System` of N rows ("heun": 2N - 1, or 2N where the last level has noise left).

    Raises:
        ValueError: for levels that do not lead from noise to data, and arguments that cannot be used.

    Source: Song et al. 2021 (ddim); Ho et al. 2020 (ddpm); Lu et al. 2022b (dpmsolver); Karras et al. 2022 (heun);
    Liu et al. 2022 (lms, Adams-Bashforth steps); Permenter and Yuan 2024, algorithm 2 (gamma).
    """
    check_choice("rule", rule, RULES)
    check_number("eta", eta, "a number from 0 (deterministic) to 1", lambda v: 0 <= v <= 1)
    check_whole("order", order, "a whole number from 1 to 8", 1, 8)
    check_number("gamma", gamma, "a positive, finite number; 1 is DDIM", lambda v: 0 < v < math.inf)
    check_number("mu", mu, "a number from 0 (no noise) to less than 1", lambda v: 0 <= v < 1)
    if eta and rule != "ddim":
        raise refusal("eta", f"{eta} beside rule {rule!r}", "rule 'ddim', which alone takes it", "rule='ddim'")
    g, beyond = _grid(t, alpha, sigma, into, rule)
    if start is None:
        start = 1.0 if preserving_levels(g) else float(g.sigma[0])
    if rule in EPSILON_RULES:
        _no_limit(clip, threshold)
        return epsilon_steps(g, rule, order, (gamma, mu), start, OutputReading(prediction, None, None))
    if rule == "heun":
        limit = clip_of_data(clip, g.alpha, g.alpha)[0]
        return heun_steps(g, beyond, start, OutputReading(prediction, limit, threshold))
    return single_steps(g, rule, eta, start, clip, OutputReading(prediction, None, threshold))


@named_arguments
def edm(
    steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    sigma_data: float = 0.5,
    rule: str = "heun",
    prediction: str = "edm",
    eta: float = 0.0,
    clip: float | None = None,
) -> System:
    """The sampler of EDM: Karras's noise levels, and a network within his preconditioning.

    D = c_skip x + c_out F(c_in x, ln(sigma) / 4),    c_skip = sd^2 / (sigma^2 + sd^2),
    c_out = sigma sd / (sigma^2 + sd^2)^1/2,    c_in = (sigma^2 + sd^2)^-1/2,    sd = sigma_data

    Args:
        steps: noise levels above 0; "heun" asks the model 2 steps - 1 times.
        sigma_min, sigma_max, rho: of the levels; the last row goes to 0.
        sigma_data: standard deviation of the data, of the preconditioning.
        rule: as in `from_levels`, but for "lms" and "gamma".
        prediction: "edm" for the bare network F, told ln(sigma) / 4; "x0" for a denoiser D(x, sigma), told sigma, and
            "epsilon" or "v" for a model of unscaled states, told sigma.
        eta: of "ddim".
        clip: limit of the data estimate.

    Returns:
        The table, whose x[0] has the standard deviation sigma_max.

    Raises:
        ValueError: for arguments that cannot be used.

    Source: Karras et al. 2022, eq. 5, table 1, algorithm 1.
    """
    check_whole("steps", steps, "a whole number, at least 1", 1)
    for name, v in (("sigma_min", sigma_min), ("sigma_max", sigma_max), ("rho", rho), ("sigma_data", sigma_data)):
        check_number(name, v, "a positive, finite number", lambda v: 0 < v < math.inf)
    if sigma_min >= sigma_max:
        raise refusal("sigma_min", in_words(sigma_min), f"less than sigma_max, {sigma_max:g}")
    check_choice("prediction", prediction, ("edm", "x0", "epsilon", "v"))
    check_choice("rule", rule, [r for r in RULES if r not in EPSILON_RULES])
    sigma = torch.cat([karras_ratios(sigma_min, sigma_max, steps, rho), torch.zeros(1, dtype=torch.float64)])
    raw = prediction == "edm"
    t = sigma[:-1].log() / 4 if raw else None
    system = from_levels(t, 1.0, sigma, rule, prediction="x0" if raw else prediction, eta=eta, clip=clip)
    return replace(system, denoiser=preconditioned_reader(system, sigma_data)) if raw else system


@named_arguments
def euler(
    times: Tensor,
    *,
    scale: float = 1.0,
    prediction: str | None = None,
    clip: float | None = None,
) -> System:
    """A flow by Euler steps on any grid of times: x' = x + (times[n+1] - times[n]) v(x, times[n]).

    The noise is where the times begin. Times that fall are those of states t noise + (1 - t) data, whose velocity is
    noise - data (1 - i/N in robotics, 1 to 0.001 and then 0 in diffusers); times that rise those of t data + (1 - t)
    noise, and data - noise. A velocity of the other sign or end is refused, or warned of, when the first rows are
    evaluated, see `execution/direction.py`.

    Args:
        times: (N + 1,), within [0, 1], falling or rising throughout, not necessarily evenly.
        scale: what times are multiplied by before the model sees them; 1000 for models that count timesteps.
        prediction: None takes the velocity that the direction asks for; "x0" and "epsilon" are read as such.
        clip: limit of the data estimate.

    Returns:
        The table, a `System` of N rows, whose x[0] has the standard deviation 1 (or the first level of noise).

    Raises:
        ValueError: for times that are no such grid.

    Source: Lipman et al. 2023; Liu et al. 2023.
    """
    times = _line("times", times)
    steps = times[1:] - times[:-1]
    needed = "times that fall from 1 towards 0 (noise at 1), or rise from 0 towards 1 (data at 1)"
    if len(times) < 2 or not bool((steps < 0).all() | (steps > 0).all()):
        raise refusal("times", in_numbers(times), needed, "torch.linspace(1, 0, 11)")
    if float(times.min()) < 0 or float(times.max()) > 1:
        given = f"times from {float(times[0]):g} to {float(times[-1]):g}"
        raise refusal("times", given, "times within [0, 1]", "euler(times / T, scale=T)")
    check_number("scale", scale, "a positive, finite number", lambda v: 0 < v < math.inf)
    rising = bool(steps[0] > 0)
    noise = 1 - times if rising else times
    said_ = prediction or ("flow_to_data" if rising else "flow")
    return from_levels(times[:-1] * scale, 1 - noise, noise, prediction=said_, clip=None if clip is None else clip)


# ------------------------------------------------------------------------------------------ the grid


def _line(name: str, v: Any) -> Tensor:
    """A tensor of one axis as float64 on the CPU; refuses what is none."""
    if type(v).__module__ == "numpy":
        raise refusal(name, f"numpy's {type(v).__name__}", "a tensor of one axis", f"torch.from_numpy({name})")
    if not isinstance(v, Tensor) or v.ndim != 1 or v.is_complex() or v.dtype == torch.bool or not len(v):
        raise refusal(name, in_words(v), "a tensor of one axis", f"torch.tensor({name})")
    check_dense(name, v)
    v = v.detach().cpu()
    if not bool(torch.isfinite(v).all()):
        raise refusal(name, "one that is not finite", "finite numbers")
    return v.double()


def _grid(t: Any, alpha: Any, sigma: Any, into: Any, rule: str) -> tuple[Grid, bool]:
    """The chain of levels, and whether it has a row beyond its end, where the rule asks the model."""
    sigma = _line("sigma", sigma)
    N = len(sigma) - 1
    if isinstance(alpha, int | float) and not isinstance(alpha, bool):
        alpha = torch.full_like(sigma, alpha)
    alpha = _line("alpha", alpha)
    if N < 1 or len(alpha) != N + 1:
        raise refusal("alpha, sigma", f"{len(alpha)} and {N + 1} levels", "N + 1 of each, N steps from noise to data")
    if N and float(sigma[0]) == 0 < float(sigma[-1]):
        raise refusal("sigma", "levels that begin with 0", "levels from noise to data", "sigmas.flip(0)")
    for name, v, least in (("alpha", alpha[:-1], 0.0), ("alpha", alpha[-1:], TINY), ("sigma", sigma[:-1], TINY),
                           ("sigma", sigma[-1:], 0.0)):  # fmt: skip
        if bool((v < least).any()):
            needed = "alpha >= 0, above 0 at the last level, and sigma above 0, which may be 0 at the last level"
            raise refusal(name, f"a level of {float(v.min()):g}", needed)
    ratio = sigma / alpha
    if not bool((ratio[1:] <= ratio[:-1]).all()):
        typed = "alpha.flip(0) and sigma.flip(0)" if bool((ratio[1:] >= ratio[:-1]).all()) else None
        raise refusal("alpha, sigma", "noise that grows", "sigma / alpha that falls from noise to data", typed)
    if rule == "lms" and not bool((ratio[1:] < ratio[:-1]).all()):
        needed = "sigma / alpha that falls at every step, for rule 'lms' divides by what lies between two levels"
        raise refusal("alpha, sigma", "two levels of equal noise", needed, "rule='dpmsolver'")
    beyond = rule == "heun" and float(sigma[-1]) > 0
    asked = N + 1 if beyond else N
    t = sigma if t is None else t
    counts = _line("t", t) is not None and not t.is_floating_point()  # timesteps, which stay whole
    t = t.detach().cpu() if counts else _line("t", t)
    into = torch.ones_like(sigma) if into is None else _line("into", into)
    for name, v in (("t", t), ("into", into)):
        if len(v) not in {asked, N + 1}:
            where = f"each of the {asked} levels that the model is asked at"
            at_end = ", the last among them, for Heun's rule ends there with noise left" if beyond else ""
            raise refusal(name, f"({len(v)},)", f"({asked},), one for {where}{at_end}")
    if not bool((into > 0).all()):
        raise refusal("into", "one that is not above 0", "what states are multiplied by, above 0")
    if beyond:  # a row more, to nothing, so that there is a place for what the model says at the end
        alpha, sigma = torch.cat([alpha, alpha[-1:]]), torch.cat([sigma, 0 * sigma[-1:]])
    return chain(t[:asked], alpha, sigma, into[:asked]), beyond


def _no_limit(clip: Any, threshold: Any) -> None:
    """Refuses limits of an estimate that the rule does not have."""
    if clip is not None or threshold is not None:
        given = in_words(threshold if clip is None else clip)
        raise refusal("clip", given, "None: a rule of epsilons has no estimate of the data to limit", "rule='ddim'")
