"""Whether a network's answers are its own: one call repeated out of order, what it keeps compared before and after.

    A, B, A        both answers to A are equal, and nothing that could be part of an answer was kept of either
    A, B, A, B, B, A    where something was counted; and one call again in rounds 2, 4, 8, ..
    B as the first      where something was kept of A, and not of B: it says then what it said after A
    all of this again   where something is kept in a place that is new since, in rounds 1, 2, 4, 8, .. and the last
    a row of before     in a later batch that has room for it

A step cache answers by what it computed before. Its rows cannot be evaluated out of order, so it is stepped through.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from .network_call import ListLeaf, NetworkCall
from .network_memory import NetworkState, is_plain_data
from .rewrite import UnparallelError

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}  # how far equal calls may differ on devices; else:
ROUGH = 1e-2
_sound: weakref.WeakKeyDictionary[nn.Module, dict[Any, Any]] = weakref.WeakKeyDictionary()


class MemoryProbe:
    """The networks of one pipeline's call: what they kept when it began, and which answer for themselves.

    checks: calls that were made for it.
    """

    def __init__(self) -> None:
        self.states: dict[int, NetworkState] = {}
        self.known: dict[int, Any] = {}  # marks of networks
        self.done: set[Any] = set()
        self.counting: dict[Any, tuple[NetworkCall, Any]] = {}
        self.rounds = self.checks = self.repeats = 0
        self.span: Any = None  # from which time to which the loop goes: a cache may begin late
        self.fine: list[tuple[dict[Any, Any], Any, Any]] = []  # what was examined in this loop, to be noted at its end
        self.places: dict[int, set[Any]] = {}  # where networks keep what is no number, as far as was examined
        self.last: tuple[NetworkCall, Any, bool] | None = None  # a call, what was said to it, whether it was alone

    def before(self, network: nn.Module) -> None:
        """The network is about to be called for the first time, or again; raises UnparallelError for an iterator."""
        if id(network) not in self.known:
            self.known[id(network)] = code_mark(network)
            if (self.span, self.known[id(network)]) not in _sound.get(network, {}).values():
                state = self.states[id(network)] = NetworkState(network)
                if state.iterators:
                    raise UnparallelError(f"{class_name(network)} holds an iterator, which cannot be put back")

    def restore(self) -> None:
        """Puts back what the networks kept when the pipeline's call began."""
        for state in self.states.values():
            state.restore()

    def first(self, call: NetworkCall, said: Any, exact: bool) -> None:
        """A call was answered; raises UnparallelError where the network remembers. exact: it was alone in its batch."""
        key = call.key
        if key in self.done:
            return
        self.done.add(key)
        self.before(call.network)  # some networks are first seen when they answer
        sound = _sound.setdefault(call.network, {})
        if sound.get(key[1:]) == (self.span, self.known[id(call.network)]):
            return
        kept = self.examine(call, said, exact)
        if kept:
            self.counting[key] = call, said
        else:
            self.fine.append((sound, key[1:], self.known[id(call.network)]))

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
                raise UnparallelError(
                    f"{class_name(network)} keeps what it computed for the next call, in {where_kept(new)}"
                )
        counted = any(
            is_plain_data(v) and is_plain_data(w) for v, w in (*first.values(), *((v, w) for _, v, w in second))
        )
        stored = born is not None and any(not is_plain_data(w) for _, _, w in born.changes())
        if not (counted or stored):
            return False
        if equal_answers(b, said, True) and not A.equals(B) and not_all_zero(said):
            raise UnparallelError(f"{class_name(network)} gave the answer to another call")
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

    def round(self) -> bool:
        """A round of a window begins; raises UnparallelError where a network that counts has begun to remember.

        Gives whether one keeps something in a new place.
        """
        self.rounds += 1
        if self.rounds & (self.rounds - 1) == 0:
            for call, said in self.counting.values():
                if call.intact():
                    self.again(call, said, False)
            return self.look()
        return False

    def finish(self) -> bool:
        """A loop is over: looks once more; what was fine all the way need not be examined again over such times."""
        found = self.look()
        for sound, key, marked in self.fine:
            sound[key] = self.span, marked
        self.fine.clear()
        return found

    def look(self) -> bool:
        """Examines a network once more that keeps something in a new place, by the last call that was answered."""
        if self.last is None or id(self.last[0].network) not in self.states or not self.last[0].intact():
            return False
        call, said, exact = self.last
        found = {place for place, _, new in self.states[id(call.network)].changes() if not is_plain_data(new)}
        seen = self.places.setdefault(id(call.network), set())
        if found <= seen:
            return False
        seen |= found
        if self.examine(call, said, exact):
            self.counting[call.key] = call, said
        self.afresh(call, said, exact)
        return True

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

    def repeat(self, calls: list[NetworkCall]) -> NetworkCall | None:
        """A call that was answered before, to be one of the next batch; None in most rounds."""
        if self.last is None or not calls or not self.last[0].alike(calls[0]) or not self.last[0].intact():
            return None
        self.repeats += 1
        return None if self.repeats & (self.repeats - 1) else self.last[0]

    def again(self, call: NetworkCall, said: Any, exact: bool) -> None:
        """Raises UnparallelError where a call is answered otherwise than before."""
        if not equal_answers(self.ask(call), said, exact):
            why = "it answered one call in two ways, so it remembers earlier calls, or draws at random"
            raise UnparallelError(f"{class_name(call.network)}: {why}")

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


def code_mark(network: nn.Module) -> tuple[Any, ...]:
    """What decides about a network's code: its modules, their classes, what was patched or hooked onto them."""
    found: list[Any] = []
    for module in network.modules():
        fields = vars(module)
        calls = [v for v in fields.values() if callable(v) and not isinstance(v, type)]
        hooks = (*fields.get("_forward_hooks", {}).values(), *fields.get("_forward_pre_hooks", {}).values())
        found += [module.training, *map(weak_reference, (type(module), type(module).forward, *calls, *hooks))]
        found += [weak_reference(fields["_diffusers_hook"])] if fields.get("_diffusers_hook") is not None else []
    return tuple(found)


def weak_reference(v: Any) -> Any:
    """A reference that does not keep v, equal to another of the same while it is there."""
    try:
        return weakref.ref(v)
    except TypeError:
        return id(v)
