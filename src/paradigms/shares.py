"""Which rank has which rows of a call, and what ranks know alike of the time it took.

    rank r of R has M / R rows, rounded up or down;    seconds = most of a rank in the model + least of one on the wire

Ranks that decide by time must decide alike, so they read clocks that say the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Agreed:
    """What all ranks know alike of a call: seconds of the slowest in the model, and outside of it since the last call.

    wire: what the rank that came last waited for the gather of the call before this one. note: the first given.
    """

    model: float = 0.0
    outside: float = 0.0
    wire: float = 0.0
    note: float = 0.0


@dataclass(frozen=True)
class Sharing:
    """What a team spent. rows: evaluated by each rank; calls: shared out; wire_bytes: received by each rank in them.

    wire_seconds: what the rank that came last in each call waited for the others' answers, but for the last call.
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


class AgreedClock:
    """The times of a team's calls, the same on all ranks: seconds inside of a call, of the slowest rank and the wire's,
    and outside, from one call to the next; a pause counts as neither. As `Clock` in execute.py.
    """

    def __init__(self, team: Any) -> None:
        self.team, self.inside, self.outside, self.since = team, 0.0, 0.0, time.perf_counter()

    def enter(self, x: Tensor | None = None) -> None:
        """A call begins; the team will say when."""

    def leave(self, x: Tensor | None = None) -> None:
        """The call ended."""
        agreed = self.team.agreed
        self.inside, self.outside = self.inside + agreed.model + agreed.wire, self.outside + agreed.outside

    def pause(self) -> None:
        """Somebody else's work begins."""
        self.since = time.perf_counter()

    def resume(self) -> None:
        """It ended."""
        if self.team.ended is not None:
            self.team.ended += time.perf_counter() - self.since


def shares(M: int, R: int, turn: int) -> list[tuple[int, int]]:
    """Of every rank the first of its rows, of M, and the first beyond; R ranks, from `turn` on some have a row more.

    Where the turn goes on by M each time, what ranks have had differs by one row at most, in a round and in all.
    """
    some, over = divmod(M, R)
    sizes = [some + ((r - turn) % R < over) for r in range(R)]
    return [(sum(sizes[:r]), sum(sizes[: r + 1])) for r in range(R)]
