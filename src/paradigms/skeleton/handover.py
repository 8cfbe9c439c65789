"""When all rows become nodes: the same method goes on, nothing is interpolated any more.

    foretold K* = max(nodes, K max(1, quad / (Q A))^(1/p)),    K: known nodes, p = 1 (noise), 2 (ODE), A: most growth

    start   first nodes >= START N                                          after round 1
    early   round >= max(3, EARLY N / window) and K* > MANY N
    late    round > N / window + SLACK and (K* > HALF N or secant > 10 S)

A chain given over too early costs more than one too late (10 for 16 rounds on one), hence the rounds that must pass.
Without `late` mixture-64/DDPM-1000/w80 takes 20.2 rounds in place of 17.3 at 1 % (seeds from 5000 on); ODEs of learned
models took 0 to 18 % fewer on seeds 700 and 900, but scenes/DDIM-200/w32 4 % more on 5000. Without `early` digits
DDIM-200/w16 takes 57 for 34 at 0.1 % (seed 700).

When windows are taken instead:

    from the start    tolerance < LEAST, or fewer rows than SHORTEST
                      (STATES + 1 if noise is drawn) N B bytes(state) + N^2 scalars > SHARE of what is free
    from a round on   round >= max(4, LOST_AFTER N / window) and secant > LOST S: a decision boundary that nodes miss
"""

from __future__ import annotations

import os

import torch

from .error import HALF as OF_TOLERANCE
from .error import SampleError
from .levels import LevelScalars

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
# Of a row's state: where it was evaluated, the answer there, e, the state now; and as much again twice while the chain
# is run on the surrogate. Counted in `stops.py` and `measure.py`.
STATES, SHARE = 10, 0.8


def why_windows(N: int, tolerance: float, ode: bool) -> str | None:
    """Why windows take fewer rounds of a chain of N rows, or about as many; None where nodes take fewer."""
    if tolerance < LEAST:
        return f"below a tolerance of {LEAST:g} they take fewer rounds"
    shortest = SHORTEST[ode]
    kind = "an ODE" if ode else "a chain that draws noise"
    return f"nodes save few rounds on less than {shortest} rows of {kind}" if shortest > N else None


def why_no_room(N: int, B: int, state: int, drawn: bool, device: torch.device) -> str | None:
    """Why there is no room for the nodes, None where there is: at worst all rows are nodes, beside the noise."""
    need, have = (STATES + drawn) * N * B * state + 3 * 8 * N * N, bytes_free(device)
    if have is None or need <= SHARE * have:
        return None
    return f"the nodes of {N} rows may need {need / 2**30:.2g} GiB and {have / 2**30:.2g} are free"


def bytes_free(device: torch.device) -> int | None:
    """Bytes that are free on a device, None where nobody can say."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as file:
            found = dict(line.split(":", 1) for line in file)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def is_lost(p: SampleError, N: int, round: int, window: int) -> bool:
    """Whether windows take a sample from here, after `round` rounds."""
    return round >= max(4, LOST_AFTER * N / window) and p.secant > LOST * p.S


def gives_way(p: SampleError, nodes: int, first: int, levels: LevelScalars, round: int, window: int) -> bool:
    """Whether a sample goes on with all rows, after `round` rounds; first: the nodes that it began with."""
    N = len(levels)
    if p.dense or first >= START * N:
        return not p.dense
    if round < max(3, EARLY * N / window):
        return False
    more = max(p.quad / (OF_TOLERANCE * p.tolerance) / p.most, 1.0)
    K = max(len(p.known) * more ** (1 / ORDER[levels.ode]), nodes)
    late = round > N / window + SLACK
    return K > MANY * N or (late and (K > HALF * N or p.secant > FAR * p.S))
