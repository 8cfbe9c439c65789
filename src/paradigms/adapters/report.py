"""What a parallel call of a pipeline was asked to do, and what it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..distributed.partition import Sharing
from ..methods.base import AbstractMethod
from ..stopping.base import AbstractStop
from ..validate import counted
from ..window.controller import WindowController


@dataclass
class Settings:
    """How a pipeline runs: method, criterion, rows at once, whether rows are joined to batches.

    copied: the places of tensors that this pipeline changes in place, and dependent: the calls of a step that depend on
    what earlier calls said; both as far as was seen. tables: False where an unconditional pipeline's scheduler is no
    table. mesh: whose ranks share the rows, or None. compare: whether each call is made step by step too. asked: the
    tolerance that was asked for, where the criterion's may be stricter in a call that is made again.
    """

    method: AbstractMethod
    stop: AbstractStop
    window: int | str | WindowController
    batched: bool
    copied: set[str] = field(default_factory=set)
    dependent: set[int] = field(default_factory=set)
    tables: bool = True
    mesh: Any = None
    compare: bool = False
    asked: float = field(default=-1.0)
    passes_by = True

    def __post_init__(self) -> None:
        if self.asked < 0:
            self.asked = self.stop.tolerance


@dataclass
class Run:
    """What the calls of a parallel pipeline or policy cost, summed over calls. `print(run)` says it in a few lines.

    Attributes:
        calls: Calls of the pipeline.
        steps: Steps of their loops.
        visits: How often the code of a step ran.
        rounds: Batches of network calls, one after the other.
        evaluations: Calls of networks times the images of each; guidance's two halves count as one.
        checks: Evaluations that were made only to compare, or in attempts that were given up.
        accepted: Steps finished in each round.
        windows: Steps evaluated in each round, 1 for a plain step.
        fallbacks: Why something ran one by one.
        residual: Largest change of a state between its evaluation and its acceptance, in RMS and units of std[n].
        seconds: Of the calls, those of `compare` left out.
        model_seconds: Those spent in the networks.
        sharing: What the ranks of a mesh exchanged, None without a mesh.
        reasons: Why "auto" stepped one by one.
        expected_seconds: What stepping was expected to take, None where it is not known.
        max_error: With `compare=True`, the largest relative error against the same call step by step.
        sequential_seconds: With `compare=True`, what those calls took.
        estimate: Largest estimated relative error of the latents or actions; None where none was estimated.
        retries: Calls or samples that were made again because their estimate was far above the tolerance.
        doubts: Of calls that could not be made again: what the error may be, and what to type.
        tolerance: The relative error that was held to: what was asked for, or the least that the dtype can hold,
            in half precision 8 units in the last place; None where nothing ran in windows.
        asked: The tolerance that was asked for.
    """

    calls: int = 0
    steps: int = 0
    visits: int = 0
    rounds: int = 0
    evaluations: int = 0
    checks: int = 0
    accepted: list[int] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    residual: float = 0.0
    seconds: float = 0.0
    model_seconds: float = 0.0
    sharing: Sharing | None = None
    reasons: list[str] = field(default_factory=list)
    expected_seconds: float | None = None
    max_error: float | None = None
    sequential_seconds: float | None = None
    estimate: float | None = None
    retries: int = 0
    doubts: list[str] = field(default_factory=list)
    tolerance: float | None = None
    asked: float | None = None
    passes_by = True

    @property
    def status(self) -> str:
        """ "converged", that all ran step by step, or what the error may be."""
        if self.doubts:
            return "; ".join(self.doubts)
        if self.coarse:
            return f"converged to {self.tolerance:.2g}, the finest that its numbers hold; {self.asked:g} was asked for"
        return "converged" if self.steps else "ran step by step"

    @property
    def coarse(self) -> bool:
        """Whether the numbers hold no error as small as was asked for, of others than 0."""
        return bool(self.tolerance and self.asked and self.tolerance > self.asked)

    def held(self, asked: float, reached: float | None) -> None:
        """Adds the tolerance that a call in windows asked for, and the one that it was held to."""
        if reached is not None and reached >= (self.tolerance or 0.0):
            self.tolerance, self.asked = max(asked, reached), asked

    def estimated(self, estimate: float | None, doubt: str | None = None) -> None:
        """Adds the estimate of a loop's error, and what there is to say of it."""
        if estimate is not None:
            self.estimate = max(self.estimate or 0.0, estimate)
        if doubt and doubt not in self.doubts:
            self.doubts.append(doubt)

    def shared(self, sharing: Sharing | None) -> None:
        """Adds what ranks spent."""
        if sharing is not None:
            self.sharing = sharing if self.sharing is None else self.sharing + sharing

    def told(self, reason: str | None, expected: Any) -> None:
        """Adds why rows were stepped through, and what stepping was expected to take."""
        if reason and reason not in self.reasons:
            self.reasons.append(reason)
        if expected is not None:
            self.expected_seconds = (self.expected_seconds or 0.0) + expected.stepping_seconds

    @property
    def window(self) -> int:
        """The widest window that was evaluated, in steps; 1 where all was stepped."""
        return max(self.windows, default=1)

    @property
    def speedup(self) -> float | None:
        """Times as fast as stepping, measured with `compare=True` and else expected; None if not known."""
        stepping = self.expected_seconds if self.sequential_seconds is None else self.sequential_seconds
        return stepping / self.seconds if stepping and self.seconds else None

    def __str__(self) -> str:
        text = describe_costs(self, "the networks")
        if self.sharing is not None:
            text += f"; on {len(self.sharing.rows)} ranks, {self.sharing.wire_bytes / 1e6:.3g} MB received by each"
        lines = [text, widest(self.window)]
        if self.speedup is not None:
            how = "expected" if self.sequential_seconds is None else "measured"
            lines[1] += f"; {self.speedup:.2f} times as fast as stepping, {how}"
        if self.max_error is not None:
            lines.append(f"relative error against the same calls step by step: {self.max_error:.2g}")
        if self.retries:
            lines.append(f"made again {times(self.retries)}, because the error might have been beyond the tolerance")
        lines += self.doubts
        lines += [self.status] if self.coarse and not self.doubts else []
        return "\n".join([*lines, *self.reason_lines()])

    def reason_lines(self) -> list[str]:
        """A line for each reason why something ran one by one."""
        told = [why for why in self.reasons if not any(line.endswith(why) for line in self.fallbacks)]
        return [*(f"stepped because {why}" for why in told), *(f"one by one: {why}" for why in self.fallbacks)]


def describe_costs(run: Run, networks: str) -> str:
    """What the calls of a report cost, in words; networks: what the time is inside or outside of."""
    return (
        f"{counted(run.steps, 'step')} in {counted(run.rounds, 'round')}, {counted(run.evaluations, 'evaluation')}, "
        f"{run.seconds:.2f} s, {run.seconds - run.model_seconds:.2f} s of it outside {networks}"
    )


def widest(window: int) -> str:
    """The widest window, in words."""
    return f"windows of up to {window} steps" if window > 1 else "no windows, one step at a time"


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


class ProgressBar:
    """A pipeline's progress bar that moves as rows are accepted; the rest of it is the bar's own."""

    passes_by = True

    def __init__(self, bar: Any, items: Any) -> None:
        self.bar, self.items = bar, items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __enter__(self) -> ProgressBar:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self.bar.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bar, name)

    def move(self, n: float) -> None:
        """The bar moves by n."""
        self.bar.update(n)
        if self.items is not None and self.bar.total is not None and self.bar.n >= self.bar.total:
            self.bar.close()
