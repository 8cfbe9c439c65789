"""`verify=True`: how far each row of an accepted trajectory is from the step that the model gives.

The verification evaluates the accepted trajectory once more, all rows in parallel, and finds by how much each row
misses its own step, r[n] = step(x)[n] - x[n+1]. A row with noise c[n] is then a Gaussian whose mean is off by r[n]:

    TV <= sum_n TV(N(0, c[n]^2), N(r[n], c[n]^2)) = sum_n erf(|r[n]| / (2 sqrt(2) c[n]))

"If every step is off by at most 2 eps c / N, the sample is within eps of the sequential sampler in total variation":
Shih et al. 2023, proposition 1, which uses the linear (Pinsker) form of the same sum. It is a worst case: it adds up
errors that in fact contract, and in high dimension it exceeds 1 while the samples agree to a per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..noise import Noise


@dataclass(frozen=True, eq=False)
class Verification:
    """The finished trajectory, evaluated once more.

    Attributes:
        residual: The largest RMS distance of a state from the step before it, in units of std[n] (B,).
        tv_bound: Bounds the total variation between this sampler and the sequential one, averaged over samples (B,),
            at most 1. A worst case: large in high dimension even where samples agree. NaN for rules without noise.

    Source:
        Shih et al. 2023, proposition 1.
    """

    residual: Tensor
    tv_bound: Tensor


def verify_trajectory(evaluate: Evaluator, states: Tensor, noise: Noise, window: int) -> tuple[Tensor, Verification]:
    """Evaluates the trajectory states (N + 1, B, ...) once more, `window` rows a call; also the last step's result.

    That result replaces x[N]: a last row without noise is then exact, and only rows with noise enter the bound.
    """
    system, (N, B) = evaluate.system, (len(states) - 1, states.shape[1])
    b = torch.arange(B, device=states.device)
    D = states.new_zeros((system.history, *states.shape[1:]))
    worst, bound = states.new_zeros(B), states.new_zeros(B)
    y = states[-1:]
    for begin in range(0, N, window):
        n = torch.arange(begin, min(begin + window, N), device=states.device)[:, None].expand(-1, B)
        x = states[begin : begin + len(n)]
        fresh = evaluate(x.flatten(0, 1), n.flatten(), b.repeat(len(n))).unflatten(0, (len(n), B))
        D = torch.cat([D, fresh])
        y = system.step(x, D, noise.rows(n, begin, begin + len(n)), n)
        D = D[-system.history :]
        size = (y - states[begin + 1 : begin + 1 + len(n)]).flatten(2).norm(dim=2)  # (W, B)
        worst = worst.maximum((size / states[0, 0].numel() ** 0.5 / system.std[n]).amax(0))
        c = system.c[n]
        bound = bound + torch.where(c > 0, torch.erf(size / (8**0.5 * c.clamp(min=1e-30))), 0.0).sum(0)
    silent = bool((system.c[:-1] == 0).any())
    return y[-1], Verification(worst, torch.full_like(bound, torch.nan) if silent else bound.clamp(max=1))
