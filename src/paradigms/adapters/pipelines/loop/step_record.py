"""The record of one step of a loop: what it showed its networks, what they answered, what it left.

Two visits are compared leaf by leaf: a row's other inputs may move as its state does, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..networks.network_call import NetworkCall, same_leaf

if TYPE_CHECKING:
    from ...report import ProgressBar

# How much more, relatively, than its state a row's other inputs may move. Chosen by hand.
WITH_STATE = 3.0


@dataclass
class StepRecord:
    """What a row did when it last ran: its calls, their answers, which of them the network's own, bars moved.

    after: the state that it left. ended: it ran to its end.
    """

    calls: list[NetworkCall] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    ticks: list[tuple[ProgressBar, float]] = field(default_factory=list)
    after: Tensor | None = None
    ended: bool = False


def answered_by_networks(visit: StepRecord) -> bool:
    """Whether a row was answered by nothing but the networks themselves."""
    return all(visit.own)


def moved_little(old: StepRecord, new: StepRecord, most: float) -> bool:
    """Whether all that a row showed its networks moved by at most `most`, relatively, since it was evaluated."""
    if len(old.calls) != len(new.calls) or not all(a.alike(b) for a, b in zip(old.calls, new.calls, strict=True)):
        return False
    for a, b in zip(old.calls, new.calls, strict=True):
        for v, w in zip(a.leaves, b.leaves, strict=True):
            if not same_leaf(v, w) and not (isinstance(v, Tensor) and relative_change(v, w) <= most):
                return False
    return True


def relative_change(old: Tensor, new: Tensor, *_: Tensor) -> float:
    """|new - old| / |new|."""
    old, new = old.float(), new.float()
    return float((new - old).norm() / new.norm().clamp(min=1e-30))
