"""How changes grow along the chain, beside what the model of Gaussian data would make of them:

    rho[n] = |a dX + b dD| / |a dX + b j[n] dX|
    S[n+1] = rho[n] (S[n] + each[n])

dX is what the state of row n moved by between two evaluations, dD what the model's answer did, and j[n] the slope of
Gaussian data, diagonal in the bands. rho is 1 where nothing was measured. Near a boundary between two modes it is far
above 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .carry import scan
from .method import Sweep, Work
from .precision import rounding
from .spectrum import Spectrum
from .system import System, only

LEAST, MOST = 0.5, 100.0  # of rho: what a row shrinks by more may have been measured in another direction
ABOVE = 25.0  # times rounding, what a state must have moved by to be measured


def growth(
    system: System, work: Work, sweep: Sweep, rho: Tensor, again: Tensor | None, J: Tensor, s: Spectrum
) -> Tensor:
    """rho (W, B) with what this round measured: the rows evaluated twice whose states moved well above rounding."""
    k = work.again
    if not k or (sweep.secant is None and work.before is None):
        return rho
    XX, XD, DD = sweep.secant or secants(work, sweep, s)  # (k, B, F) twice, (k, B)
    n, total = work.n[:k], XX.sum(2)
    least = ABOVE * max(rounding(work), work.rounding)  # an answer's rounding is no growth
    moved = total.sqrt() > least * work.x[:k].flatten(2).norm(dim=2)
    a, b = system.a[n], system.b[n].sum(-1)
    usual = (XX * (a[..., None] + b[..., None] * J[n]).square()).sum(2)
    found = a.square() * total + 2 * a * b * XD.sum(2) + b.square() * DD
    new = (found / usual.clamp(min=1e-12 * total)).clamp(min=0).sqrt().clamp(min=LEAST, max=MOST)
    if system.denoiser.limited:  # a limit that moves bends what it shrinks towards other directions
        new = torch.where(system.denoiser.least[n] < 0, new.clamp(min=1), new)
    new = torch.where(only(again, moved, False) & new.isfinite(), new, rho[:k])
    return torch.cat([new, rho[k:]])


def secants(work: Work, sweep: Sweep, s: Spectrum) -> tuple[Tensor, Tensor, Tensor]:
    """dX dX and dX dD by band (k, B, F), and dD dD (k, B), of the rows evaluated before, since then."""
    assert work.before is not None
    k = work.again
    dX = s.forward(work.x[:k] - work.before()[:k])
    dD = s.forward(sweep.D[:k] - work.D[-len(sweep.D) :][:k])
    return s.sums(dX, dX), s.sums(dX, dD), dD.square().flatten(2).sum(2)


def carried(each: Tensor, rho: Tensor, grown: Tensor) -> Tensor:
    """S[n+1] = rho[n] (S[n] + each[n]) (W, B), from `grown` (1, B) before the first row."""
    S = rho * each
    S[:1].addcmul_(rho[:1], grown)
    return scan(S, rho)


def slope(system: System, variance: Tensor) -> Tensor:
    """j (N, F), the slope of the model of Gaussian data of `variance` (F,)."""
    alpha, sigma = system.alpha[:, None], system.sigma[:, None]
    return alpha * variance / (alpha**2 * variance + sigma**2).clamp(min=1e-30)
