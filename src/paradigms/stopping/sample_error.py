"""What the rule `FinalError` says of a sample, or of all samples of a large batch at once, row by row:

    eps = (sum change[n] + tiny eps) / (sum_{m <= n} moved[m] + tiny)         over the rows n evaluated again
    E[n+1] = E[n] + each[n],    each[n] = margin eps excess[n] moved[n],    moved[n] = change[n-1]
    S[n+1] = rho[n] (S[n] + each[n])
    size[n] = max(E[n+1] / (tolerance share[n]), early[n] plain[n] / early, apart[n] / (LARGEST_GAP std[n]))

A sample is `turning`, and S says nothing of it, where the answers turn against the states and a change grows:

    sum max(-along, 0) > LARGEST_AGAINST sum |along|,    max rho > LARGEST_TURNING_GROWTH        over all rounds

change[n] is |change of x[n+1]|_{n+1}, plain[n] its RMS over the state's, apart[n] the RMS of x[n+1] - y[n]. See
`arithmetic.py` for how a few samples are computed, and many.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .arithmetic import DTYPE, NUMBERS, Arithmetic, Column, Number, Truth, of_column
from .sample_round import SampleRound
from .table_facts import RowFacts

# The smallest eps: no correction is ever believed to be perfect. Chosen by hand.
LEAST_EPS = 1e-6
# The smallest eps of a row that was evaluated once only. Of 6,912 samples of narrow modes (width 0.1) 80 were beyond
# the tolerance without it, by up to 4.4 times; with it and `row_weight` none of 17,280, in 1.02 times the rounds.
FIRST_EPS = 0.1
# The smallest ratio of eps to its value in the round before, so that one lucky round says little. Chosen by hand.
LEAST_EPS_RATIO = 0.1
# States that moved by less than this share of the tolerance leave eps nearly as it was: they moved too little to
# measure it. Chosen by hand.
NEGLIGIBLE_CHANGE = 0.01
# The largest `excess`, a factor on the estimate. Without the factor, DPM-Solver of 20 steps with a window of 8 was up
# to 41 times the tolerance off; with it 2.7 times.
LARGEST_EXCESS = 30.0
# The largest distance of a settled state from the model's own step (rule 2), in units of that step's noise. Accepted
# rows of trained models lie within 0.4; rows of tables whose levels are those of no denoiser lie at 1300.
LARGEST_GAP = 3.0
# The share of answers that turn against the states, and the growth, up to which S is believed. Of samples of mixtures,
# two Gaussians and shipped networks the share is at most 0.12, with guidance, and the growth of those 1.4; without
# guidance it is 0.01 at most. Of random sines of the state (`tests/stopping/test_turning.py`) the share is 0.5 to 0.9.
# Those that turn four times over the data have a growth of 2 to 7, and 8 % of them missed the tolerance.
LARGEST_AGAINST = 0.2
LARGEST_TURNING_GROWTH = 2.0


class Limits(NamedTuple):
    """The arguments of `FinalError` of the same names."""

    tolerance: float
    margin: float
    early: float


class SampleError(NamedTuple):
    """What is remembered of a sample, or of all, from round to round.

    Attributes:
        moved, rho, norm: Of the rows of the window; the norm of a row's state is 0 where it was not measured.
        eps: As it was last.
        spent: E of the accepted rows.
        grown: S of the accepted rows.
        worst: The largest S so far, which is the estimate; infinity of a sample that is turning.
        against, along: The sums of max(-along, 0) and of |along| so far.
        steepest: The largest rho so far.
    """

    moved: Column
    rho: Column
    norm: Column
    eps: Number = FIRST_EPS
    spent: Number = 0.0
    grown: Number = 0.0
    worst: Number = 0.0
    against: Number = 0.0
    along: Number = 0.0
    steepest: Number = 0.0

    @classmethod
    def at_first(cls, m: Arithmetic, W: int, B: int) -> tuple[SampleError, ...]:
        """Of each of B samples, or of all."""
        if m is NUMBERS:
            return (cls([0.0] * W, [1.0] * W, [0.0] * W),) * B
        zero, one = torch.zeros(W, B, dtype=DTYPE), torch.ones(W, B, dtype=DTYPE)
        return (cls(zero, one, zero, FIRST_EPS * one[0], *[zero[0]] * 6),)

    def shifted(self, stride: int | Tensor, more: int) -> SampleError:
        """The same after the window moved up by `stride` rows and became `more` longer; the last row is repeated."""
        W, last = len(self.moved) + more, len(self.moved) - 1
        if isinstance(self.moved, Tensor):
            at = (torch.arange(W)[:, None] + stride).clamp(max=last).expand(W, self.moved.shape[1])
            return self._replace(**{k: getattr(self, k).gather(0, at) for k in ("moved", "rho", "norm")})
        rows = [min(w + int(stride), last) for w in range(W)]
        return self._replace(**{k: [getattr(self, k)[w] for w in rows] for k in ("moved", "rho", "norm")})


def told_alike(samples: tuple[SampleError, ...], m: Arithmetic) -> tuple[SampleError, ...]:
    """What is remembered of whole samples, in an arithmetic that may be another; of the rows it keeps nothing then."""
    if of_column(samples[0].moved) is m:
        return samples
    told = [[getattr(sample, k) for sample in samples] for k in SampleError._fields[3:]]
    if m is NUMBERS:
        return tuple(SampleError([], [], [], *row) for row in torch.stack([v[0] for v in told], 1).tolist())
    none = torch.zeros(0, len(samples), dtype=DTYPE)
    return (SampleError(none, none, none, *torch.tensor(told, dtype=DTYPE)),)


class SampleErrors(NamedTuple):
    """What follows of each row: size, whether it is settled, E and S at its end, moved, rho and norm; eps, and whether
    it was measured; and what `SampleError` remembers of the answers' turns."""

    size: Column
    settled: Column
    E: Column
    S: Column
    moved: Column
    rho: Column
    norm: Column
    eps: Number
    measured: Truth
    against: Number
    along: Number
    steepest: Number

    @property
    def turning(self) -> Truth:
        """Whether the answers turn against the states, so that S says nothing of the error."""
        return (self.against > LARGEST_AGAINST * self.along) & (self.steepest > LARGEST_TURNING_GROWTH)

    def accepted(self, m: Arithmetic, before: SampleError, count: Any) -> SampleError:
        """What is remembered once so many rows are accepted; 0 of a sample that has none left."""
        some, row = count > 0, m.maximum(count - 1, 0)
        S = m.where(some, m.at(self.S, row), before.grown)
        spent = m.where(some, m.at(self.E, row), before.spent)
        worst = m.where(self.turning, math.inf, m.maximum(before.worst, S))
        turns = self.against, self.along, self.steepest
        return SampleError(self.moved, self.rho, self.norm, self.eps, spent, S, worst, *turns)


