"""Samples stepped by the table alone; an answer that is not finite is kept and not refused:

    x[n+1] = a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n]

A NaN stays what it is and where it is, as in a policy's own loop: so one environment whose observation is broken spoils
its own chunk, and a network that knows what to do with it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...system import System


def step_through(
    model: Callable[..., Tensor], system: System, x: Tensor, noise: Tensor | None, condition: Mapping[str, Tensor]
) -> Tensor:
    """The sample (B, ...) from x (B, ...) with noise (N, B, ...), in float32 or better."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    system = system.to(x.device, x.dtype)
    D = x.new_zeros(system.history, *x.shape)
    for row in range(len(system)):
        n = torch.full((1, len(x)), row, device=x.device)
        shown = system.denoiser.show(x, n[0])
        m = model(shown, system.t[n[0]], **condition).to(x.dtype)
        D = torch.cat([D[-system.history :], system.denoiser.read(shown, m, n[0])[None]])
        x = system.step(x[None], D, None if noise is None else noise[row : row + 1].to(x), n)[0]
    return x
