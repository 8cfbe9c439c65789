"""Whether the rows of a batch are answered each by itself, at the batch's own length.

    f([a, b, c, d, ..])[kept] = f([a', b, c', d, ..])[kept]        rows that are kept, beside others

The other rows are states and times of another place in the batch, times -0.7 or 1.7. About half of the rows are kept,
neither the first nor the last. Their place and the length are the same, so that no rounding of other kernels is in the
way, as it is where a row is asked in a batch of another length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# The other rows are multiplied by one of these each, because the rows of a first guess may be copies of each other: one
# makes the largest row of a batch larger. Chosen by hand.
OTHER_STATES = (-0.7, 1.7)


def beside_others(
    ask: Callable[..., Tensor], x: Tensor, t: Tensor, condition: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Which of the rows of x (M, ...) were kept (M,), and the answers (M, ...) to those and others."""
    M = len(x)
    draws = torch.rand(2, M, generator=torch.Generator().manual_seed(0)).to(x.device)
    kept = draws[0] < 0.5
    kept[0] = kept[-1] = False
    place = torch.where(kept, torch.arange(M, device=x.device), torch.arange(M, device=x.device).roll(M // 2))
    smaller, larger = OTHER_STATES
    times = torch.where(kept, 1.0, torch.where(draws[1] < 0.5, smaller, larger)).to(x)
    shown = x[place] * times.reshape(M, *(1,) * (x.ndim - 1))
    return kept, ask(shown, t[place], **{k: v[place] for k, v in condition.items()})


def largest_difference(m: Tensor, other: Tensor, x: Tensor, least: float) -> float:
    """The largest relative difference of a row's two answers (M, ...); 0 for one that is not finite.

    Differences are relative to the answer's norm, or to the share `least` of the state's norm where that is more.
    """
    off, size, state = ((v.double()).flatten(1).norm(dim=1) for v in (m - other, m, x))
    found = off / torch.maximum(size, least * state).clamp(min=1e-30)
    return float(found.nan_to_num(0.0, 0.0).amax()) if len(found) else 0.0
