"""What is kept of a round, little enough that a stretch of steps costs no more than one.

(begin, end, evals by then)     of every round: the slowest sample's first row, the row after the fastest's last
"""

from __future__ import annotations

from typing import NamedTuple

Span = tuple[int, int, int]


class FrameRecord(NamedTuple):
    """Of a frame: first rows, rows accepted and residuals of each sample, the last row's next, evaluations by then."""

    begin: list[int]
    stride: list[int]
    residual: list[float]
    end: int
    evaluations: int
    window: int
    single: int  # steps, 0 where it is a round of a window
    taking: list[int] | None = None  # the samples that took part, None: those of which rows were accepted

    def rounds(self) -> list[Span]:
        """The trace of it, a round a row of a stretch."""
        begin, last, B, m, evaluations = (
            min(self.begin),
            max(self.begin),
            len(self.begin),
            self.single,
            self.evaluations,
        )
        if not m:
            return [(begin, self.end, evaluations)]
        if begin == last:
            return [(begin + k, begin + k + 1, evaluations - B * (m - 1 - k)) for k in range(m)]
        after = [sum(max(rows - k - 1, 0) for rows in self.stride) for k in range(m)]  # that were still to be evaluated
        return [(begin + k, min(last + k + 1, self.end), evaluations - after[k]) for k in range(m)]
