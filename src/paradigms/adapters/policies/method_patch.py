"""Replaces a method of one object while a policy is parallel, by an attribute of that name.

Attributes that were placed later lie on those placed earlier. Whichever is left first, what is seen afterwards is the
uppermost that was not left, and in the end what the user had. Pickles and copies are of the object without them.
"""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

MISSING = object()
STATE = "__getstate__"


class PatchedMethod:
    """An attribute `name` of `thing` that stands before a method; `mine`: the user's own attribute, or MISSING."""

    def __init__(self, thing: Any, name: str) -> None:
        held: Any = vars(thing).get(name, MISSING)
        self.thing, self.name, self.left = thing, name, False
        self.under: PatchedMethod | None = held if isinstance(held, PatchedMethod) else None
        self.mine: Any = self.under.mine if self.under else held
        functools.update_wrapper(self, self.own, updated=())  # type: ignore[arg-type]

    @property
    def own(self) -> Any:
        """The policy's own method, as it is now."""
        return class_method(self.thing, self.name) if self.mine is MISSING else self.mine

    def place(self) -> None:
        """From now on this stands before the method."""
        put_attribute(self.thing, self.name, self)
        if STATE not in vars(self.thing):
            vars(self.thing)[STATE] = PlainState(self.thing)

    def leave(self) -> None:
        """From now on this does not."""
        self.left = True
        held = vars(self.thing).get(self.name)
        if not isinstance(held, PatchedMethod):  # the user put something else there
            drop_mark(self.thing)
            return
        top: PatchedMethod | None = held
        while top is not None and top.left:
            top = top.under
        put_attribute(self.thing, self.name, top or self.mine)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.own, memo)

    def __reduce__(self) -> Any:
        return copy.copy, (self.own,)


def class_method(thing: Any, name: str) -> Any:
    """What an object has by its class under a name, bound to it."""
    held = inspect.getattr_static(type(thing), name)
    return held.__get__(thing, type(thing)) if hasattr(held, "__get__") else held


class PlainState:
    """An object's state as if nothing of ours were on it, for pickles and copies."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __call__(self) -> Any:
        thing = self.thing
        state = getattr(type(thing), STATE)(thing) if hasattr(type(thing), STATE) else vars(thing)
        if not isinstance(state, dict):
            return state
        found = {k: v.mine if isinstance(v, PatchedMethod) else v for k, v in state.items() if not is_our_mark(k, v)}
        return {k: v for k, v in found.items() if v is not MISSING}


def is_our_mark(name: str, value: Any) -> bool:
    """Whether an entry of an object's state is a mark of ours and nothing of the object's."""
    return isinstance(value, PlainState) or name.startswith("_paradigms")


def put_attribute(thing: Any, name: str, value: Any) -> None:
    """Sets the attribute of an instance, or takes it away so that its class's is seen again."""
    if value is not MISSING:
        vars(thing)[name] = value
        return
    vars(thing).pop(name, None)
    drop_mark(thing)


def drop_mark(thing: Any) -> None:
    """Takes our mark from an object on which nothing of ours stands."""
    standing = any(isinstance(v, PatchedMethod) for v in list(vars(thing).values()))
    if not standing and isinstance(vars(thing).get(STATE), PlainState):
        del vars(thing)[STATE]
