"""The clock of calls that a team of ranks shares: the slowest rank's seconds, the same numbers on all ranks."""

from __future__ import annotations

from torch import Tensor

from ..distributed.team import Team
from .clock import Clock


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
