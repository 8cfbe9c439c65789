"""The clock: seconds inside of model calls and outside of them. All decisions by time use it.

    | call |  outside  | call |  pause  | call |

The seconds for decisions leave out those in which this thread was ready but others had the processor, where the system
counts them and while `exact` is set, see `processor_wait.py`: on a busy machine single calls take several times as long
as they need. The clock of a team, see `team_clock.py`, shows the same numbers on all ranks, so that all ranks decide
alike.
"""

from __future__ import annotations

import time

from torch import Tensor

from ..distributed.device_time import now
from .processor_wait import waited


class Clock:
    """Counts from one call to the next; a pause counts as neither. exact: whether waits for a processor are counted."""

    exact = False  # counting takes microseconds, a share of the smallest models' calls

    def __init__(self) -> None:
        self.inside = self.outside = 0.0
        self.last: float | None = None
        self.waits = [0.0, 0.0]  # of the seconds inside and outside, those spent waiting for a processor
        self.waited = 0.0

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
        self.wait(1)

    def leave(self, x: Tensor | None = None) -> None:
        """The call ends."""
        seconds = now(None if x is None else x.device)
        self.inside += seconds - (self.last or seconds)
        self.last = seconds
        self.wait(0)

    def pause(self) -> None:
        """Somebody else's work begins."""
        if self.last is not None:
            self.outside += time.perf_counter() - self.last
            self.wait(1)
        self.last = None

    def resume(self) -> None:
        """It ended."""
        self.last = time.perf_counter()
        self.wait()

    def wait(self, outside: int | None = None) -> None:
        """Counts what was waited since it was last called, inside (0) or outside (1) of a call, or as neither."""
        if self.exact:
            before, self.waited = self.waited, waited()
            if outside is not None and before:
                self.waits[outside] += self.waited - before

    def read(self) -> tuple[float, float]:
        """Seconds inside and outside so far, without what was waited for a processor where that was counted."""
        return self.inside - self.waits[0], self.outside - self.waits[1]
