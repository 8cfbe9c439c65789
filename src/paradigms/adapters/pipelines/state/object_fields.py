"""The fields of Python objects, in a dict or in slots: which there are, how they are read and set.

They are read past code of an object's class that runs where they are asked for.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import Any


def has_fields(of: type) -> bool:
    """Whether values of a class have fields, in a dict or in slots."""
    return of.__dictoffset__ != 0 or bool(slots_of(of))


def slots_of(of: Any) -> tuple[str, ...]:
    """The fields that a class has without a dict."""
    return _slots(of)


@functools.lru_cache(maxsize=4096)
def _slots(of: Any) -> tuple[str, ...]:
    found = [vars(base).get("__slots__", ()) for base in of.__mro__]
    names = [n for v in found for n in ((v,) if isinstance(v, str) else v)]
    named = [
        (n, next((b for b in of.__mro__ if n in vars(b)), of)) for n in names if n not in ("__dict__", "__weakref__")
    ]
    return tuple(
        f"_{base.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n for n, base in named
    )


def own_fields(thing: Any) -> dict[str, Any] | None:
    """An object's fields, past code of its class that runs where they are asked for; None where it has none."""
    try:  # a thread's own object has other fields in each thread, which its class knows
        fields = vars(thing) if isinstance(thing, threading.local) else object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return None
    return fields if isinstance(fields, dict) else None


def own_slots(thing: Any) -> dict[str, Any]:
    """Those of an object's slots that are set, likewise."""
    found = {}
    for name in slots_of(type(thing)):
        with contextlib.suppress(AttributeError):
            found[name] = object.__getattribute__(thing, name)
    return found


def set_slots(thing: Any, values: dict[str, Any]) -> None:
    """Gives an object's slots values; those that have none are empty."""
    for name in slots_of(type(thing)):
        if name in values:
            object.__setattr__(thing, name, values[name])
        elif name in own_slots(thing):
            object.__delattr__(thing, name)
