"""Devices whose seconds are computed, not taken: what `auto` decides must not depend on the machine that tests it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

import paradigms as pd
from paradigms.execution.clock import Clock
from paradigms.window.controller import WindowController
from problems import seeded, start
from toy import Mixture

STEP, SWEEP = 1e-4, 1e-3  # seconds outside of the model, of a step and of a round


class Device:
    """The exact mixture, told to take `seconds` of M rows a call."""

    def __init__(self, seconds: Callable[[int], float], B: int = 1) -> None:
        self.mixture, self.seconds, self.B = Mixture(), seconds, B
        self.clocks: list[Computed] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x (M, d)."""
        return self.mixture(x, t)

    def agreed_clock(self) -> Computed:
        """The clock of a call of the sampler."""
        self.clocks.append(Computed(self))
        return self.clocks[-1]

    def sample(self, system: pd.System, seed: int = 1, **how: object) -> tuple[pd.Solution, float]:
        """A solution, and the seconds it took."""
        x = start(system, self.B)
        solution = pd.sample(self, system, x, generator=seeded(seed), **how)  # type: ignore[arg-type]
        return solution, self.clocks[-1].inside + self.clocks[-1].outside

    def stepping(self, system: pd.System) -> float:
        """The seconds of the sequential sampler."""
        return len(system) * self.seconds(self.B) + (len(system) - 1) * STEP


class Computed(Clock):
    """The clock of a device."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device, self.rows = device, 0

    def enter(self, x: Tensor) -> None:
        self.outside += (STEP if self.rows == self.device.B else SWEEP) if self.rows else 0.0

    def leave(self, x: Tensor) -> None:
        self.rows = len(x)
        self.inside += self.device.seconds(self.rows)

    def pause(self) -> None:
        """Nobody else's work takes time here."""

    def resume(self) -> None:
        """Nor ends."""


def flat(M: int) -> float:
    """Room for every row."""
    return 0.01 + 1e-6 * M


def linear(M: int) -> float:
    """A row costs a row."""
    return 0.01 * M


def knee(M: int) -> float:
    """Room for 16 rows."""
    return 0.01 * max(1.0, M / 16)


class Scheduled(WindowController):
    """Windows in a given order, again and again; a negative number stands for so many steps."""

    def __init__(self, windows: list[int]) -> None:
        self.windows, self.asked = windows, 0

    def next(self, row: int) -> tuple[int, int]:
        self.asked += 1
        window = self.windows[self.asked % len(self.windows)]
        return (1, -window) if window < 0 else (window, 1)
