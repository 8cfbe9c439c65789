"""What a parallel call of a pipeline was asked to do, and what it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...method import AbstractMethod
from ...pace import AbstractPace
from ...shares import Sharing
from ...stop import AbstractStop


@dataclass
class Settings:
    """How a pipeline runs: method, criterion, rows at once, whether rows are joined to batches.

    copied: the places of tensors that this pipeline changes in place, and dependent: the calls of a step that heed what
    earlier calls said; both as far as was seen. tables: False where an unconditional pipeline's scheduler is no table.
    mesh: whose ranks share the rows, or None.
    """

    method: AbstractMethod
    stop: AbstractStop
    window: int | str | AbstractPace
    batched: bool
    copied: set[str] = field(default_factory=set)
    dependent: set[int] = field(default_factory=set)
    tables: bool = True
    mesh: Any = None
    passes_by = True


@dataclass
class Run:
    """What parallel calls of a pipeline took, added up over its calls.

    steps: of the loops; visits: how often a step's code ran. rounds: model calls one after the other, a step's own
    calls as one. evaluations: rows that the networks were asked; checks: those that were asked twice, to compare a
    batch with a single row. accepted: rows a round, windows: of how many that were looked at, 1 for a step as the
    pipeline makes it. fallbacks: why something ran one by one. residual: the largest relative change of a state
    between its evaluation and its acceptance. seconds, model_seconds: of the calls, and in their networks.
    sharing: what the ranks of a mesh spent, None without one.
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
    passes_by = True

    def shared(self, sharing: Sharing | None) -> None:
        """Adds what ranks spent."""
        if sharing is not None:
            self.sharing = sharing if self.sharing is None else self.sharing + sharing

    def __str__(self) -> str:
        text = (
            f"{self.steps} steps in {self.rounds} rounds, {self.evaluations} evaluations, "
            f"{self.seconds:.2f} s, {self.seconds - self.model_seconds:.2f} s of it outside the networks"
        )
        if self.sharing is not None:
            text += f"; on {len(self.sharing.rows)} ranks, {self.sharing.wire_bytes / 1e6:.3g} MB received by each"
        return "\n".join([text, *(f"one by one: {why}" for why in self.fallbacks)])


class Bar:
    """A pipeline's progress bar that moves as rows are accepted; the rest of it is the bar's own."""

    passes_by = True

    def __init__(self, bar: Any, items: Any) -> None:
        self.bar, self.items = bar, items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __enter__(self) -> Bar:
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
