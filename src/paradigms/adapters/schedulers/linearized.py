"""A scheduler's steps as a linear table for predictions, found by walking a copy of it: a part of equation (1).

    x[n+1] = a[n] x[n] + b[n] m,    D = P[n] x + Q[n] m,    x[n] = alpha[n] data + sigma[n] noise

for the answer m of row n, b summed over its taps; x in units of what the network is shown. Where a scheduler's family
is not known, or its rows do not lead from level to level, D is the answer itself (P = 0, Q = 1) and alpha is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...denoiser import make_denoiser
from ...system import System
from .levels import noise_levels, tolerance_unit
from .probe import Tap
from .scheduler_copy import copy_scheduler


@dataclass(frozen=True)
class LinearizedScheduler:
    """system: a (N,), b (N, 1), alpha, sigma (N,) of the docstring above, in D. P, Q (N,) read D. known: whether
    the scheduler's family is."""

    system: System
    P: Tensor
    Q: Tensor
    known: bool

    def __len__(self) -> int:
        return len(self.P)


def linearize_scheduler(scheduler: Any, times: Sequence[Any]) -> LinearizedScheduler:
    """The course of a scheduler that is about to step from `times[0]`; it is left as it is."""
    N = len(times)
    known = torch.full((6, N), math.nan, dtype=torch.float64)  # alpha, sigma, P, Q, a, b
    if scheduler is not None:
        with torch.no_grad():
            try:
                _walk(copy_scheduler(scheduler), times, known)
            except Exception:  # whatever a scheduler raises on a plain number: nothing is known of its course
                known.fill_(math.nan)
    alpha, sigma, P, Q, a, b = known
    ok = bool(torch.isfinite(known).all()) and bool((Q != 0).all())
    if not ok:
        alpha, sigma, P, Q, a, b = (torch.full((N,), v, dtype=torch.float64) for v in (0.0, 1.0, 0.0, 1.0, 1.0, 0.0))
    a, b = a - b * P / Q, b / Q  # in D
    after, least = torch.cat([alpha[1:], alpha.new_ones(1)]), 1.0 / N
    std = (
        tolerance_unit(alpha, sigma, after, torch.cat([sigma[1:], sigma.new_zeros(1)]), least)
        if ok
        else 0 * alpha + least
    )
    t = torch.arange(N)
    reader = make_denoiser(0 * alpha, 0 * alpha + 1, 0 * alpha + 1, prediction="x0")
    return LinearizedScheduler(System(t, a, b[:, None], 0 * a, std, alpha, sigma, reader), P, Q, ok)


def _walk(scheduler: Any, times: Sequence[Any], known: Tensor) -> None:
    """Fills alpha, sigma, P, Q, a, b row by row, in units of what is shown."""
    into = torch.ones(len(times), dtype=torch.float64)
    tap = Tap((2, 1, 1, 1), lambda: torch.zeros(2, 1, 1, 1, dtype=torch.float64))
    for n, t in enumerate(times):
        x, m = (torch.tensor([v, w], dtype=torch.float64).reshape(2, 1, 1, 1) for v, w in ((1.0, 0.0), (0.0, 1.0)))
        shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        into[n] = float(shown[0])
        known[:4, n] = torch.tensor(noise_levels(scheduler, t, float(into[n])), dtype=torch.float64)
        with tap:
            y = scheduler.step(m, t, x, return_dict=False)[0]
        known[4:, n] = y.flatten().double()
    later = torch.cat([into[1:], into.new_ones(1)])
    known[:2] *= into
    known[2] /= into
    known[4] *= later / into
    known[5] *= later
