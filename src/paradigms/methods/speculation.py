"""Autospeculation: a draft is accepted or reflected so that every state has exactly the law of the sequential sampler.

S[n] is the model's output at the last verified row, held fixed. The draft and the model both take a Gaussian step,

    x[n+1] = m^ + c z,    m^ = a x[n] + b S[n],    m = a x[n] + b D[n],    Delta = (m^ - m) / c

where z is already drawn and U is uniform. In row order, the draft x[n+1] = m^ + c z is accepted if

    log U <= -z . Delta - |Delta|^2 / 2                      the ratio of the two densities at the draft

Otherwise it becomes m + c (z - 2 (z . e) e), e = Delta / |Delta|, whose noise is the reflection of z and again standard
normal. The rows after it are drafted anew from there with S = D[n], because D[n] is the model at the right state. There
is no tolerance and no pathwise error: the result is another sample of the same law. Source: Hu et al., ICML 2025
(autospeculation); Bou-Rabee et al. 2020 for the reflection coupling.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..system import System, expand_like
from ..validate import named_arguments
from .base import AbstractMethod, step_rows
from .guess import Extrapolate, Guess
from .work import Evaluate, Memory, Update, WindowState


class RowCoins(NamedTuple):
    """U (1, B, N), a uniform number for each row and sample; they do not move with the window."""

    U: Tensor


@named_arguments
@dataclass(frozen=True)
class Speculation(AbstractMethod):
    """Drafts that are accepted at random so that the samples have exactly the sequential sampler's law.

    The result is another sample of the same law, so a tolerance and `Solution.error` mean nothing here, and
    `Solution.tolerance` is None. For SDE rules of one tap only.

    Args:
        seed: Of the random decisions. Give another to each call whose samples must be independent.

    Raises:
        ValueError: A step but the last adds no noise, or a step uses more than one denoised estimate.

    Source:
        Hu et al. 2025 (autospeculation); Bou-Rabee et al. 2020 for the reflection.
    """

    steady: ClassVar[int | None] = 32
    law: ClassVar[bool] = True

    guess: Guess = field(default_factory=Extrapolate, init=False)  # a draft must be driven by the row's own noise
    seed: int = 0

    def init(self, system: System, work: WindowState) -> Memory:
        """The coins."""
        if system.taps > 1 or not bool((system.c[:-1] > 0).all()):
            raise ValueError(
                f"Speculation: given a rule of {system.taps} taps with {int((system.c[:-1] == 0).sum())} rows without "
                "noise before the last; needed: one tap and noise in every row, as in ddpm() or ddim(eta=1)"
            )
        g = torch.Generator().manual_seed(self.seed)
        coins = [torch.rand(len(system), generator=g, dtype=torch.float64) for _ in range(work.n.shape[1])]
        return RowCoins(torch.stack(coins)[None].to(work.x.device))

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        D, y = step_rows(system, work, evaluate)
        W, B = work.n.shape
        b = torch.arange(B, device=work.x.device)
        c, live = system.c[work.n], work.live.to(b.device, non_blocking=True)  # (W, B)
        if work.z is None:  # the one row of a chain without noise
            stands, other = torch.zeros_like(live), y
        else:
            Delta = (work.x[1:] - y) / expand_like(torch.where(c > 0, c, 1), y)
            ratio = -row_dot(work.z, Delta) - row_dot(Delta, Delta) / 2
            stands = (RowCoins(*memory).U[0, b, work.n].log() <= ratio) & (c > 0) & live
            other = y + expand_like(c, y) * (mirrored_noise(work.z, Delta) - work.z)
        first = stands.long().cumprod(0).sum(0)  # (B,), the first row that does not stand
        count = live.long().sum(0)
        stride = (first + 1).minimum(count)
        row = torch.arange(W, device=b.device)[:, None]
        x = torch.where(expand_like(row == first, y), other, work.x[1:])
        D = torch.where(expand_like(row < stride, D), D, D[stride - 1, b])  # the rows after are drafted with D[first]
        x = torch.cat([work.x[:1], x])
        after = replace(work, x=x, D=torch.cat([work.D[:-W], D]))
        return Update(Extrapolate().fill(system, after, stride.cpu())[1:], D, y, work.live, stride), memory


def mirrored_noise(z: Tensor, Delta: Tensor) -> Tensor:
    """z (W, B, ...) reflected in the plane that Delta is normal to; z itself where Delta is 0."""
    square = row_dot(Delta, Delta)
    return z - expand_like(2 * row_dot(z, Delta) / torch.where(square > 0, square, 1), z) * Delta


def row_dot(u: Tensor, v: Tensor) -> Tensor:
    """u . v (W, B) of u, v (W, B, ...)."""
    return (u * v).flatten(2).sum(2)
