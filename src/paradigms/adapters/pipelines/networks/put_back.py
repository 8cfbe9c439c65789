"""Whether what a network keeps can be put back: from its start, calls are answered as they were, in any order.

    from the start, each time    B, A, B, B, A, B, B, B, A    all A as the pipeline's own first call, all B alike

A network that keeps its memory in a file, a context variable or the content of a cache goes on counting: whatever it
does every second, third or n-th time falls on another of these calls. Its own loop would give another picture by then,
so the call of the pipeline is refused. Made only of networks that are known to remember.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..state.snapshot import random_streams, same_state
from .call_repetition import class_name, not_all_zero, with_other_sample
from .joined_calls import relative_difference
from .memory_check import MemoryProbe, code_mark
from .network_call import NetworkCall

ORDER = "BABBABBBA"
_put_back: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()  # networks that can be, as they are


def refuse_lost_state(probe: MemoryProbe, opening: Iterable[tuple[NetworkCall, Any]]) -> None:
    """Raises RuntimeError where a network does not answer from its start as it did; opening: first calls, answers."""
    for call, said in opening:
        if not call.intact() or _put_back.get(call.network) == code_mark(call.network):
            continue
        if not answers_again(probe, call, said):
            raise RuntimeError(
                f"{class_name(call.network)}: given a network whose answers depend on earlier calls, and that keeps "
                "them where they cannot be put back (a file, a context variable, a cache); needed: one that answers "
                "each call for itself. This call of the pipeline was stopped, for its result would be another. Type "
                "paradigms.disable_parallel_sampling(pipe), and let the network begin anew"
            )
        _put_back[call.network] = code_mark(call.network)


@torch.no_grad()
def answers_again(probe: MemoryProbe, A: NetworkCall, said: Any) -> bool:
    """Whether a call A, and another, are answered alike whenever the networks are put back to their start."""
    B, streams, drew = with_other_sample(A), random_streams(), False
    first: dict[str, Any] = {}

    def begin() -> None:
        probe.restore()
        for put, state in streams:
            put(state)

    for name in ORDER:
        begin()
        answer = probe.ask(A if name == "A" else B)
        drew = drew or not all(same_state(a, b) for (_, a), (_, b) in zip(streams, random_streams(), strict=False))
        if relative_difference(first.setdefault(name, answer), answer) > 1:
            return False
    begin()
    if drew:  # its first answer was drawn from streams of another state
        return True
    mixed = not A.equals(B) and not_all_zero(said) and relative_difference(first["B"], said) == 0
    return not mixed and relative_difference(first["A"], said) <= 1
