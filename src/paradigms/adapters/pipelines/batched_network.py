"""The calls of a pipeline's networks: one call of R rows made from R calls of one row.

    m[r] = network(*args[r])      ->      m[0], .., m[R-1] = network(*joined)

| an argument, the same leaf of all R calls           | joined                                                        |
| a tensor whose first axis is the sample's, or k x it | laid side by side, inside each of the G halves of guidance   |
| a list of one tensor a sample, if the sample is one  | one list, in the same order                                  |
| a tensor of one: a time                              | one a sample                                                 |
| anything else: positions, rotary tables, numbers     | as it is, and calls that differ in it are not joined         |

Rows go inside each half because some attention (PAG's) takes its batch apart again. What the first such call says of
its last row is compared with a call of that row alone, and in half precision with a batch of nothing but that row too.
If it differs, or fails, other readings of the second line are tried: what is equal in all rows, and k > 1 or any k, is
passed as it is. If none is right, rows are called one by one, which is reported. An exception is taken for a refusal of
the batch only if its rows are answered one by one, and the batch fails again; else it is raised as it was.

On a mesh every rank makes the same calls; each runs its share of them so, see `distributed.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ...distributed.team import Team
from ...execution.chunked import BatchLimit
from ...execution.clock import Clock
from ...execution.team_clock import TeamClock
from .batching import BatchingError, join_calls, split_batches
from .distributed import evaluate_on_team
from .memory_check import MemoryProbe, with_other_sample
from .module_fields import ModuleFields
from .network_call import NetworkCall
from .rewrite import UnparallelError

CLOSE = {torch.float64: 1e-8, torch.float32: 1e-4}  # how far a row of a batch may be from a call of its own; else:
ROUGH, MIXED = 5e-2, 1e-3  # and from its place in a batch of R times the same row, which rounds alike
LAYOUTS = ("rows", "exact", "shared")


@dataclass
class BatchedNetwork:
    """Runs calls as batches. batched: False for one call a row. width: samples in the state, so that G is known.

    pad: rows that every batch of a compiled network has. team: ranks that share the calls. evals: rows run, by all of
    them; checks: rows run here to compare; samples, checked: both times the samples of the state. forms: an answer of
    each kind of call that a team has made. probe: which networks answer for themselves.
    """

    batched: bool = True
    pad: int = 0
    team: Team | None = None
    evaluations: int = 0
    checks: int = 0
    samples: int = 0
    checked: int = 0
    probe: MemoryProbe = field(default_factory=MemoryProbe)
    round: list[NetworkCall] = field(default_factory=list)  # the calls of the last
    room: BatchLimit = field(default_factory=BatchLimit)
    reasons: dict[str, None] = field(default_factory=dict)
    layouts: dict[Any, str] = field(default_factory=dict)
    forms: dict[Any, tuple[list[Any], Any]] = field(default_factory=dict)
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock() if self.team is None else TeamClock(self.team)

    def __call__(self, calls: list[NetworkCall], width: int) -> list[Any]:
        """What each call's network says, in their order; raises whatever a network raises for a single call."""
        self.clock.enter()
        if self.team is None:
            out = self.here(calls, width)
        else:
            out = evaluate_on_team(calls, self.team, self.forms, lambda mine: self.here(mine, width))
        self.clock.leave()
        self.evaluations += len(calls)
        self.samples += len(calls) * max(width, 1)
        return out

    def tested(self, calls: list[NetworkCall], width: int, window: int) -> list[Any]:
        """`__call__` of a round of so many rows; where the batch has room a call of before is made again in it.

        Raises UnparallelError where the answer to that is another by now.
        """
        room = 0 < len(calls) < window and not (self.pad and is_compiled(calls[0].network))
        once = self.probe.repeat(calls) if room else None
        if once is None or self.probe.last is None:
            return self(calls, width)
        *said, again = self([*calls, once], width)
        self.evaluations, self.samples = self.evaluations - 1, self.samples - max(width, 1)
        self.checks, self.checked = self.checks + 1, self.checked + max(width, 1)
        if relative_difference(again, self.probe.last[1]) > 1:
            raise UnparallelError(
                f"{type(once.network).__name__}: it answered one call in two ways, so it remembers "
                "earlier calls, or draws at random"
            )
        return said

    def check(self, calls: list[NetworkCall], said: list[Any], width: int) -> None:
        """Raises UnparallelError where the network of a call of a new form remembers earlier calls."""
        for call, answer in zip(calls, said, strict=True):
            if call.key not in self.probe.done:
                alone = len(calls) == 1 and not (self.pad and is_compiled(call.network))
                self.probing(lambda call=call, answer=answer, alone=alone: self.probe.first(call, answer, alone), width)  # type: ignore[misc]
        if calls:
            self.probe.before(calls[-1].network)
            alone = len(calls) == 1 and not (self.pad and is_compiled(calls[-1].network))
            self.probe.last, self.round = (calls[-1], said[-1], alone), list(calls)

    def looking(self, look: Callable[[], bool], width: int) -> None:
        """Lets the probe look; raises UnparallelError where what a network keeps is part of its answers to batches."""
        found: list[bool] = []
        self.probing(lambda: found.append(look()), width)
        if found[0] and len(self.round) > 1 and all(call.intact() for call in self.round):
            others = [with_other_sample(call) for call in self.round]
            answer, alone = self.here(others, width)[-1], others[-1].run()
            self.checks, self.checked = self.checks + len(others) + 1, self.checked + (len(others) + 1) * max(width, 1)
            if relative_difference(answer, alone) > 1:
                raise UnparallelError(f"{type(others[-1].network).__name__} keeps what it computed for the next call")

    def probing(self, ask: Callable[[], None], width: int) -> None:
        """Counts what the probe asks."""
        before = self.probe.checks
        try:
            ask()
        finally:
            self.checks += self.probe.checks - before
            self.checked += (self.probe.checks - before) * max(width, 1)

    def alone(self, run: Callable[[], Any], width: int = 1) -> Any:
        """What a network says to a call as it comes, on this rank and every other."""
        self.clock.own.enter()
        said = run()
        self.clock.own.leave()
        self.evaluations += 1
        self.samples += max(width, 1)
        return said

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
