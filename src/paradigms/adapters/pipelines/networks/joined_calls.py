"""The calls of a pipeline's networks on this rank: one call of R rows made from R calls of one row.

    m[r] = network(*args[r])      ->      m[0], .., m[R-1] = network(*joined)

| an argument, the same leaf of all R calls           | joined                                                        |
| a tensor whose first axis is the sample's, or k x it | laid side by side, inside each of the G halves of guidance   |
| a list of one tensor a sample, if the sample is one  | one list, in the same order                                  |
| a tensor of one: a time                              | one a sample                                                 |
| anything else: positions, rotary tables, numbers     | as it is, and calls that differ in it are not joined         |

Rows go inside each half because some attention (PAG's) takes its batch apart again. The last row of the first batch is
compared with a call of that row alone, and in half precision with a batch of nothing but that row too. If it differs,
or the batch fails, other readings of the first line are tried: a tensor that is equal in all rows, of k > 1 or of any
k, is passed as it is. If none is right, rows are called one by one, which is reported. An exception counts as a refusal
of the batch only if its rows are answered one by one, and the batch fails again; else it is raised as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ....execution.chunked import BatchLimit
from ..state.module_fields import ModuleFields
from .batching import BatchingError, join_calls, split_batches
from .network_call import NetworkCall

# How far a row of a batch may be from a call of its own, relatively, since a batch of another size adds up in another
# order: some hundred times the rounding of float32; ROUGH in half precision. No measurement of them is on record.
CLOSE = {torch.float64: 1e-8, torch.float32: 1e-4}
ROUGH = 5e-2
# In half precision also from its place in a batch of R times the same row, which rounds alike, so that less is allowed.
# Chosen by hand.
MIXED = 1e-3
# The readings of a tensor with k times the sample's first axis, in the order in which they are tried.
LAYOUTS = ("rows", "exact", "shared")


@dataclass
class JoinedCalls:
    """Answers calls by as few batches as their networks allow.

    batched: False for one call a row. pad: rows that every batch of a compiled network has. checks: rows that were run
    to compare; checked: those times the samples of the state. room: rows that the device has memory for. reasons: why
    rows are called one by one. layouts: by the kind of a call, which reading of its arguments was found right.
    """

    batched: bool = True
    pad: int = 0
    checks: int = 0
    checked: int = 0
    room: BatchLimit = field(default_factory=BatchLimit)
    reasons: dict[str, None] = field(default_factory=dict)
    layouts: dict[Any, str] = field(default_factory=dict)

    def here(self, calls: list[NetworkCall], width: int) -> list[Any]:
        """What each call's network says, on this rank."""
        out: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        while waiting:
            first = calls[waiting[0]]
            group = [k for k in waiting if calls[k].alike(first)]
            waiting = [k for k in waiting if k not in group]
            for k, answer in zip(group, self.group([calls[k] for k in group], width), strict=True):
                out[k] = answer
        return out

    def group(self, calls: list[NetworkCall], width: int) -> list[Any]:
        """What the network says to calls that can be joined."""
        first = calls[0]
        x = first.x
        layout = self.layouts.get(first.key, "") if self.batched and x is not None else "single"
        halves = len(x) // width if x is not None and width and len(x) % width == 0 else 1
        if len(calls) == 1 and not (self.pad and is_compiled(first.network)):
            return [first.run()]
        before = self.checks
        if layout == "":
            layout, answers = self.choose(calls, halves)
            self.layouts[first.key] = layout
        else:
            answers, error = self.tried(calls, halves, layout)
            if error is not None:
                self.reason(first, str(error))
                self.layouts[first.key] = "single"
        self.checked += (self.checks - before) * max(width, 1)
        return self.run(calls, halves, "single") if answers is None else answers

    def tried(
        self, calls: list[NetworkCall], halves: int, layout: str
    ) -> tuple[list[Any] | None, BatchingError | None]:
        """What a batch says, or why it is refused; raises what the network raised where that was not for the batch."""
        errors: list[BatchingError] = []
        for _ in range(2):
            try:
                answers = self.run(calls, halves, layout)
            except BatchingError as error:
                errors.append(error)
            else:
                break
        kinds = {type(error.__cause__) for error in errors}
        if errors and (len(errors) == 1 or len(kinds) > 1) and errors[0].__cause__ is not None:
            self.checks += len(calls) * (2 - len(errors))
            raise errors[0].__cause__
        return (None, errors[0]) if errors else (answers, None)

    def reason(self, call: NetworkCall, why: str) -> None:
        """Tells that a network is called row by row."""
        self.reasons[f"{type(call.network).__name__} is called row by row: {why}"] = None

    def choose(self, calls: list[NetworkCall], halves: int) -> tuple[str, list[Any] | None]:
        """The first layout whose last row equals a call of its own, and what it said."""
        alone, why, kept = calls[-1].run(), "", ModuleFields(calls[0].network)
        self.checks += 1
        for layout in LAYOUTS:
            answers, error = self.tried(calls, halves, layout)
            if answers is None:
                kept.restore()  # what a network sets for a call it sets back at its end, as the scale of adapters
                why = why or str(error)
                continue
            off = relative_difference(answers[-1], alone)
            if off <= 1 and is_rough(alone):
                off = relative_difference(answers[-1], self.run([calls[-1]] * len(calls), halves, layout)[-1], MIXED)
                self.checks += len(calls)
            if off <= 1:
                return layout, answers
            self.checks += len(calls)
            why = why or f"a row of a batch differs from its own call by {off:.1g} times what rounding explains"
        self.reason(calls[0], why)
        return "single", None

    def run(self, calls: list[NetworkCall], halves: int, layout: str) -> list[Any]:
        """One batch, or smaller ones where arguments differ that it has once, or the device has no room for it."""
        if layout == "single":
            return [call.run() for call in calls]
        out: list[Any] = [None] * len(calls)
        waiting = split_batches(calls, layout)
        if len(waiting) == len(calls) > 2:
            samples = len(calls[0].leaves[calls[0].sample])
            why = f"it is told something of no axis of {samples} samples that differs from row to row"
            self.reason(calls[0], why)
        most, pad = self.room.most, self.pad if is_compiled(calls[0].network) else 0
        for part in waiting:
            pieces = self.room(
                len(part),
                lambda first, last, R, part=part: join_calls([calls[k] for k in part[first:last]], halves, layout, R),  # type: ignore[misc]
                pad,
            )
            for k, answer in zip(part, (answer for piece in pieces for answer in piece), strict=True):
                out[k] = answer
        if self.room.most != most:
            self.reasons[f"no room for all rows at once: {self.room.most} at a time"] = None
        return out


def is_rough(answer: Any) -> bool:
    """Whether an answer is in half precision."""
    return any(
        isinstance(v, Tensor) and v.is_floating_point() and v.dtype not in CLOSE for v in tree_flatten(answer)[0]
    )


def relative_difference(answer: Any, alone: Any, rounding: float | None = None) -> float:
    """How far a row is from its own call, 1 being what rounding explains; infinity where they are no match."""
    a, b = (tree_flatten(v)[0] for v in (answer, alone))
    worst = 0.0 if len(a) == len(b) else float("inf")
    for v, w in zip(a, b, strict=False):
        if not isinstance(w, Tensor):
            continue
        if not isinstance(v, Tensor) or v.shape != w.shape:
            return float("inf")
        size = w.float().norm()
        off = float((v.float() - w.float()).norm() / size) if float(size) > 0 else float(v.float().norm())
        worst = max(worst, (off if off == off else float("inf")) / (rounding or CLOSE.get(w.dtype, ROUGH)))
    return worst


def is_compiled(network: nn.Module) -> bool:
    """Whether a network was compiled, and wants batches of one size."""
    return hasattr(network, "_orig_mod") or getattr(network, "_compiled_call_impl", None) is not None
