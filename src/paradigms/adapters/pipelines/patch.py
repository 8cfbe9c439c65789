"""The classes that objects have during one parallel call, and how they get their own back, whatever ends it.

    begin()   networks and parts become subclasses of their classes, the call is the active one of its thread
    end()     all is as it was; done twice it is the same, so that an interrupt within the first does no harm

A network may be in several calls at once, on several threads: it has its own class again when the last of them ends.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from ..schedulers.probe import Tap
from .code.rewrite import UnparallelError
from .loop.active_call import ActiveCall, _active
from .networks.joined_calls import is_compiled
from .subclass import answering_subclass, loop_holders, networks_of, rewinding_subclass, set_class

LOCK = threading.RLock()
_users: dict[int, tuple[Any, type, dict[int, int]]] = {}  # a thing, its own class, and who uses it: calls by thread


class ClassPatch:
    """What a call changes, and how it was before."""

    def __init__(self, pipe: Any, active: ActiveCall) -> None:
        self.active, self.before = active, _active.get()
        self.things: list[tuple[Any, Any]] = [
            (m, answering_subclass) for m in {id(m): m for m in networks_of(pipe)}.values()
        ]
        self.things += [(part, rewinding_subclass) for part in loop_holders(pipe)]
        self.grad, self.modes = torch.is_grad_enabled(), torch._C._len_torch_function_stack()

    def begin(self) -> None:
        """Raises UnparallelError where another thread is calling a compiled network of the pipeline."""
        LOCK.acquire()
        try:
            for thing, made in self.things:
                _, kind, users = _users.setdefault(id(thing), (thing, type(thing), {}))
                if is_compiled(thing) and any(thread != threading.get_ident() for thread in users.values()):
                    raise UnparallelError(f"{kind.__name__} is compiled, and in use on another thread")
                users[id(self)] = threading.get_ident()
                set_class(thing, made(kind))
        finally:
            LOCK.release()
        _active.set(self.active)

    def end(self) -> None:
        """Puts back what `begin` changed, as far as it came, and what an interrupt left open on the way."""
        _active.set(self.before)
        LOCK.acquire()
        try:
            for thing, _ in self.things:
                self.leave(thing)
        finally:
            LOCK.release()
        top = torch._C._len_torch_function_stack()
        while top > self.modes and isinstance(torch._C._get_function_stack_at(top - 1), Tap):
            torch._C._pop_torch_function_stack()
            top = torch._C._len_torch_function_stack()
        if torch.is_grad_enabled() != self.grad:
            torch.set_grad_enabled(self.grad)

    def leave(self, thing: Any) -> None:
        """A thing is not of this call any more."""
        known = _users.get(id(thing))
        if known is None:
            return
        _, kind, users = known
        users.pop(id(self), None)
        if not users:
            set_class(thing, kind)
            _users.pop(id(thing), None)

    def free(self) -> None:
        """Lets go of the lock, where an interrupt came between its taking and its use."""
        while LOCK._is_owned():  # type: ignore[attr-defined]
            LOCK.release()
