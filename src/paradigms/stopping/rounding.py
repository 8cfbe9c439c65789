"""What numbers can hold: changes within rounding count as none, and no tolerance is finer than the numbers.

    unmoved    RMS(change) <= (ULPS eps(state) + eps(network) / QUIET) RMS(state)
    finest     max(80 eps(state), 1e-12, eps(network))

eps is the distance from 1 to the next number: 1.2e-7 in float32, 7.8e-3 in bfloat16. eps(network) is 0 where a network
answers in the states' dtype or a finer one.
"""

from __future__ import annotations

import torch

from ..methods.work import WindowState

ULPS = 1.0  # with 4 the changes of slow methods add up to 2e-5 unseen; with 1 rounds are as few
QUIET = 16.0  # bfloat16 and float16: with 1 chains of 200 rows were 2 and 13 eps off, with 16 within 1, with 30 slow
SPARE = 5.0  # a criterion is held to so much less than the finest, for its estimate is of that quality


def unmoved_rounding(work: WindowState) -> float:
    """What a state's RMS may change by, relatively, and count as unmoved."""
    return ULPS * torch.finfo(work.x.dtype).eps + work.rounding / QUIET


def finest_tolerance(dtype: torch.dtype, network: float = 0.0) -> float:
    """The least tolerance that states of a dtype can hold, and a network's answers of a relative rounding."""
    return max(80 * torch.finfo(dtype).eps, 1e-12, network)
