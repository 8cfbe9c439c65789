"""A device and a chain that are made up: what `auto` decides, call by call, without a model and in computed seconds.

    rows a round = 1 / (1 / W + q[n] / W^(1/3)),    q grows along the chain, as it does where noise levels change fast

A fresh window accepts a third of that, and one that became wider what the window before held: rows must be seen twice.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from paradigms.execution.clock import Clock
from paradigms.window.auto.controller import powers_of_two, window_of
from paradigms.window.auto.profile import CPU, RoundTimes
from paradigms.window.controller import FixedWindow, WindowController

SIZE, TOLERANCE = 256, 0.003  # bytes of a state; what is asked
Seconds = Callable[[int], float]
Noise = Callable[[float], float]


class ReadClock(Clock):
    """A clock that others set."""

    def read(self) -> tuple[float, float]:
        return self.inside, self.outside


@dataclass
class ReadEvaluator:
    """What has a clock."""

    clock: ReadClock = field(default_factory=ReadClock)


@dataclass(frozen=True)
class Call:
    """What one call came to: its seconds, its rounds, the window of each, and what it said."""

    seconds: float
    windows: list[int]
    controller: WindowController

    @property
    def rounds(self) -> int:
        return len(self.windows)


def exact(seconds: float) -> float:
    """No noise."""
    return seconds


def jitter(seed: int, deviation: float) -> Noise:
    """Other work that takes such a share more, in the mean of all."""
    draw = random.Random(seed)
    return lambda seconds: seconds * (1 + abs(draw.gauss(0, deviation)))


def busy(seed: int) -> Noise:
    """A busy machine's: every third time is up to five times as long."""
    draw = random.Random(seed)
    return lambda seconds: seconds * (draw.uniform(1, 5) if draw.random() < 1 / 3 else draw.uniform(1, 1.05))


@dataclass
class SimulatedModel:
    """Calls of a model that takes `inside(W)` seconds a round and `outside(W)` beside it, on chains of N rows.

    hard: q at the usual tolerance, in units of 1 / sqrt(N).
    """

    N: int
    inside: Seconds
    outside: Seconds = lambda W: 1e-4 if W == 1 else 1e-3
    hard: float = 2.2
    noise: Noise = exact
    seed: int = 0
    known: RoundTimes = field(default_factory=lambda: RoundTimes(CPU))

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def auto(self) -> Call:
        """A call whose window picks itself."""
        windows = powers_of_two(self.N, SIZE)
        return self.call(window_of(self.known, "chain", self.N, TOLERANCE, windows, SIZE))

    def fixed(self, W: int) -> Call:
        """A call with one window."""
        return self.call(FixedWindow(W, self.N))

    @property
    def stepping(self) -> float:
        """Seconds of the sequential sampler."""
        return self.N * (self.inside(1) + self.outside(1))

    def best(self, calls: int = 6) -> float:
        """Seconds of the best fixed window, stepping included."""
        grid = [W for W in (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128) if W <= self.N]
        return min(self.stepping, *(sum(self.fixed(W).seconds for _ in range(calls)) / calls for W in grid))

    def call(self, controller: WindowController) -> Call:
        """A call with the windows of a controller."""
        evaluate = ReadEvaluator()
        clock, n, seen, before, windows = evaluate.clock, 0, 0, 0.0, list[int]()
        sample = math.exp(self.draw.gauss(0, 0.12))  # samples differ
        while n < self.N:
            W, steps = controller.next(n)
            count = min(steps, self.N - n) if W <= 1 else self.accepted(n, W, seen, sample)
            for _ in range(count if W <= 1 else 1):
                rows = min(W, self.N - n)
                clock.outside += before
                clock.inside += self.noise(self.inside(rows))
                before = self.noise(self.outside(rows))
                windows.append(W)
            if W <= 1:
                controller.on_steps(n, count, evaluate)
            else:
                controller.on_round(n, W, rows, count, evaluate)
            n, seen = n + count, rows if W > 1 else 0
        return Call(clock.inside + clock.outside + before, windows, controller)

    def accepted(self, n: int, W: int, seen: int, sample: float) -> int:
        """Rows that a round from row n on moves by; seen: rows of the window before."""
        rows = min(W, self.N - n)
        q = self.hard / self.N**0.5 * sample * (0.4 + 1.8 * (n / self.N) ** 2)
        most = 1 / (1 / rows + q / rows ** (1 / 3))
        if seen < rows:
            most = min(most, max(0.9 * seen, 1.0) if seen else max(0.35 * rows, 1.0))
        return min(max(int(most + self.draw.random()), 1), rows)
