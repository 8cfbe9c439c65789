"""One run of a step of one's own: what it began with, what it showed the model, what it left.

x[n+1] = step(x[n], model, n)        x: a tensor (B, ...), or a tuple of them; model(x, t, **condition)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...validate import in_words, refusal
from .surrogate import Call

State = tuple[Tensor, ...]  # (B, ...) each; the first is the sample
Answer = Callable[[int, Call], Tensor]  # the call's number within the step, and what it shows
Step = Callable[..., Any]


@dataclass
class StepRun:
    """One run of step n, `own`: which of its calls the model itself answered."""

    before: State
    calls: list[Call] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    D: Tensor | None = None  # of the last answer
    after: State = ()


def run_step(step: Step, n: int, state: State, plain: bool, answer: Answer) -> State:
    """The state after step n; plain: it is one tensor and no tuple. Raises ValueError for a step that gives none."""
    calls = 0

    def model(x: Any, t: Any, **condition: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return answer(calls - 1, Call.of(x, t, condition))

    given = tuple(v.clone() for v in state)  # a step may write into what it is given
    with torch.no_grad():
        after = step(given[0] if plain else given, model, n)
    found = (after,) if plain else after
    if not isinstance(found, tuple) or len(found) != len(state) or not all(map(same_form, found, state)):
        shape = tuple(state[0].shape) if plain else tuple(tuple(v.shape) for v in state)
        raise refusal("step", f"one that gives {in_words(after)} at n = {n}", f"the next state, {shape} as the first")
    return tuple(v.detach() for v in found)


def same_form(v: Any, w: Tensor) -> bool:
    """Whether v is a tensor like w."""
    return isinstance(v, Tensor) and v.shape == w.shape and v.dtype == w.dtype and v.device == w.device


def packed(state: State) -> Tensor:
    """A state as one tensor, float32 or finer: itself, or (B, d) of all that it is made of."""
    if len(state) == 1:
        return state[0].to(torch.promote_types(state[0].dtype, torch.float32))
    return torch.cat([v.flatten(1).to(torch.promote_types(v.dtype, torch.float32)) for v in state], 1)


def relative_change(old: Tensor, new: Tensor) -> float:
    """|new - old| / |new|, 0 where they are equal."""
    if torch.equal(old, new):
        return 0.0
    return float((new - old).double().norm() / new.double().norm().clamp(min=1e-30))


def moved_calls(old: StepRun, new: StepRun) -> float:
    """The largest relative change of what a step showed the model, infinity where its calls are others."""
    if len(old.calls) != len(new.calls) or not all(a.alike(b) for a, b in zip(old.calls, new.calls, strict=True)):
        return float("inf")
    pairs = [(v, w) for a, b in zip(old.calls, new.calls, strict=True) for v, w in zip(a.tensors, b.tensors)]  # noqa: B905
    return max((relative_change(v, w) for v, w in pairs), default=0.0)
