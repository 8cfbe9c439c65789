"""When all rows become nodes: the same method goes on, nothing is interpolated any more.

    foretold K* = max(nodes, K max(1, quad / (Q A))^(1/p)),    K: known nodes, p = 1 (noise), 2 (ODE), A: most growth

    start   first nodes >= START N                                          after round 1
    early   round >= max(3, EARLY N / window) and K* > MANY N
    late    round > N / window + SLACK and (K* > HALF N or secant > 10 S)

A chain given over too early costs more than one too late (10 for 16 rounds on one), hence the rounds that must pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .error import HALF as OF_TOLERANCE
from .error import ErrorParts

START, EARLY, MANY = 0.55, 0.6, 0.8  # of the third prototype; tuned on mixtures, digits and scenes
SLACK, HALF, FAR = 5.0, 0.5, 10.0
ORDER = {True: 2.0, False: 1.0}  # of the interpolation, as errors fell with nodes: of an ODE, and with noise


def foretold_nodes(parts: ErrorParts, nodes: Tensor, ode: bool) -> Tensor:
    """K* (B,) of samples that have so many nodes (B,)."""
    more = (parts.quad / (OF_TOLERANCE * parts.tolerance) / parts.A.amax(0)).clamp(min=1)
    return (parts.known.sum(0) * more ** (1 / ORDER[ode])).maximum(nodes)


def gives_way(parts: ErrorParts, nodes: Tensor, first: Tensor, round: int, window: int, ode: bool) -> Tensor:
    """The samples (B,) that go on with all rows, after `round` rounds; nodes (B,) that they have, first (B,): that they
    began with."""
    N = len(parts.node)
    way = first >= START * N
    if round >= max(3, EARLY * N / window):
        K = foretold_nodes(parts, nodes, ode)
        way = way | (K > MANY * N)
        if round > N / window + SLACK:
            way = way | (K > HALF * N) | (parts.secant > FAR * parts.S)
    return way & ~parts.dense
