"""What a run measures: its networks, sizes and repeats, in full and small, and where it stands in its time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .device import Cpu

PARTS = {
    "latency": "a. A call: seconds and memory against rows",
    "ways": "b. Sequential and ours, eager and captured",
    "tables": "c. The policies', the scenes' and the pipeline's tables",
    "outside": "d. A round outside the network",
    "planner": "e. The plan against what was measured",
}


@dataclass(frozen=True)
class Settings:
    """How much is measured. sizes: rows of a call; seeds: samples of each way; longest: seconds of a call, beyond
    which no larger one is tried."""

    small: bool
    sizes: tuple[int, ...]
    repeats: int
    seeds: int
    longest: float
    fewer: int  # a chain of N steps has N / fewer of them

    def steps(self, steps: int) -> int:
        """Of a chain, at least 15."""
        return max(steps // self.fewer, 15)

    def windows(self, windows: tuple[int, ...], steps: int) -> tuple[int, ...]:
        """Of a chain of so many steps: those that are given, in small one that fits several times."""
        return (self.steps(steps) // 3,) if self.small else windows


FULL = Settings(False, tuple(2**k for k in range(8)), 5, 3, 1.0, 1)
SMALL = Settings(True, (1, 3), 2, 1, 1.5, 40)


@dataclass
class Bench:
    """The device, the settings and the clock of one run."""

    device: Cpu
    settings: Settings
    minutes: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return 60 * self.minutes - (time.monotonic() - self.began)
