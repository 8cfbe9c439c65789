"""How much more a change grows along the chain than the model of Gaussian data predicts:

    rho[n] = |a dX + b dD| / |a dX + b j[n] dX|
    S[n+1] = rho[n] (S[n] + each[n])

Between two evaluations of row n, the state changed by dX and the model's answer by dD. j[n] is the slope dD/dX of
Gaussian data, one number for each frequency band. rho is 1 where nothing was measured, and far above 1 near a boundary
between two modes of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..methods.scan import norms, recur_rows
from ..methods.spectrum import Spectrum
from ..methods.work import Update, WindowState
from ..system import System, masked_rows
from .rounding import unmoved_rounding

if TYPE_CHECKING:
    from .table_facts import RowFacts

# The smallest rho: if a row seems to shrink a change by more, it may have been measured in another direction. Chosen by
# hand.
LEAST_GROWTH = 0.5
# The largest rho, the same bound as `table_facts.LARGEST_GROWTH`. Chosen by hand.
LARGEST_GROWTH = 100.0
# A state must have moved by this many times its rounding for rho to be measured. Chosen by hand.
MEASURABLE_CHANGE = 25.0

# The sums of dX dX and of dX dD by band (k, B, F), and of dD dD over all bands (k, B).
Secant = tuple[Tensor, Tensor, Tensor]


def measured_growth(
    system: System, work: WindowState, secant: Secant | None, rho: Tensor, again: Tensor | None, rows: RowFacts
) -> Tensor:
    """rho (W, B) with what this round measured: the rows evaluated twice whose states moved well above rounding."""
    if secant is None:
        return rho
    k, (XX, XD, DD) = work.revisited_rows, secant
    a, b, (total, usual) = rows.a[:k], rows.b[:k], (XX[:, :, None] @ rows.carry[:k])[:, :, 0].unbind(2)
    least = MEASURABLE_CHANGE * max(unmoved_rounding(work), work.rounding)  # the rounding of an answer is no growth
    moved = total.sqrt() > least * norms(work.x[:k])
    found = torch.addcmul(b * DD, a, XD.sum(2), value=2).mul_(b).addcmul_(a.square(), total)
    new = (found / usual.maximum(1e-12 * total)).clamp_(LEAST_GROWTH**2, LARGEST_GROWTH**2).sqrt_()
    if system.denoiser.limited:  # a limit that moves bends what it shrinks towards other directions
        new = torch.where(system.denoiser.least[work.n[:k]] < 0, new.clamp(min=1), new)
    new = torch.where(masked_rows(again, moved, False), new, rho[:k]).nan_to_num_(1.0)
    return torch.cat([new, rho[k:]]) if k < len(rho) else new


def observed_secants(work: WindowState, sweep: Update, s: Spectrum) -> Secant | None:
    """The `Secant` of the k rows of the window that were evaluated before; None where there is none."""
    k = work.revisited_rows
    if not k or work.before is None:
        return None
    dX = s.forward(work.x[:k] - work.before()[:k])
    dD = s.forward(sweep.D[:k] - work.D[-len(sweep.D) :][:k])
    return s.sums(dX, dX), s.sums(dX, dD), dD.square().flatten(2).sum(2)


def carried_errors(each: Tensor, rho: Tensor, grown: Tensor) -> Tensor:
    """S[n+1] = rho[n] (S[n] + each[n]) (W, B), from `grown` (1, B) before the first row."""
    S = rho * each
    S[:1].addcmul_(rho[:1], grown)
    return recur_rows(S, [rho])


def gaussian_slope(system: System, variance: Tensor) -> Tensor:
    """j (N, F), the slope of the model of Gaussian data of `variance` (F,)."""
    alpha, sigma = system.alpha[:, None], system.sigma[:, None]
    return alpha * variance / (alpha**2 * variance + sigma**2).clamp(min=1e-30)
