"""What numbers can hold: changes within rounding count as none, and no tolerance is finer than the numbers.

    unmoved    RMS(change) <= (ULPS eps(state) + eps(network) / QUIET) RMS(state)
    finest     max(80 eps(state), 1e-12, eps(network))
    exact      RMS(x[n] - x_seen[n]), RMS(x[n+1] - y[n]) unmoved, at every row n up to the one that is judged

The last is what tolerance 0 asks for, and no estimate: each accepted state is the step y[n] that the model gave from
the state before, as it was evaluated, up to rounding. So the accepted rows are the sequential sampler's, rounded
elsewhere.

eps is the distance from 1 to the next number: 1.2e-7 in float32, 7.8e-3 in bfloat16. eps(network) is 0 where a network
answers in the states' dtype or a finer one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..methods.scan import rms
from ..methods.work import Update, WindowState
from ..system import masked_rows

ULPS = 1.0  # with 4 the changes of slow methods add up to 2e-5 unseen; with 1 rounds are as few
QUIET = 16.0  # bfloat16 and float16: with 1 chains of 200 rows were 2 and 13 eps off, with 16 within 1, with 30 slow
SPARE = 5.0  # a criterion is held to so much less than the finest, for its estimate is of that quality


def unmoved_rounding(work: WindowState) -> float:
    """What a state's RMS may change by, relatively, and count as unmoved."""
    return ULPS * torch.finfo(work.x.dtype).eps + work.rounding / QUIET


def distance_from_exact(work: WindowState, sweep: Update) -> Tensor:
    """How far each state x[n+1] (W, B) is from exact in units of rounding, see above; infinite where row n was not
    evaluated."""
    size = rms(sweep.x).clamp(min=1e-30)
    change = rms(sweep.x - work.x[1:]) / size
    seen = torch.cat([torch.zeros_like(change[:1]), change[:-1]])  # of x[n], since the model saw it
    off = seen.maximum(sweep.apart / size) / unmoved_rounding(work)
    return masked_rows(sweep.live, off, math.inf)


def finer_than_numbers(tolerance: float, work: WindowState) -> bool:
    """Whether a tolerance is below what an estimate can be held to, so that rows must be exact."""
    return tolerance < finest_tolerance(work.x.dtype, work.rounding) / SPARE


def finest_tolerance(dtype: torch.dtype, network: float = 0.0) -> float:
    """The least tolerance that states of a dtype can hold, and a network's answers of a relative rounding."""
    return max(80 * torch.finfo(dtype).eps, 1e-12, network)
