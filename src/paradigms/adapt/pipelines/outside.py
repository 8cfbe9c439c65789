"""What a loop's code can change outside of its locals: containers that its module or its classes hold, by name.

    global NAME, class NAME        of the loop's function, its class's methods, and the functions that these name

Of code of diffusers itself only the loop's function is read: it keeps nothing there. A function that sets a global
variable anew is no such code: the loop runs step by step.
"""

from __future__ import annotations

import dis
import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from .rewrite import UnparallelError
from .wrappers import content, inner

STATES = (list, dict, set, deque)
LIBRARIES = ("diffusers", "torch", "transformers", "accelerate", "huggingface_hub", "paradigms")
DEEP = 3  # how far functions name each other


def outside(kind: type, code: types.CodeType, names: dict[str, Any]) -> dict[str, Any]:
    """The containers by name, of a pipeline's class and its loop; raises UnparallelError where a global is set anew."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if not library(base.__module__):
            found |= {f"class {k}": v for k, v in vars(base).items() if isinstance(v, STATES) and k[:2] != "__"}
            for value in vars(base).values():
                if isinstance(value, types.FunctionType):
                    found |= dict(of(inner(value), DEEP))
    return found | dict(named(code, names, DEEP))


def of(function: types.FunctionType, deep: int) -> Iterator[tuple[str, Any]]:
    """The containers that a function names, itself or by the functions that it names or has in its closure."""
    yield from named(function.__code__, function.__globals__, deep)
    for held in map(content, function.__closure__ or ()):
        if isinstance(held, types.FunctionType) and deep and not library(held.__module__):
            yield from of(held, deep - 1)


def named(code: types.CodeType, names: dict[str, Any], deep: int) -> Iterator[tuple[str, Any]]:
    """The containers that a code names among the globals, and those of functions that it names."""
    inside = [code, *(c for c in code.co_consts if isinstance(c, types.CodeType))]
    for name in {n for c in inside for n in c.co_names if n in names}:
        value = names[name]
        if isinstance(value, STATES):
            yield f"global {name}", value
        elif isinstance(value, types.FunctionType) and deep and not library(value.__module__):
            yield f"global {name}", value
            yield from of(value, deep - 1)
    for name in {n for c in inside for n in sets(c)}:
        raise UnparallelError(f"{code.co_name} sets the global variable {name}")


@functools.lru_cache(maxsize=1024)
def sets(code: types.CodeType) -> frozenset[str]:
    """The global variables that a code sets."""
    return frozenset(i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"))


def library(module: str | None) -> bool:
    """Whether code is of a library that keeps nothing there."""
    return module is not None and module.partition(".")[0] in LIBRARIES
