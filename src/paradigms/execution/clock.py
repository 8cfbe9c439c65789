"""The clock: seconds inside of model calls and outside of them. All decisions by time use it.

    | call |  outside  | call |  pause  | call |

A GPU works after it was asked to, so a call on it is timed by two events on its own stream, and nobody waits for it:
the events are read when the round has waited for the device anyway, to be told how far the states moved.

    inside += t(end) - t(begin) on the device,    outside += what is left of the seconds here

The seconds for decisions leave out those in which this thread was ready but others had the processor, where the system
counts them and while `exact` is set, see `processor_wait.py`: on a busy machine single calls take several times as long
as they need. The clock of a team, see `team_clock.py`, shows the same numbers on all ranks, so that all ranks decide
alike.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from .processor_wait import waited


class Clock:
    """Counts from one call to the next; a pause counts as neither. exact: whether waits for a processor are counted."""

    exact = False  # counting takes microseconds, a share of the smallest models' calls

    def __init__(self) -> None:
        self.inside = self.outside = 0.0
        self.last: float | None = None
        self.waits = [0.0, 0.0]  # of the seconds inside and outside, those spent waiting for a processor
        self.waited = 0.0
        self.begun: torch.cuda.Event | None = None  # on a GPU, the begin of the call that is being made
        self.call: tuple[torch.cuda.Event, torch.cuda.Event] | None = None  # begin and end of one not yet counted

    @property
    def own(self) -> Clock:
        """The clock of calls that nobody shares."""
        return self

    def enter(self, x: Tensor | None = None) -> None:
        """A call begins, on x; of None on the GPU that is current, where one is in use."""
        self.settle()
        seconds = time.perf_counter()
        if self.last is not None:
            self.outside += seconds - self.last
        self.last, self.begun = seconds, event_on(x)
        self.wait(1)

    def leave(self, x: Tensor | None = None) -> None:
        """The call ends; of one on a GPU it is known later how long it took."""
        if self.begun is not None and (ended := event_on(x)) is not None:
            self.call, self.begun = (self.begun, ended), None
        else:
            seconds = time.perf_counter()
            self.inside += seconds - (self.last or seconds)
            self.last = seconds
        self.wait(0)

    def settle(self) -> None:
        """Counts the last call of a GPU. It has ended by now wherever a round was told what came of it."""
        if self.call is not None:
            (begun, ended), self.call = self.call, None
            if not ended.query():
                ended.synchronize()
            seconds = time.perf_counter()
            passed = seconds - (self.last or seconds)
            inside = min(begun.elapsed_time(ended) / 1000, passed)
            self.inside, self.outside, self.last = self.inside + inside, self.outside + passed - inside, seconds

    @property
    def seconds(self) -> float:
        """Seconds inside so far."""
        self.settle()
        return self.inside

    def pause(self) -> None:
        """Somebody else's work begins."""
        self.settle()
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
        self.settle()
        return self.inside - self.waits[0], self.outside - self.waits[1]


def event_on(x: Tensor | None) -> torch.cuda.Event | None:
    """An event in the work of x's GPU, of None of the current one; None where there is no GPU."""
    gpu = (torch.cuda.is_available() and torch.cuda.is_initialized()) if x is None else x.device.type == "cuda"
    if not gpu:
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(None if x is None else x.device))
    return event
