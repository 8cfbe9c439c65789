"""`FrameRecord`: what is kept of a frame, so small that many single steps take no more memory than one.

(begin, end, evaluations so far)        of every round: the first row of the slowest sample, and the row after the
                                        last one of the fastest
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Span = tuple[int, int, int]


class FrameRecord(NamedTuple):
    """What is kept of a frame.

    Attributes:
        begin: The first row of each sample.
        stride: The rows accepted of each sample.
        residual: Of each sample.
        end: The row after the last one of all samples.
        evaluations: So far.
        window: Its rows.
        single: How many single steps these are, 0 for a round of a window.
        taking: The samples that took part; None for those of which rows were accepted.
    """

    begin: Sequence[int]
    stride: Sequence[int]
    residual: Sequence[float]
    end: int
    evaluations: int
    window: int
    single: int
    taking: list[int] | None = None

    def rounds(self) -> list[Span]:
        """Its rounds, each single step as one of them."""
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
