"""Seconds inside of model calls and outside of them: everything that is decided by time reads it here.

    | call |  outside  | call |  pause  | call |

What is decided by leaves out, where the system counts it and while `exact`, the seconds in which this thread was ready
and others had the processor: on a busy machine single calls take several times as long as they need.
A team's clock shows the slowest rank's seconds, the same numbers on all ranks, so that all decide alike.
"""

from __future__ import annotations

import os
import threading
import time

from torch import Tensor

from ..distributed.team import Team, now


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


class Waits:
    """The seconds in which one thread was ready to run and waited for a processor, as Linux counts them.

    Source: Linux, Documentation/scheduler/sched-stats, /proc/<pid>/schedstat: seconds on a processor, seconds waiting.
    """

    def __init__(self) -> None:
        self.process, self.file = os.getpid(), os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def __call__(self) -> float:
        return int(os.pread(self.file, 64, 0).split()[1]) / 1e9

    def __del__(self) -> None:
        if hasattr(self, "file"):
            os.close(self.file)


_threads = threading.local()


def waited() -> float:
    """The seconds that this thread waited for a processor so far; 0 where the system does not count them."""
    try:
        if not hasattr(_threads, "waits") or _threads.waits.process != os.getpid():  # a fork's file is its parent's
            _threads.waits = Waits()
        return _threads.waits()  # type: ignore[no-any-return]
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0


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
