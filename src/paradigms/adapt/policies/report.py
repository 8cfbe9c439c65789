"""What parallel calls of a policy took, and why they were made as they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..pipelines.report import Run

MANY = 50  # reasons that are kept


@dataclass
class Acted(Run):
    """The report of a policy's calls, added up.

    rounds: network calls one after the other. evaluations: rows times samples that the network was asked. residual: the
    largest distance, in a step's standard deviation, of an accepted state from the step the network gave. fallbacks:
    why calls, or samples, were stepped. widths: of the windows that there were, 1 for a step. own_calls, own_steps,
    own_seconds: what the policy's own loop made, also to compare with; table_steps, table_seconds: what parallel calls
    made. reason: why the last call was stepped, None where it was not. expected: what a window was expected to take.
    error: the largest relative error of a chunk against the policy's own loop on the same noise, where compared.
    """

    window: Any = "auto"
    reason: str | None = None
    expected: Any = None
    error: float | None = None
    own_calls: int = 0
    own_steps: int = 0
    own_seconds: float = 0.0
    table_steps: int = 0
    table_seconds: float = 0.0
    widths: set[int] = field(default_factory=set)

    def note(self, why: str) -> None:
        """A reason for the report, once."""
        if why not in self.fallbacks and len(self.fallbacks) < MANY:
            self.fallbacks.append(why)

    @property
    def speedup(self) -> float | None:
        """How many times as fast a step is in parallel as by the policy's own loop; None unless both were measured."""
        if not self.own_seconds or not self.table_seconds:
            return None
        return (self.own_seconds / self.own_steps) / (self.table_seconds / self.table_steps)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.told()])

    def told(self) -> list[str]:
        """Window, speedup and, where a call was stepped, the reason; the error where compared."""
        wide = sorted(w for w in self.widths if w > 1)
        used = f"windows of {wide[0]} to {wide[-1]} steps" if wide else "every step by itself"
        lines = [f"window={self.window!r}: {used}; {self.gain()}"]
        if self.reason and self.reason not in self.fallbacks:
            lines.append(f"the last call was stepped: {self.reason}")
        if self.error is not None:
            lines.append(f"relative error against the policy's own loop on the same noise: {self.error:.2g}")
        return lines

    def gain(self) -> str:
        """The speedup, as measured or as expected."""
        if not self.table_steps and self.own_steps:
            return "the policy's own loop ran, no faster and no slower"
        if (measured := self.speedup) is not None:
            return f"{measured:.2f} times as fast as the policy's own loop, measured"
        if self.expected is not None:
            ratio = self.expected.stepping_seconds / self.expected.seconds
            return f"{ratio:.2f} times as fast as stepping with a window of {self.expected.window}, expected"
        return "speedup not measured; compare=True measures it"
