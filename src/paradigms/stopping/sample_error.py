"""One sample of the rule `FinalError`, in the letters of that file and in plain numbers, row by row:

    eps = (sum change[n] + tiny eps) / (sum_{m <= n} moved[m] + tiny)         over the rows n evaluated again
    E[n+1] = E[n] + each[n],    each[n] = margin eps excess[n] moved[n],    moved[n] = change[n-1]
    S[n+1] = rho[n] (S[n] + each[n])
    size[n] = max(E[n+1] / (tolerance share[n]), early[n] plain[n] / early, apart[n] / (LARGEST_GAP std[n]))

change[n] is |change of x[n+1]|_{n+1}, plain[n] its RMS over the state's, apart[n] the RMS of x[n+1] - y[n]. A round has
a few hundred such numbers, for which calls of torch take ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .rounding import largest
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


class Limits(NamedTuple):
    """The arguments of `FinalError` of the same names."""

    tolerance: float
    margin: float
    early: float


class SampleError(NamedTuple):
    """What is remembered of a sample from round to round.

    Attributes:
        moved, rho: Of the rows of the window.
        eps: As it was last.
        spent: E of the accepted rows.
        grown: S of the accepted rows.
        worst: The largest S so far, which is the estimate.
    """

    moved: list[float]
    rho: list[float]
    eps: float = FIRST_EPS
    spent: float = 0.0
    grown: float = 0.0
    worst: float = 0.0

    def shifted(self, stride: int, more: int) -> SampleError:
        """The same after the window moved up by `stride` rows and became `more` longer; the last row is repeated."""
        moved, rho = ((v[stride:] + v[-1:] * (stride + max(more, 0)))[: len(v) + more] for v in (self.moved, self.rho))
        return self._replace(moved=moved, rho=rho)


class SampleRound(NamedTuple):
    """What a round showed of a sample, for each row of the window.

    Attributes:
        change, plain, apart: See above.
        own: |x[n+1] - y[n]|_{n+1}, where the method accepts rows by that.
        seen: Whether the row was evaluated before.
        live: Whether it was evaluated in this round.
        rho: The growth that was measured; None where it was not.
        rows: What the table says.
    """

    change: Sequence[float]
    plain: Sequence[float]
    apart: Sequence[float]
    own: Sequence[float] | None
    seen: Sequence[bool]
    live: Sequence[bool]
    rho: Sequence[float | None]
    rows: Sequence[RowFacts]


class SampleErrors(NamedTuple):
    """What follows: size, whether a row is settled, E and S at its end, moved and rho, for each row; eps."""

    size: list[float]
    settled: list[bool]
    E: list[float]
    S: list[float]
    moved: list[float]
    rho: list[float]
    eps: float

    def accepted(self, before: SampleError, count: int) -> SampleError:
        """What is remembered once so many rows are accepted; 0 of a sample that has none left."""
        if not count:
            return before._replace(moved=self.moved, rho=self.rho, eps=self.eps)
        E, S = self.E[count - 1], self.S[count - 1]
        return SampleError(self.moved, self.rho, self.eps, E, S, largest(before.worst, S))


def sample_errors(limits: Limits, before: SampleError, now: SampleRound) -> SampleErrors:
    """What a round says of a sample."""
    tolerance, margin, early = limits
    eps, usual = error_rate(tolerance, before, now)
    first, total, change = max(eps, FIRST_EPS), 0.0, 0.0
    E, S, found = before.spent, before.grown, SampleErrors([], [], [], [], [], [], eps)
    for w, row in enumerate(now.rows):
        moved = change if now.live[w] else change + before.moved[w]  # of x[n]
        total += moved
        if now.own is None:
            each = margin * (eps if now.seen[w] else first) * min(max(total / usual, 1.0), LARGEST_EXCESS) * moved
        else:
            each = margin * now.own[w]
        rho, change = now.rho[w], now.change[w]
        rho = before.rho[w] if rho is None else rho
        E, S = E + each, rho * (S + each)
        spent, still = E / max(tolerance * row.share, 1e-30), now.plain[w] / early if row.early else 0.0
        size = largest(largest(spent, still), now.apart[w] / (LARGEST_GAP * row.std))
        found.settled.append(size <= 1 and (now.live[w] or now.seen[w]))
        found.size.append(size)
        found.E.append(E)
        found.S.append(S)
        found.moved.append(moved)
        found.rho.append(rho)
    return found


def error_rate(tolerance: float, before: SampleError, now: SampleRound) -> tuple[float, float]:
    """eps, and how far the rows that it was measured on had moved on the average, which `excess` is relative to."""
    off = of = total = 0.0
    measured, tiny = 0, NEGLIGIBLE_CHANGE * tolerance
    for change, moved, seen, live in zip(now.change, before.moved, now.seen, now.live, strict=True):
        total += moved
        if seen and live:
            off, of, measured = off + change, of + total, measured + 1
    eps = (off + tiny * before.eps) / (of + tiny)
    eps = eps if eps < float("inf") else 1.0
    return max(eps, LEAST_EPS_RATIO * before.eps, LEAST_EPS), of / max(measured, 1) + tiny
