"""The seconds that the best window was expected to take, beside those of stepping: the reason of a choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """What a window was expected to take, beside stepping.

    Args:
        window: Its rows.
        rows: Of the chain.
        rounds: Expected for the chain.
        seconds: Expected for these rounds.
        stepping_seconds: Expected for stepping through the chain.
    """

    window: int
    rows: int
    rounds: float
    seconds: float
    stepping_seconds: float

    @property
    def ratio(self) -> float:
        """The time with the window, in times of stepping."""
        return self.seconds / self.stepping_seconds

    def __str__(self) -> str:
        round, step = 1e3 * self.seconds / self.rounds, 1e3 * self.stepping_seconds / self.rows
        return (
            f"a window of {self.window} would take {self.ratio:.2f} times as long as stepping here: a round of it "
            f"takes {round:.3g} ms, a step {step:.3g} ms"
        )
