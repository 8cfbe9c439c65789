"""Seconds inside of model calls and outside of them: everything that is decided by time reads it here.

    | call |  outside  | call |  pause  | call |

A team's clock shows the slowest rank's seconds, the same numbers on all ranks, so that all decide alike.
"""

from __future__ import annotations

import time

from torch import Tensor

from .team import Team, now


class Clock:
    """Counts from one call to the next; a pause counts as neither."""

    def __init__(self) -> None:
        self.inside = self.outside = 0.0
        self.last: float | None = None

    @property
    def own(self) -> Clock:
        """The clock of calls that nobody shares."""
        return self

    def enter(self, x: Tensor | None = None) -> None:
        """A call begins, on x."""
        seconds = now(None if x is None else x.device)
        if self.last is not None:
            self.outside += seconds - self.last
        self.last = seconds

    def leave(self, x: Tensor | None = None) -> None:
        """The call ends."""
        seconds = now(None if x is None else x.device)
        self.inside += seconds - (self.last or seconds)
        self.last = seconds

    def pause(self) -> None:
        """Somebody else's work begins."""
        if self.last is not None:
            self.outside += time.perf_counter() - self.last
        self.last = None

    def resume(self) -> None:
        """It ended."""
        self.last = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Seconds inside and outside so far."""
        return self.inside, self.outside


class TeamClock(Clock):
    """The clock of calls that a team shares, read off what came with their answers; up to the call before, the wire's.

    Pauses are outside, for they keep the other ranks waiting. Calls that every rank makes alone are timed by its `own`
    clock, and agreed on when the clock is read.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team, self.alone = team, Clock()

    @property
    def own(self) -> Clock:
        return self.alone

    def enter(self, x: Tensor | None = None) -> None:
        """A call begins; the team times it."""

    def leave(self, x: Tensor | None = None) -> None:
        """The call ends."""
        agreed = self.team.agreed
        self.inside += agreed.model + agreed.wire
        self.outside += 0.0 if self.last is None else agreed.outside
        self.last = self.inside

    def pause(self) -> None:
        """Somebody else's work begins."""

    def resume(self) -> None:
        """It ended."""

    def read(self) -> tuple[float, float]:
        if self.alone.last is not None:
            inside, outside = self.team.slowest_of(self.alone.read())
            self.inside, self.outside, self.alone = self.inside + inside, self.outside + outside, Clock()
        return self.inside, self.outside