def sample_errors(m: Arithmetic, limits: Limits, before: SampleError, now: SampleRound) -> SampleErrors:
    """What a round says of a sample, or of all."""
    tolerance, margin, early = limits
    eps, usual, measured = error_rate(m, tolerance, before, now)
    first = m.maximum(eps, FIRST_EPS)

    def error(moved: Number, total: Number, seen: Truth) -> Number:
        excess = m.minimum(m.maximum(total / usual, 1.0), LARGEST_EXCESS)
        return margin * m.where(seen, eps, first) * excess * moved

    def size_of(E: Number, row: RowFacts, plain: Number, apart: Number) -> Number:
        spent, still = E / m.maximum(tolerance * row.share, 1e-30), m.where(row.early, plain / early, 0.0)
        return m.maximum(m.maximum(spent, still), apart / (LARGEST_GAP * row.std))

    moved = m.rows(
        lambda live, last, old: m.where(live, last, last + old), now.live, m.before(now.change), before.moved
    )
    if now.own is None:
        each = m.rows(error, moved, m.sums(0.0 * eps, moved), now.seen)
    else:
        each = m.rows(lambda own: margin * own, now.own)
    rho = m.rows(lambda new, old: m.where(new == new, new, old), now.rho, before.rho)
    E, S = m.sums(before.spent, each), m.recur(before.grown, rho, each)
    size = m.rows(size_of, E, now.rows, now.plain, now.apart)
    settled = m.rows(lambda size, seen, live: (size <= 1) & (live | seen), size, now.seen, now.live)
    # The first state has moved past none: its norm is not asked for, for that row is always accepted.
    against = before.against + m.total(m.rows(lambda v: m.maximum(-v, 0.0), now.along))
    along = before.along + m.total(m.rows(abs, now.along))
    steepest = m.maximum(before.steepest, m.largest(rho))
    return SampleErrors(size, settled, E, S, moved, rho, m.before(now.norm), eps, measured, against, along, steepest)


def error_rate(m: Arithmetic, tolerance: float, before: SampleError, now: SampleRound) -> tuple[Number, Number, Truth]:
    """eps, how far the rows that it was measured on had moved on the average, which `excess` is relative to, and
    whether there were any."""
    tiny, again = NEGLIGIBLE_CHANGE * tolerance, m.rows(lambda seen, live: seen & live, now.seen, now.live)

    def if_again(on: Truth, v: Number) -> Number:
        return m.where(on, v, 0.0)

    off = m.total(m.rows(if_again, again, now.change))
    of = m.total(m.rows(if_again, again, m.sums(0.0 * before.eps, before.moved)))
    measured = m.total(again)
    eps = (off + tiny * before.eps) / (of + tiny)
    eps = m.where(eps < float("inf"), eps, 1.0)
    eps = m.maximum(m.maximum(eps, LEAST_EPS_RATIO * before.eps), LEAST_EPS)
    return eps, of / m.maximum(measured, 1) + tiny, measured > 0
