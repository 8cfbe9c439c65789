"""The default of release 0.1.0, criterion and carry, frozen: what `python -m benchmarks kept` measures today's against.

`FinalError` with a margin of 5 and growth by the Gaussian formula alone; `Spectral` with alpha J kept within [0, 1].
Not for use: it says "converged" of samples that are other ones. Nothing here is to be mended.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paradigms.methods.scan import recur_rows
from paradigms.methods.spectral import LearnedSecants, Spectral
from paradigms.methods.spectrum import Spectrum, spectrum_of
from paradigms.methods.work import Memory, Update, WindowState, pick_rows
from paradigms.stopping.base import AbstractStop
from paradigms.system import System, masked_rows

MARGIN, OVERLAP = 5.0, 1 / 32
LEAST, FIRST, FALL, TINY, MOST, BY_LEVEL = 1e-6, 0.1, 0.1, 0.01, 100.0, 0.7


@dataclass(frozen=True)
class ReleasedSpectral(Spectral):
    """The default method of 0.1.0: the share of the Jacobian lies between 0 and 1."""

    def jacobian(self, system: System, known: LearnedSecants, work: WindowState) -> Tensor:
        begin = work.begin
        first, last = min(begin), min(max(begin) + len(work.n), len(system))
        sums = torch.baddbmm(known.base[:, first:last], known.alike[:, first:last], known.sums.flatten(2))
        X, Y = sums.unflatten(2, known.sums.shape[2:]).unbind()
        J = (Y / X).clamp(0, 1) * known.rows[2, first:last, None]
        return J if first == max(begin) and len(J) == len(work.n) else pick_rows(J, work.n - first)


@dataclass(frozen=True)
class Constants:
    """What the criterion knows of the table: no tensor of it is of the rows of a window."""

    spectrum: Spectrum
    G2: Tensor
    part: Tensor


@dataclass(frozen=True)
class ReleasedFinalError(AbstractStop):
    """The default criterion of 0.1.0."""

    def init(self, system: System, work: WindowState) -> Memory:
        s = spectrum_of(work.x[0], None)
        moved, one = torch.zeros_like(work.n, dtype=work.x.dtype), work.x.new_ones(1, work.x.shape[1])
        return moved, FIRST * one, 0 * one, Constants(s, becomes(system, s.prior)[1:] ** 2, share(system))

    def judge(self, system: System, work: WindowState, sweep: Update, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        moved, eps, spent, table = memory
        s, G2, part = table.spectrum, table.G2, table.part
        change, k = norm(work, sweep, s, G2), work.revisited_rows  # of x[n+1]
        usual = sweep.live is work.live
        again = work.revisited if usual else ((work.seen > 0) & sweep.live)[:k]
        off, of = (masked_rows(again, v).sum(0) for v in (change[:k], moved[:k].cumsum(0)))
        tiny = max(TINY * self.tolerance, torch.finfo(of.dtype).tiny)
        eps = ((off + tiny * eps) / (of + tiny)).nan_to_num(1.0, 1.0).maximum(FALL * eps).clamp(min=LEAST)
        before, moved = moved, torch.cat([torch.zeros_like(change[:1]), change[:-1]])  # of x[n]
        if not usual or work.on is not None:
            moved = moved + masked_rows(~sweep.live, before)
        E = spent + MARGIN * eps * moved.cumsum(0)
        limit = self.tolerance * part[work.n]
        settled = limit >= E if usual else masked_rows(sweep.live | (work.seen > 0), limit >= E, False)
        count = settled.cumprod(0).sum(0).minimum(most(system, work, again).to(E.device)).clamp(min=1)
        return E / limit.clamp(min=1e-30), count, (moved, eps, E.gather(0, count[None] - 1), memory[3])


def norm(work: WindowState, sweep: Update, s: Spectrum, G2: Tensor) -> Tensor:
    """|change of x[n+1]|_{n+1} (W, B); G2 (N, F) is G^2 at row n + 1."""
    unit = torch.linalg.vector_norm(sweep.D[0].flatten(1), dim=1).clamp(min=s.size)  # (B,)
    if sweep.change is not None and sweep.change[0].alike(s):
        square = sweep.change[1]
    else:
        c = s.forward(sweep.x - work.x[1:])
        square = s.sums(c, c)
    return (square * G2[work.n]).sum(2).sqrt() / unit


def most(system: System, work: WindowState, again: Tensor | None) -> Tensor:
    """How many rows (B,) may be accepted."""
    inside = work.live.sum(0)
    if work.revisited_rows and again is None:
        return inside
    told = (torch.tensor(work.begin) + inside == len(system)) | (False if again is None else again.any(0))
    return torch.where(told, inside, inside - (inside * OVERLAP).ceil().long())


def becomes(system: System, variance: Tensor) -> Tensor:
    """G (N + 1, F): what a change of x[m] becomes in x[N] for Gaussian data of `variance` (F,)."""
    N, alpha, sigma = len(system), system.alpha[:, None], system.sigma[:, None]
    J = alpha * variance / (alpha**2 * variance + sigma**2).clamp(min=1e-30)  # (N, F)
    P = J.new_zeros(system.taps, N + 1, 1, len(variance))  # place j is row N - j
    for k in range(system.taps):
        P[k, k + 1 :, 0] = (system.b[k:, k, None] * J[: N - k]).flip(0)
    P[0, 1:, 0] += system.a.flip(0)[:, None]
    last = J.new_zeros(N + 1, 1, len(variance))
    last[0] = P[0, 0] = 1
    G = recur_rows(last, P) if system.taps > 1 else P[0].cumprod(0)
    return G[:, 0].flip(0).abs().nan_to_num(1.0).clamp(max=MOST)


def share(system: System) -> Tensor:
    """The share (N,) of the tolerance that may be spent by the end of each row."""
    N = len(system)
    even = torch.arange(1, N + 1, device=system.a.device, dtype=system.a.dtype) / N
    level = (system.alpha.clamp(min=0.05) / system.sigma.clamp(min=0.01)).log().cummax(0).values
    after = torch.cat([level[1:], 2 * level[-1:] - level[-2:-1] if N > 1 else level]) - level[0]
    return even if after[-1] <= 0 else even + BY_LEVEL * (after / after[-1] - even)
