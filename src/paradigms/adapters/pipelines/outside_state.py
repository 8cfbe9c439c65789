"""What a loop's code can change outside of its locals: all that can be a state of what its code names.

    global NAME       of the loop's function, its class's methods, and the functions that these name
    class NAME        the attributes of its own class, and of the classes that code names
    function NAME     its defaults, its fields, its closure

Of code of diffusers itself only containers that the loop's function names are read: it keeps nothing there. A function
that sets a global variable anew is no such code: the loop runs step by step.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from .object_contents import Attributes
from .rewrite import UnparallelError
from .wrappers import content, inner

STATES = (list, dict, set, deque)
LIBRARIES = ("diffusers", "torch", "transformers", "accelerate", "huggingface_hub", "paradigms")
DEEP = 3  # how far functions name each other


def outside(kind: type, code: types.CodeType, names: dict[str, Any]) -> dict[str, Any]:
    """What can be a state, by name, of a pipeline's class and its loop; raises UnparallelError."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        found |= dict(of_class(base, DEEP))
    return found | dict(named(code, names, DEEP))


def of_class(kind: type, deep: int) -> Iterator[tuple[str, Any]]:
    """A class's own attributes, and what its methods name."""
    if program(kind.__module__):
        yield f"class {kind.__qualname__}", Attributes(kind)
        for name, value in list(vars(kind).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                yield f"function {kind.__qualname__}.{name}", function
                yield from of(inner(function), deep)


def of(function: types.FunctionType, deep: int) -> Iterator[tuple[str, Any]]:
    """What a function names, itself or by the functions that it names or has in its closure."""
    yield from named(function.__code__, function.__globals__, deep)
    for held in map(content, function.__closure__ or ()):
        if isinstance(held, types.FunctionType) and deep and not library(held.__module__):
            yield from of(held, deep - 1)


def named(code: types.CodeType, names: dict[str, Any], deep: int) -> Iterator[tuple[str, Any]]:
    """What a code names among the globals, and what functions and classes that it names do."""
    inside = [code, *(c for c in code.co_consts if isinstance(c, types.CodeType))]
    own = not library(names.get("__name__"))
    for name in {n for c in inside for n in c.co_names if n in names}:
        value = names[name]
        if isinstance(value, type):
            yield from of_class(value, deep - 1) if own and deep else ()
        elif isinstance(value, types.FunctionType):
            if deep and not library(value.__module__):
                yield f"global {name}", value
                yield from of(value, deep - 1)
        elif own or isinstance(value, STATES):
            yield f"global {name}", value
            yield from of_class(type(value), deep - 1) if own and deep else ()
    for name in {n for c in inside for n in sets(c)}:
        raise UnparallelError(f"{code.co_name} sets the global variable {name}")


def program(module: str) -> bool:
    """Whether a class's module is of a program, not of a library or of Python itself."""
    return module == "__main__" or (not library(module) and module.partition(".")[0] not in sys.stdlib_module_names)


@functools.lru_cache(maxsize=1024)
def sets(code: types.CodeType) -> frozenset[str]:
    """The global variables that a code sets."""
    return frozenset(i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"))


def library(module: str | None) -> bool:
    """Whether code is of a library that keeps nothing there."""
    return module is not None and module.partition(".")[0] in LIBRARIES
