"""Which rank has which rows of a call, and what ranks know alike of the time it took.

    rank r of R has M / R rows, rounded up or down;    seconds = most of a rank in the model + least of one on the wire

Ranks that decide by time must decide alike, so they decide by what all of them know, see `execution/team_clock.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AgreedSeconds:
    """What all ranks know alike of a call: seconds of the slowest in the model, and outside of it since the last call.

    wire: what the rank that came last waited for the gather of the call before this one.
    """

    model: float = 0.0
    outside: float = 0.0
    wire: float = 0.0


@dataclass(frozen=True)
class Sharing:
    """What the ranks of a mesh evaluated and exchanged.

    Attributes:
        rows: Evaluations of each rank.
        calls: Batches that were shared.
        wire_bytes: Received by each rank.
        wire_seconds: What the last rank of each batch waited for the answers of the others.
    """

    rows: tuple[int, ...]
    calls: int
    wire_bytes: int
    wire_seconds: float

    def __add__(self, other: Sharing) -> Sharing:
        """Both."""
        rows = tuple(a + b for a, b in zip(self.rows, other.rows, strict=True))
        calls, wire_bytes = self.calls + other.calls, self.wire_bytes + other.wire_bytes
        return Sharing(rows, calls, wire_bytes, self.wire_seconds + other.wire_seconds)


def partition_rows(M: int, R: int, turn: int) -> list[tuple[int, int]]:
    """Of every rank the first of its rows, of M, and the first beyond; R ranks, from `turn` on some have a row more.

    Where the turn goes on by M each time, what ranks have had differs by one row at most, in a round and in all.
    """
    some, over = divmod(M, R)
    sizes = [some + ((r - turn) % R < over) for r in range(R)]
    return [(sum(sizes[:r]), sum(sizes[: r + 1])) for r in range(R)]
