"""Checks that a network keeps no state: a call is repeated out of order, and what the network holds is compared.

    a new kind of call          is repeated with another between, see `call_repetition.py`
    rounds 2, 4, 8, ..          one call again, where something was counted
    rounds 1, 2, 4, 8, .. last  all of this again, where something is kept in a place that is new since
    before callbacks            likewise; what they change of a network is where it stands from then on
    a row of before             in a later batch that has room for it
    the end of a first loop     the last call again; all of its calls in order, where something was counted

A step cache answers by what it computed before. Its rows cannot be evaluated out of order, so it is stepped through.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from ..code.rewrite import UnparallelError
from ..state.outside_state import refuse_cached_state
from .call_repetition import CallRepetition, class_name
from .kept_contents import is_plain_data
from .network_call import NetworkCall
from .network_memory import NetworkState

_sound: weakref.WeakKeyDictionary[nn.Module, dict[Any, Any]] = weakref.WeakKeyDictionary()


class MemoryProbe(CallRepetition):
    """The networks of one pipeline's call: what they kept when it began, and which answer for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Any] = {}  # marks of networks
        self.began: list[NetworkState] = []  # what networks kept when the pipeline's call began
        self.done: set[Any] = set()
        self.counting: dict[Any, tuple[NetworkCall, Any]] = {}
        self.noted: set[int] = set()  # networks that count, of which it is not known that it decides nothing
        self.rounds = self.repeats = 0
        self.span: Any = None  # from which time to which the loop goes: a cache may begin late
        self.fine: list[tuple[dict[Any, Any], Any, Any]] = []  # what was examined in this loop, to be noted at its end
        self.places: dict[int, set[Any]] = {}  # where networks keep what is no number, as far as was examined
        self.last: tuple[NetworkCall, Any, bool] | None = None  # a call, what was said to it, whether it was alone
        self.course: dict[tuple[int, int], tuple[NetworkCall, Any]] = {}  # of networks that count, by row and place

    def before(self, network: nn.Module) -> None:
        """The network is about to be called for the first time, or again; raises UnparallelError for an iterator."""
        if id(network) not in self.known:
            self.known[id(network)] = code_mark(network)
            if (self.span, self.known[id(network)], False) not in _sound.get(network, {}).values():
                state = self.states[id(network)] = NetworkState(network, weights=True)
                self.began.append(state)
                if state.iterators:
                    raise UnparallelError(f"{class_name(network)} holds an iterator, which cannot be put back")
                for function in state.cached:
                    refuse_cached_state(function, function.__name__)

    def restore(self) -> None:
        """Puts back what the networks kept when the pipeline's call began."""
        for state in self.began:
            state.restore()

    def renew(self, networks: list[nn.Module]) -> None:
        """A callback changed a network: what they said before is not repeated, what it set is not of their own."""
        self.last = None
        self.done -= self.counting.keys()
        self.counting.clear()
        for network in networks:
            if id(network) in self.states:
                self.states[id(network)] = NetworkState(network, weights=True)

    def first(self, call: NetworkCall, said: Any, exact: bool) -> None:
        """A call was answered; raises UnparallelError where the network remembers. exact: it was alone in its batch."""
        key = call.key
        if key in self.done:
            return
        new = all(network != id(call.network) for network, *_ in self.done)  # later, callbacks may have changed it
        self.done.add(key)
        self.before(call.network)  # some networks are first seen when they answer
        sound = _sound.setdefault(call.network, {})
        *found, counts = sound.get(key[1:], (None, None, False))
        if found == [self.span, self.known[id(call.network)]]:
            self.counting.update({key: (call, said)} if counts else {})
            return
        counts = self.examine(call, said, exact) or (new and self.changed(call.network))
        if counts:
            self.counting[key] = call, said
        if counts and new and id(call.network) in self.states:
            self.noted.add(id(call.network))
        self.fine.append((sound, key[1:], (self.span, self.known[id(call.network)], counts)))

    def note(self, row: int, place: int, call: NetworkCall, said: Any) -> None:
        """A call of a row was answered by its network."""
        if id(call.network) in self.noted:
            self.course[row, place] = call, said

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
        if self.fine and self.last is not None:  # the last batch too: a network may take batches otherwise by then
            self.repeated(*self.last[:2])
        self.in_order([self.course[key] for key in sorted(self.course)])
        self.course.clear()
        self.noted.clear()
        for sound, key, marked in self.fine:
            sound[key] = marked
        self.fine.clear()
        return found

    def look(self) -> bool:
        """Examines a network once more that keeps something in a new place, by the last call that was answered."""
        if self.last is None or id(self.last[0].network) not in self.states or not self.last[0].intact():
            return False
        call, said, exact = self.last
        changes = self.states[id(call.network)].changes()
        found = {place for place, _, new in changes if not (is_plain_data(new) and call.key in self.counting)}
        seen = self.places.setdefault(id(call.network), set())
        if found <= seen:
            return False
        seen |= found
        if self.examine(call, said, exact):
            self.counting[call.key] = call, said
        self.afresh(call, said, exact)
        return True

    def repeat(self, calls: list[NetworkCall]) -> NetworkCall | None:
        """A call that was answered before, to be one of the next batch; None in most rounds."""
        if self.last is None or not calls or not self.last[0].alike(calls[0]) or not self.last[0].intact():
            return None
        self.repeats += 1
        return None if self.repeats & (self.repeats - 1) else self.last[0]


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
