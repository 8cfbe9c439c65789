"""What parallel calls of a policy took, and why they were made as they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..report import Run, describe_costs, widest

# How many reasons are kept. Chosen by hand.
MANY = 50


@dataclass
class PolicyRun(Run):
    """The report of a policy's calls, added up.

    rounds: network calls one after the other. evaluations: rows times samples that the network was asked. residual: the
    largest distance, in RMS and a step's standard deviation, of an accepted state from the step the network gave.
    fallbacks: why calls or samples were not in windows at all; reasons: why "auto" stepped. asked: the window that was
    asked for, widths: of those that there were, 1 for a step. own_calls, own_steps, own_seconds: what the policy's own
    loop made, also to compare with; table_steps, table_seconds: what parallel calls made. expected: what a window was
    expected to take. With `compare`, else None: max_error: the largest relative error |x - y| / |y| of a chunk, to that
    of the policy's own loop on the same noise; sequential_seconds: what that loop took for all calls; compare_seconds:
    for those that it made only to compare.
    """

    asked: Any = "auto"
    widths: set[int] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    expected: Any = None
    max_error: float | None = None
    sequential_seconds: float | None = None
    compare_seconds: float = 0.0
    own_calls: int = 0
    own_steps: int = 0
    own_seconds: float = 0.0
    table_steps: int = 0
    table_seconds: float = 0.0

    def note(self, why: str, stepped: bool = False) -> None:
        """A reason for the report, once."""
        kept = self.reasons if stepped else self.fallbacks
        if why not in kept and len(kept) < MANY:
            kept.append(why)

    def compared(self, error: float, seconds: float) -> None:
        """A call's error against the policy's own loop, and what that takes."""
        self.max_error = max(self.max_error or 0.0, error)
        self.sequential_seconds = (self.sequential_seconds or 0.0) + seconds

    @property
    def window(self) -> int:
        """The widest window that was evaluated, in steps; 1 where all was stepped."""
        return max(self.widths, default=1)

    @property
    def speedup(self) -> float | None:
        """Seconds of the policy's own loop for each of these, measured, else as expected; None where nobody can say."""
        seconds = self.table_seconds + self.own_seconds - self.compare_seconds
        if self.sequential_seconds:
            return self.sequential_seconds / seconds
        if self.own_steps:
            return self.own_seconds / self.own_steps * (self.table_steps + self.own_steps) / seconds
        return self.expected.stepping_seconds / self.expected.seconds if self.expected is not None else None

    def __str__(self) -> str:
        text = describe_costs(self, "the network")
        lines = [text, f"window={self.asked!r}: {widest(self.window)}; {self.gain()}"]
        if not self.calls:
            lines = [
                f"window={self.asked!r}: no call so far; the policy's conditional_sample was not called by its name"
            ]
        if self.max_error is not None:
            lines.append(f"relative error against the policy's own loop on the same noise: {self.max_error:.2g}")
        return "\n".join([*lines, *self.reason_lines()])

    def gain(self) -> str:
        """The speedup in words."""
        if not self.table_steps:
            return "the policy's own loop ran"
        if self.speedup is None:
            return "speedup not measured; compare=True measures it"
        how = "measured" if self.own_steps else f"expected of a window of {self.expected.window}"
        return f"{self.speedup:.2f} times as fast as the policy's own loop, {how}"
