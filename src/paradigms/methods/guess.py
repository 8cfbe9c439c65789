"""First guesses: what a row holds before the model has seen it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..system import System, expand_like, masked_rows
from ..validate import named_arguments
from .scan import carried_products, recur_in_place
from .work import WindowState, partial_mask


class Guess(ABC):
    """What a state holds before the model has seen it. Write your own with a `fill`."""

    @abstractmethod
    def fill(self, system: System, work: WindowState, known: Tensor) -> Tensor:
        """Guesses the states that are not known.

        Args:
            system: The sampler.
            work: The window; `work.newest` is the last denoised estimate where it is not None.
            known: How many steps of the window are known, of each sample (B,), on the CPU.

        Returns:
            States (W + 1, B, ...), which are `work.x` with x[w+1] guessed for w >= known.
        """


@named_arguments
@dataclass(frozen=True)
class Copy(Guess):
    """Copies the last state.

    Source:
        Shih et al. 2023, algorithm 1, line 11.
    """

    def fill(self, system: System, work: WindowState, known: Tensor) -> Tensor:
        return work.x


@named_arguments
@dataclass(frozen=True)
class Extrapolate(Guess):
    """Continues with the last denoised estimate held fixed, and the noise that is already drawn.

    Source:
        Its gain was published as ParaSolver (2025); that it is equation (2) with J = 0 is ours.
    """

    def fill(self, system: System, work: WindowState, known: Tensor) -> Tensor:
        W, B = work.n.shape
        k = min(known.tolist())  # rows before k are known in every sample
        if k == W:
            return work.x
        last = work.newest  # (B, ...)
        if work.first is not None and last is not None and k == max(known.tolist()):
            x = work.x if work.known_x is None else work.known_x
            rows = work.coefficients(system)
            r = rows.total[k:] * last
            if work.z is not None:
                r.addcmul_(rows.c[k:], work.z[k:])
            r = torch.cat([x[k : k + 1], r])
            T = carried_products(system, work.first + k, len(r))
            return torch.cat([x[:k], (T @ r.flatten(1)).view(r.shape)])
        x = work.x
        n, b = work.n[k:], torch.arange(B, device=work.n.device)
        if last is None:
            last = work.D[len(work.D) - W - 1 + known.to(b.device, non_blocking=True), b]
        r, p = expand_like(system.b[n].sum(-1), x) * last, system.a[n]
        if work.z is not None:
            r.addcmul_(expand_like(system.c[n], x), work.z[k:])
        new = partial_mask(torch.arange(k, W)[:, None] >= known)  # (W - k, B)
        r, p = masked_rows(new, r, work.x[k + 1 :]), masked_rows(new, p)
        r[0].addcmul_(expand_like(p, r)[0], work.x[k])
        return torch.cat([work.x[: k + 1], recur_in_place(r, [p])])
