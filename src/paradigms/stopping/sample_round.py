"""What a round showed of a sample, in the units of the rule `FinalError`, from the few numbers that were measured:

    change[n] = |change of x[n+1]|_{n+1} / |sample|, 0 within rounding      plain[n] = |change of x[n+1]| / |x[n+1]|
    |sample|  = max(|D|, what the state leaves unknown of it), see `sample_unit`

See `arithmetic.py` for how a few samples are computed, and many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..methods.spectrum import VARIANCE
from ..methods.work import Update, WindowState, row_places
from .arithmetic import NUMBERS, Arithmetic, Column, Number, Truth, of_column
from .error_growth import Change
from .rounding import unmoved_rounding
from .table_facts import RowFacts, TableFacts

# The smallest variance that data are believed to have: an early answer of 0 says little. Chosen by hand.
LEAST_VARIANCE = 1e-4


class Rows(NamedTuple):
    """What is known of the rows of a window before a round.

    Attributes:
        facts: What the table says.
        seen: Whether the row was evaluated before.
        live: Whether it was evaluated in this round.
        inside: How many rows lie in the chain.
        ends: Whether the chain ends with them.
    """

    facts: Column
    seen: Column
    live: Column
    inside: Number
    ends: Truth


class SampleRound(NamedTuple):
    """What a round showed of a sample, or of all, for each row of the window.

    Attributes:
        change, plain: See above.
        norm: |x[n+1]|.
        apart: The RMS of x[n+1] - y[n].
        own: |x[n+1] - y[n]|_{n+1}, where the method accepts rows by that.
        rho: The growth that was measured; no number where it was not.
        along: How much of it comes from the answer along the state's change, 0 where it was not measured.
        rows, seen, live, inside, ends: As in `Rows`.
    """

    change: Column
    plain: Column
    norm: Column
    apart: Column
    own: Column | None
    rho: Column
    along: Column
    rows: Column
    seen: Column
    live: Column
    inside: Number
    ends: Truth


def sample_rounds(
    work: WindowState, sweep: Update, known: TableFacts, told: Tensor, norms: Sequence[Column]
) -> Iterator[SampleRound]:
    """The rounds of each sample, or of all at once, by what was measured (M, B); norms: of the rows' states before."""
    W, N, B, live = len(work.n), len(known.rows), told.shape[1], sweep.live
    if of_column(norms[0]) is NUMBERS:
        k, alike = work.revisited_rows, work.on is None and work.revisited is None and live is work.live
        seen = [[True] * k + [False] * (W - k)] * B if alike else (work.seen > 0).T.tolist()
        evaluated = [[True] * W] * B if alike else live.T.tolist()
        each = zip(zip(*told.tolist(), strict=True), work.begin, work.inside, seen, evaluated, norms, strict=True)
        for numbers, begin, inside, before, now, norm in each:
            facts = [known.rows[min(n, N - 1)] for n in range(begin, begin + W)]
            rows = Rows(facts, before, now, inside, begin + inside == N)
            yield sample_round(work, sweep, known, numbers, (rows, facts[:k], norm[:k]))
    else:
        first, count = torch.tensor(work.begin), torch.tensor(work.inside)
        of_rows = known.columns[:, (first + row_places(W)).clamp(max=N - 1)]  # (of a row, W, B)
        k = work.revisited_rows
        both = [RowFacts._make([c[0], c[1] > 0, *c[2:]]) for c in (of_rows, of_rows[:, :k])]
        rows = Rows(both[0], work.seen > 0, live, count, first + count == N)
        yield sample_round(work, sweep, known, told, (rows, both[1], norms[0][:k]))


def sample_round(
    work: WindowState, sweep: Update, known: TableFacts, told: Column, of_rows: tuple[Rows, Column, Column]
) -> SampleRound:
    """The round by the numbers that `FinalError.measure` told; of_rows: what is known of the rows, and of the first,
    which were evaluated before, the facts and the norms of their states."""
    (m, (rows, facts, norms)), W, k = (of_column(told), of_rows), len(work.n), work.revisited_rows
    root, unmoved = math.sqrt(math.prod(work.x.shape[2:])), unmoved_rounding(work)
    lengths = [W, 1, W, W, W, *[W] * (sweep.stride is not None), *[k] * (len(Change._fields) - 1)]
    ends = list(accumulate(lengths))
    apart, (size,), norm, total, weighted, *more = (
        told[last - n : last] for n, last in zip(lengths, ends, strict=False) if last <= len(told)
    )
    first = rows.facts[0] if m is NUMBERS else RowFacts(*(v[0] for v in rows.facts))
    size = sample_unit(m, size, norm[0], first, known.spectrum.size)
    plain = m.rows(lambda v, x: m.sqrt(v) / m.maximum(x, 1e-30 * root), total, norm)
    change = m.rows(lambda v, moved: m.sqrt(v) / size * (moved > unmoved), weighted, plain)
    own = None if sweep.stride is None else m.rows(lambda v: m.sqrt(v) / size, more.pop(0))
    rounding, none = max(unmoved, work.rounding), math.nan * size  # the rounding of an answer is no growth

    def growth(seen: Truth, live: Truth, row: RowFacts, *change: Number) -> Number:
        return m.where(seen & live, Change(*change).growth(m, row, rounding), none)

    def answered(rho: Number, row: RowFacts, *change: Number) -> Number:
        return m.where(rho == rho, Change(*change).along(m, row), 0.0)

    rho = m.rows(growth, rows.seen[:k], rows.live[:k], facts, *more, norms) if more and k else []
    along = m.rows(answered, rho, facts, *more, norms) if more and k and not work.turned else []
    return SampleRound(change, plain, norm, apart, own, m.filled(rho, W, none), m.filled(along, W, 0.0 * size), *rows)


def sample_unit(m: Arithmetic, D: Number, x: Number, row: RowFacts, usual: float) -> Number:
    """The norm that the sample counts as having: that of the denoised estimate D, or what x leaves unknown of it.

    Of Gaussian data of variance v it is D = alpha v x / (alpha^2 v + sigma^2), which tells v; what is left unknown has
    the variance v sigma^2 / (alpha^2 v + sigma^2). Data of standard deviation 0.03 to 0.1 missed the tolerance by up to
    24 times where their norm counted as usual at least. D, x: the norms of both; usual: where v is `VARIANCE`.
    """
    ratio, s2 = D / m.maximum(x, 1e-30), row.sigma * row.sigma
    found = s2 * ratio / m.maximum(row.alpha * (1 - row.alpha * ratio), 1e-12)
    v = m.maximum(m.minimum(found, VARIANCE), LEAST_VARIANCE)
    return m.maximum(D, m.sqrt(s2 / m.maximum(row.alpha * row.alpha * v + s2, 1e-30) * (v / VARIANCE)) * usual)
