"""What numbers can hold: changes within rounding count as none, and no tolerance is finer than the numbers.

    unmoved    RMS(change) <= (ULPS eps(state) + eps(network)) RMS(state)
    finest     max(16 eps(state), 1e-13, eps(network))

eps is the distance from 1 to the next number: 1.2e-7 in float32, 7.8e-3 in bfloat16. eps(network) is 0 where a network
answers in the states' dtype or a finer one.
"""

from __future__ import annotations

import torch

from .method import Work

ULPS = 4.0  # a sum over a window's rows rounds by about so many units in the last place


def rounding(work: Work) -> float:
    """What a state's RMS may change by, relatively, and count as unmoved."""
    return ULPS * torch.finfo(work.x.dtype).eps + work.rounding


def finest(dtype: torch.dtype, network: float = 0.0) -> float:
    """The least tolerance that states of a dtype can hold, and a network's answers of a relative rounding."""
    return max(16 * torch.finfo(dtype).eps, 1e-13, network)
