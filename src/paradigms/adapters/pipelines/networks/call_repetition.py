"""Tests whether a network remembers a call: the call is repeated with another between, and the answers compared.

    A, B, A             both answers to A are equal, and nothing that could be part of an answer was kept of either
    A, B, A, B, B, A    where something was counted
    B as the first      where something was kept of A, and not of B: it says then what it said after A

When this is done, and of which calls, is in `memory_check.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..code.rewrite import UnparallelError
from .joined_calls import relative_difference
from .kept_contents import is_plain_data
from .network_call import ListLeaf, NetworkCall
from .network_memory import NetworkState

# How far equal calls may differ relatively where kernels are not deterministic, as on GPUs;
# ROUGH in half precision. Chosen by hand.
EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}
ROUGH = 1e-2
TWO_WAYS = "it answered one call in two ways, so it remembers earlier calls, or draws at random"


class RemembersError(UnparallelError):
    """A network remembers earlier calls, so its loop runs step by step from where it began."""


class CallRepetition:
    """Repeats calls of networks; checks: calls that were made for it; states: what networks kept when a call began."""

    def __init__(self) -> None:
        self.states: dict[int, NetworkState] = {}
        self.checks = 0

    def examine(self, A: NetworkCall, said: Any, exact: bool) -> bool:
        """Repeats a call with another between; whether something was counted."""
        network, B = A.network, with_other_sample(A)
        born, began = self.states.get(id(network)), NetworkState(network)
        b = self.ask(B)
        first, between = {place: (v, w) for place, v, w in began.changes()}, NetworkState(network)
        self.again(A, said, exact)
        second = list(between.changes())
        for place, old, new in (*((p, v, w) for p, (v, w) in first.items()), *second):
            if is_plain_data(new) and is_plain_data(old):
                continue
            if not (place in first and same_table(*first[place])):
                raise RemembersError(
                    f"{class_name(network)} keeps what it computed for the next call, in {where_kept(new)}"
                )
        counted = any(
            is_plain_data(v) and is_plain_data(w) for v, w in (*first.values(), *((v, w) for _, v, w in second))
        )
        stored = born is not None and any(not is_plain_data(w) for _, _, w in born.changes())
        if not (counted or stored):
            return False
        if equal_answers(b, said, True) and not A.equals(B) and not_all_zero(said):
            raise RemembersError(f"{class_name(network)} gave the answer to another call")
        if not counted:
            return False
        for call, answer in ((B, b), (B, b), (A, said)):
            self.again(call, answer, exact or call is B)
        if born is not None and stored:
            now = NetworkState(network)
            born.restore()
            self.again(B, b, True)
            now.restore()
        return True

    def changed(self, network: nn.Module) -> bool:
        """Whether a network is not as it was when the call began, but for tables made anew."""
        state = self.states.get(id(network))
        return state is not None and any(not same_table(old, new) for _, old, new in state.changes())

    def afresh(self, A: NetworkCall, said: Any, exact: bool) -> None:
        """Makes a call and another from where the network stood when the loop began, as a loop of steps would."""
        B = with_other_sample(A)
        b, now = self.ask(B), NetworkState(A.network)
        self.states[id(A.network)].restore()
        try:
            self.again(A, said, exact)
            self.again(B, b, True)
        finally:
            now.restore()

    def in_order(self, course: list[tuple[NetworkCall, Any]]) -> None:
        """Makes the calls of a loop again in the order of its steps, where what is noted might decide an answer.

        The networks begin where they stood before the loop: what the first call of its kind notes may be of a later
        step by now. What they note meanwhile is put back.
        """
        networks = {id(call.network): call.network for call, _ in course}
        now = [NetworkState(network) for network in networks.values()]
        for key in networks:
            self.states[key].restore()
        try:
            for call, said in course:
                self.repeated(call, said)
        finally:
            for state in now:
                state.restore()

    def again(self, call: NetworkCall, said: Any, exact: bool) -> None:
        """Raises UnparallelError where a call is answered otherwise than before."""
        if not equal_answers(self.ask(call), said, exact):
            raise RemembersError(f"{class_name(call.network)}: {TWO_WAYS}")

    def repeated(self, call: NetworkCall, said: Any) -> None:
        """Makes a call once more, by itself; raises UnparallelError where the answer is beyond what batches round."""
        if call.intact() and relative_difference(said, self.ask(call)) > 1:
            raise RemembersError(f"{class_name(call.network)}: {TWO_WAYS}")

    def ask(self, call: NetworkCall) -> Any:
        """What a network says to a call of its own."""
        self.checks += 1
        return call.run()


def with_other_sample(call: NetworkCall) -> NetworkCall:
    """The call with another sample."""
    leaves = list(call.leaves)
    if call.sample >= 0:
        v = leaves[call.sample]
        leaves[call.sample] = ListLeaf(map(similar_tensor, v)) if isinstance(v, ListLeaf) else similar_tensor(v)
    return NetworkCall(call.network, call.real, leaves, call.spec, call.sample, call.versions)


def similar_tensor(v: Tensor) -> Tensor:
    """Another tensor of about the same size."""
    return 0.6 * v - 0.7 * v.roll(1, -1) + 0.1


def equal_answers(a: Any, b: Any, exact: bool) -> bool:
    """Whether two answers are one: to the bit on a processor, to rounding on devices or in another batch."""
    pairs = list(zip(tree_flatten(a)[0], tree_flatten(b)[0], strict=False))
    return all(equal_tensors(v, w, exact) for v, w in pairs if isinstance(v, Tensor) and isinstance(w, Tensor))


def equal_tensors(v: Tensor, w: Tensor, exact: bool) -> bool:
    """Whether two tensors of answers are one."""
    if v.shape != w.shape or torch.equal(v, w):
        return v.shape == w.shape
    if not v.is_floating_point() or (exact and v.device.type == "cpu"):
        return bool(torch.equal(v.isnan(), w.isnan()) and torch.equal(v.nan_to_num(), w.nan_to_num()))
    off = (v.double() - w.double()).norm() / w.double().norm().clamp(min=1e-30)
    return not bool(off > (EXACT if exact else {k: 10 * e for k, e in EXACT.items()}).get(v.dtype, ROUGH))


def same_table(old: Any, new: Any) -> bool:
    """Whether a table was made anew with the same content."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        if "meta" in (old.device.type, new.device.type):
            return True
        return old is not new and old.shape == new.shape and old.dtype == new.dtype and torch.equal(old, new)
    return False


def not_all_zero(answer: Any) -> bool:
    """Whether an answer is anything but zeros."""
    return any(isinstance(v, Tensor) and bool(v.any()) for v in tree_flatten(answer)[0])


def class_name(network: nn.Module) -> str:
    """A network's class."""
    return type(network).__name__


def where_kept(new: Any) -> str:
    """What was kept, in words."""
    return f"a {type(new).__name__}"
