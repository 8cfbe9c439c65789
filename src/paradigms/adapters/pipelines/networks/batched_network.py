"""A pipeline's networks as its loop calls them: in batches, on every rank of a mesh, and checked as it goes.

How calls become batches is in `joined_calls.py`, whether a network remembers earlier calls in `memory_check.py`. On a
mesh every rank makes the same calls; each runs its share of them, see `distributed.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ....distributed.team import Team
from ....execution.clock import Clock
from ....execution.team_clock import TeamClock
from ..state.snapshot import random_streams, same_state
from .call_repetition import TWO_WAYS, RemembersError, with_other_sample
from .distributed import evaluate_on_team
from .joined_calls import JoinedCalls, is_compiled, relative_difference
from .memory_check import MemoryProbe
from .network_call import NetworkCall


@dataclass
class BatchedNetwork(JoinedCalls):
    """Runs calls as batches, on the ranks of a team where there is one; width: samples in the state.

    evaluations: rows run, by all ranks; samples: those times the samples of the state. probe: which networks answer for
    themselves. round: the calls of the last batch. forms: an answer of each kind of call that a team has made.
    opening: the first call of each network, and what was said to it.
    """

    team: Team | None = None
    evaluations: int = 0
    samples: int = 0
    probe: MemoryProbe = field(default_factory=MemoryProbe)
    round: list[NetworkCall] = field(default_factory=list)
    forms: dict[Any, tuple[list[Any], Any]] = field(default_factory=dict)
    opening: dict[int, tuple[NetworkCall, Any]] = field(default_factory=dict)
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock() if self.team is None else TeamClock(self.team)

    def __call__(self, calls: list[NetworkCall], width: int) -> list[Any]:
        """What each call's network says, in their order; raises whatever a network raises for a single call."""
        self.clock.enter()
        if self.team is None:
            out, drew = self.drawing(calls, width)
        else:
            out, drew = evaluate_on_team(calls, self.team, self.forms, lambda mine: self.drawing(mine, width))
        self.clock.leave()
        if drew:  # on all ranks, for one that steps while others wait for it would stop them
            raise RemembersError(f"{type(calls[0].network).__name__}: {TWO_WAYS}")
        self.evaluations += len(calls)
        self.samples += len(calls) * max(width, 1)
        return out

    def drawing(self, calls: list[NetworkCall], width: int) -> tuple[list[Any], bool]:
        """What networks say here, and whether they drew at random for it, so that they say something else now.

        Rows put the streams back, so a call that is made once more later may draw the same.
        """
        before = [state for _, state in random_streams()]
        out = self.here(calls, width)
        if all(same_state(a, b) for a, (_, b) in zip(before, random_streams(), strict=False)):
            return out, False
        again = self.here(calls, width)
        self.checks, self.checked = self.checks + len(calls), self.checked + len(calls) * max(width, 1)
        return out, any(relative_difference(a, b) > 1 for a, b in zip(out, again, strict=True))

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
            raise RemembersError(f"{type(once.network).__name__}: {TWO_WAYS}")
        return said

    def check(self, calls: list[NetworkCall], said: list[Any], width: int) -> None:
        """Raises UnparallelError where the network of a call of a new form remembers earlier calls."""
        for call, answer in zip(calls, said, strict=True):
            self.opening.setdefault(id(call.network), (call, answer))
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
                raise RemembersError(f"{type(others[-1].network).__name__} keeps what it computed for the next call")

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
