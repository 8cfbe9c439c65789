"""What a scheduler's state holds and how the model's answer is read, family by family:

    x[n] = alpha data + sigma noise,    D = P x + Q m

| family                             | alpha, sigma                      | told by                                |
| EDM                                | 1, s                              | `precondition_outputs`                 |
| consistency models                 | 1, s                              | `get_scalings_for_boundary_condition`  |
| DPM-Solver, DEIS, UniPC, SA-Solver | what it makes of its s            | `_sigma_to_alpha_sigma_t`              |
| Euler, Heun, KDPM2, LMS            | 1, s                              | `sigmas` and `alphas_cumprod`          |
| flow matching                      | 1 - s, s                          | `sigmas` alone                         |
| DDPM, DDIM, PNDM, LCM, TCD, UnCLIP | from alphas_cumprod[t]            | `alphas_cumprod`                       |
| Wuerstchen                         | from its cosine at t              | `_alpha_cumprod`                       |

nan where no family fits: then nothing is assumed. A family is a guess until its rule leads from level to level:

    alpha' = sum_j X[n,j] alpha[j] + sum_j B[n,j],    sigma'^2 = (sum_j X[n,j] sigma[j])^2 + sum_j Z[n,j]^2
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...denoiser import make_denoiser

PREDICTION_TYPES = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}
UNKNOWN = (math.nan,) * 4
STILL, NOTHING = 2e-4, 1e-4  # a fall of the squared noise, and a share of it left, that float32 cannot tell from none


def noise_levels(scheduler: Any, t: Tensor, into: float) -> tuple[float, float, float, float]:
    """alpha, sigma, P, Q of the state that is about to be stepped; `into` times it is what the model is shown."""
    sigmas = getattr(scheduler, "sigmas", None)
    if isinstance(sigmas, Tensor):
        s = _sigma(scheduler, into)
        if hasattr(scheduler, "precondition_outputs"):
            one = torch.ones((), dtype=torch.float64)
            P, Q = (float(scheduler.precondition_outputs(x, m, s)) for x, m in ((one, 0 * one), (0 * one, one)))
            return 1.0, float(s), P, Q
        if hasattr(scheduler, "get_scalings_for_boundary_condition"):
            P, Q = (float(v) for v in scheduler.get_scalings_for_boundary_condition(s))
            return 1.0, float(s), P, Q
        alpha, sigma = _by_sigma(scheduler, s)
    else:
        alpha, sigma = _by_time(scheduler, t)
    prediction = PREDICTION_TYPES.get(
        scheduler.config.get("prediction_type", "epsilon" if sigmas is None else "flow_prediction")
    )
    if math.isnan(alpha) or prediction is None or (prediction == "epsilon" and alpha * into == 0):
        return UNKNOWN
    reader = make_denoiser(
        *(torch.tensor([v], dtype=torch.float64) for v in (alpha, sigma, into)), prediction=prediction
    )
    return alpha, sigma, float(reader.p[0]) * into, float(reader.q[0])


def _sigma(scheduler: Any, into: float) -> Tensor:
    """The s of this row; between two of them where a scheduler of second order stands there, as `into` tells."""
    i = getattr(scheduler, "step_index", None) or 0
    between = getattr(scheduler, "sigmas_interpol", None)
    if between is None or scheduler.state_in_first_order:
        return scheduler.sigmas[i]
    near = between[i - 1 : i + 1]
    return near[((1 + near**2).rsqrt() - into).abs().nan_to_num(math.inf).argmin()]


def _by_sigma(scheduler: Any, s: Tensor) -> tuple[float, float]:
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(s)
        return float(alpha), float(sigma)
    if hasattr(scheduler, "alphas_cumprod"):
        return 1.0, float(s)
    return 1 - float(s), float(s)


def _by_time(scheduler: Any, t: Tensor) -> tuple[float, float]:
    if hasattr(scheduler, "_alpha_cumprod"):
        level = float(scheduler._alpha_cumprod(t[None], t.device))
    elif hasattr(scheduler, "alphas_cumprod") and not t.is_floating_point():
        level = float(scheduler.alphas_cumprod[int(t)])
    else:
        return math.nan, math.nan
    return math.sqrt(level), math.sqrt(1 - level)


def levels_agree(alpha: Tensor, alpha_next: Tensor) -> bool:
    """Whether the rows lead from alpha to alpha_next (N,), about: no rule of another family goes the same way."""
    way = (alpha[1:] - alpha[:-1]).abs()
    off = (alpha_next[:-1] - alpha[1:]).abs()
    return bool(torch.isfinite(alpha_next).all() and (off <= 0.5 * way + 1e-3).all())


def tolerance_unit(alpha: Tensor, sigma: Tensor, alpha_next: Tensor, sigma_next: Tensor, least: float) -> Tensor:
    """The unit of the tolerance (N,): the posterior noise between a row's levels and the next, either way up.

    A row that stays where it is (the corrector of a pair) has its predecessor's; an end without noise the smallest of
    the others, or `least` where there are none.
    """
    up = sigma_next * alpha > sigma * alpha_next  # an inversion adds noise: its unit is that of the step back
    clear, noisy = torch.where(up, alpha, alpha_next), torch.where(up, alpha_next, alpha)
    low, high = torch.where(up, sigma, sigma_next), torch.where(up, sigma_next, sigma)
    fall = (1 - (noisy * low / (clear * high)) ** 2).nan_to_num(0).clamp(min=0)
    std = torch.where(low < NOTHING * high, 0, low * fall.sqrt())
    for n in range(1, len(std)):
        std[n] = std[n - 1] if fall[n] < STILL else std[n]
    positive = std[std > 0]
    return std.clamp(min=float(positive.min()) if len(positive) else least)
