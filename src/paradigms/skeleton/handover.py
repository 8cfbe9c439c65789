"""When all rows become nodes: the same method goes on, nothing is interpolated any more.

    foretold K* = max(nodes, K max(1, quad / (Q A))^(1/p)),    K: known nodes, p = 1 (noise), 2 (ODE), A: most growth

    start   first nodes >= START N                                          after round 1
    early   round >= max(3, EARLY N / window) and K* > MANY N
    late    round > N / window + SLACK and (K* > HALF N or secant > 10 S)

A chain given over too early costs more than one too late (10 for 16 rounds on one), hence the rounds that must pass.

When windows are taken instead:

    from the start    tolerance < LEAST, or fewer rows than SHORTEST
    from a round on   round >= max(4, LOST_AFTER N / window) and secant > LOST S: a fork that nodes do not follow
"""

from __future__ import annotations

import torch
from torch import Tensor

from .error import HALF as OF_TOLERANCE
from .error import ErrorParts

START, EARLY, MANY = 0.55, 0.6, 0.8  # of the third prototype; tuned on mixtures, digits and scenes
SLACK, HALF, FAR = 5.0, 0.5, 10.0
ORDER = {True: 2.0, False: 1.0}  # of the interpolation, as errors fell with nodes: of an ODE, and with noise

# Nodes take more rounds than windows at 0.3 % and 0.1 % of learned models and of chains of 1000 rows that draw noise
# (`benchmarks/results/skeleton.md`). At 1 %, seed 700, nodes and windows: digits DPMSolver-50/w16 10.3 and 10.0,
# DDIM-50/w16 8.7 and 9.2 with more evaluations, DDIM-100/w16 13.5 and 14.5, /w32 8.7 and 10.5; DDPM-250/w32 of digits
# 25.8 and 20.8, of mixture-64 23.1 and 22.3. At 0.5 % one of six samples of digits DDIM-200/w16 took 28 for 26.
LEAST, SHORTEST = 0.01, {True: 100, False: 1000}
# Of DDPM-1000 at window 80, round 5: a sample of scenes that took 76 rounds for 32 was at 2200 S, digits at 44 to 81,
# seven of eight mixtures at 2 to 73; digits DDIM-200, round 5: 16 to 230.
LOST_AFTER, LOST = 0.4, 1e3


def why_windows(N: int, tolerance: float, ode: bool) -> str | None:
    """Why windows take fewer rounds of a chain of N rows, or about as many; None where nodes take fewer."""
    if tolerance < LEAST:
        return f"below a tolerance of {LEAST:g} they take fewer rounds"
    shortest = SHORTEST[ode]
    kind = "an ODE" if ode else "a chain that draws noise"
    return f"nodes save few rounds on less than {shortest} rows of {kind}" if shortest > N else None


def is_lost(parts: ErrorParts, round: int, window: int) -> Tensor:
    """The samples (B,) that windows take from here, after `round` rounds."""
    late = round >= max(4, LOST_AFTER * len(parts.node) / window)
    return (parts.secant > LOST * parts.S) & torch.tensor(late)


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
