"""The seconds in which a thread was ready to run but waited for a processor, which are not its own work."""

from __future__ import annotations

import os
import threading


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
