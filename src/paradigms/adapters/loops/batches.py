"""Many calls of the model as few: calls of the same shapes become one batch.

m = model(x (M, ...), t (M,), **condition),    M the rows of all calls
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...execution.chunked import BatchLimit
from ...execution.clock import Clock
from ...execution.model_differences import ROUNDING, relative_difference
from ...validate import in_words, refusal
from .surrogate import Call


class Batches:
    """A model with counts: evaluations (rows), batches, and a clock of the seconds within it."""

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model, self.room = model, BatchLimit()
        self.evaluations = self.batches = 0
        self.clock = Clock()
        self.alone: tuple[Call, Tensor] | None = None  # the first call, which was asked by itself
        self.checked = False

    def __call__(self, calls: Sequence[Call]) -> list[Tensor]:
        """The answers (M, ...) to calls, in their order."""
        answers: dict[int, Tensor] = {}
        for form in dict.fromkeys(call.form for call in calls):
            which = [i for i, call in enumerate(calls) if call.form == form]
            said = self._batch([calls[i] for i in which])
            answers |= dict(zip(which, said, strict=True))
        if self.alone is None and calls:
            self.alone = calls[0], answers[0]
        return [answers[i] for i in range(len(calls))]

    def _batch(self, calls: list[Call]) -> list[Tensor]:
        """One batch; the first of several holds the call, too, that was asked alone, and both answers must agree."""
        probe = self.alone if len(calls) > 1 and not self.checked else None
        if probe is not None and probe[0].form == calls[0].form:
            self.checked = True
            *said, again = self._ask([*calls, probe[0]])
            self.evaluations -= len(again)  # which is in no count, as in `sample`
            check_alone(*probe, again)
            return said
        return self._ask(calls)

    def _ask(self, calls: list[Call]) -> list[Tensor]:
        x, t = torch.cat([call.x for call in calls]), torch.cat([call.t for call in calls])
        condition = {k: torch.cat([call.condition[k] for call in calls]) for k in calls[0].condition}

        def ask(first: int, last: int, _: int) -> Tensor:
            rows = {k: v[first:last] for k, v in condition.items()}
            return answer_of(self.model(x[first:last], t[first:last], **rows), last - first)

        self.clock.enter(x)
        with torch.no_grad():
            m = torch.cat(self.room(len(x), ask))
        self.clock.leave(x)
        self.evaluations, self.batches = self.evaluations + len(x), self.batches + 1
        return list(m.split([len(call.x) for call in calls]))


def answer_of(said: Any, M: int) -> Tensor:
    """What the model said to M rows; raises ValueError where that is no tensor of as many."""
    if not isinstance(said, Tensor) or said.ndim < 1 or len(said) != M or not said.is_floating_point():
        needed = f"a floating tensor with {M} rows; put several answers beside each other, torch.cat([D, gradient], 1)"
        raise refusal("model", f"an answer that is {in_words(said)}", needed)
    return said.detach()


def check_alone(call: Call, m: Tensor, again: Tensor) -> None:
    """Raises ValueError where the answer to a call depends on what else is in its batch."""
    if m.shape != again.shape:
        raise refusal("model", f"answers {tuple(m.shape)} and {tuple(again.shape)} to one call", "one answer to a row")
    off = max(relative_difference(v, w, x) for v, w, x in zip(m, again, call.x, strict=True))
    if off > ROUNDING.get(m.dtype, ROUNDING[torch.bfloat16])[2]:
        raise refusal(
            "model", f"rows of a batch that depend on each other: an answer differs by {100 * off:.2g} %",
            "an answer to each row of x and t alone", "t and not t[0] in it",
        )  # fmt: skip
