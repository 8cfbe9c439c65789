"""Rounding: changes within it count as no change, and no tolerance can be finer than the numbers.

    unmoved    RMS(change) <= (ULPS eps(state) + eps(network) / NETWORK_DIVISOR) RMS(state)
    finest     max(80 eps(state), 1e-12, eps(network))
    exact      RMS(x[n] - x_seen[n]), RMS(x[n+1] - y[n]) unmoved, at every row n up to the one that is judged

Tolerance 0, and one below `EXACT_BELOW` times the finest, asks for `exact`, which needs no estimate: up to rounding,
each accepted state is the step y[n] that the model gave from the state before, at the place where that state was
evaluated. So the accepted rows are those of the sequential sampler, with other rounding.

eps is the distance from 1 to the next number: 1.2e-7 in float32, 7.8e-3 in bfloat16. eps(network) is 0 where a network
answers in the states' dtype or a finer one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..methods.scan import norms
from ..methods.work import Memory, Update, WindowState
from .arithmetic import TENSORS

# The relative change of a state that counts as none, in units in the last place of the state's dtype. With 4 the
# changes of slow methods add up to 2e-5 unseen; with 1 the rounds are as few.
ULPS = 1.0
# The rounding of a network's answers is divided by this for the change of a state that counts as none. With 1, chains
# of 200 rows in bfloat16 and float16 were 2 and 13 eps off; with 16 they were within 1 eps; with 30 they were slow.
NETWORK_DIVISOR = 16.0
# Rows must be exact below this many times the finest tolerance of the states. An estimate that is near the finest one
# saves no rounds and is often in doubt: in float32 28 toy chains took 1.2 to 1.3 times the rounds of tolerance 0 at
# 1e-5 to 1e-4.
EXACT_BELOW = 12.0
# The answers of a network of lower precision are held to a tolerance this many times smaller than their rounding before
# rows must be exact. Chosen by hand.
ESTIMATE_DIVISOR = 5.0


def unmoved_rounding(work: WindowState) -> float:
    """The largest relative change of a state, in RMS, that counts as unmoved."""
    return ULPS * torch.finfo(work.x.dtype).eps + work.rounding / NETWORK_DIVISOR


def exact_numbers(work: WindowState, sweep: Update) -> list[Tensor]:
    """The norms (W, B) by which rows are found to be exact: of the new states, and of what they moved by."""
    return [norms(sweep.x), norms(sweep.x - work.x[1:])]


def settle_exact(work: WindowState, sweep: Update, told: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
    """What a rule finds where rows must be exact: how far each state x[n+1] (W, B) is from that in units of rounding,
    see above, and how many are (B,); told: `sweep.apart` and `exact_numbers`, on the CPU."""
    root, unit = math.sqrt(math.prod(work.x.shape[2:])), unmoved_rounding(work)
    apart, norm, moved = told.chunk(3)
    unmoved = unit * (norm / root).clamp(min=1e-30)
    seen = torch.zeros_like(apart)  # how far x[n] is from where the model saw it
    seen[1:] = moved[:-1] / root / unmoved[:-1]
    size = torch.where(sweep.live, seen.maximum(apart / unmoved), math.inf)
    return size, TENSORS.leading(size <= 1).clamp(min=1), memory


def finer_than_numbers(tolerance: float, dtype: torch.dtype, network: float = 0.0) -> bool:
    """Whether a tolerance is below what an estimate can be held to, so that rows must be exact."""
    return tolerance < max(EXACT_BELOW * finest_tolerance(dtype), network / ESTIMATE_DIVISOR)


def finest_tolerance(dtype: torch.dtype, network: float = 0.0) -> float:
    """The least tolerance that states of a dtype can hold, and a network's answers of a relative rounding."""
    return max(80 * torch.finfo(dtype).eps, 1e-12, network)
