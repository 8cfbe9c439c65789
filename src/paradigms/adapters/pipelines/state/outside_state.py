"""The state outside of a loop's local variables that its code may change: globals, classes, closures.

    global NAME       of the loop's function, its class's methods, and the functions that these name
    class NAME        the attributes of its own class, and of the classes that code names or whose objects it holds
    function NAME     its defaults, its fields, its closure
    module NAME       all global variables, where code can set them by name: globals(), setattr, module.NAME = ..

Of code of diffusers itself only containers that the loop's function names are read: it keeps nothing there. What cannot
be put back makes the loop run step by step: a global variable that is set anew by a statement, the account of a cache
(`cache_info`), and a cached function that keeps state, for the cache hides which of its calls were made.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from ..code.rewrite import UnparallelError
from ..code.wrappers import cell_content, innermost_function
from .attributes import Attributes, Globals
from .function_caches import CACHED

STATES = (list, dict, set, deque)
LIBRARIES = ("diffusers", "torch", "transformers", "accelerate", "huggingface_hub", "paradigms",
             "numpy", "PIL", "tqdm")  # fmt: skip
# How far functions name each other. Chosen by hand.
DEEP = 3
WRITERS = {"globals", "vars", "setattr", "delattr", "exec", "eval", "__dict__", "__globals__", "modules"}  # by name
ACCOUNTS = {"cache_info", "cache_clear"}  # what a function's cache says of the calls that were made
CHANGERS = {"append", "appendleft", "extend", "insert", "pop", "popleft", "popitem", "remove", "discard", "clear",
            "add", "update", "setdefault", "next", "add_", "copy_", "mul_", "fill_"}  # fmt: skip
STORES = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR")


def outside_state(
    kind: type, code: types.CodeType, names: dict[str, Any], held: Iterable[Any] = (), strict: bool = True
) -> dict[str, Any]:
    """What can be a state, by name, of a pipeline's class and its loop, and of the classes and functions of `held`.

    Raises UnparallelError for what cannot be put back, where `strict`.
    """
    walk = OutsideWalk()
    try:
        for base in kind.__mro__:
            walk.visit_class(base, DEEP)
        for v in held:
            if isinstance(v, types.FunctionType):
                if not is_library(v.__module__):
                    walk.visit_function(v, DEEP)
            elif is_program_class(type(v).__module__):
                for base in type(v).__mro__:
                    walk.visit_class(base, DEEP)
        walk.visit_code(code, names, DEEP)
    except UnparallelError:
        if strict:
            raise
        walk.found[f"module {names.get('__name__')}"] = Globals(names)
    return walk.found


class OutsideWalk:
    """What code names, followed `deep` times from one code to the next; `found`: what can be a state, by name."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.seen: dict[int, int] = {}  # how deep each class and code was followed: libraries name themselves

    def is_new(self, thing: Any, deep: int) -> bool:
        """Whether something was not yet followed so deep."""
        new = self.seen.get(id(thing), -1) < deep
        if new:
            self.seen[id(thing)] = deep
        return new

    def visit_class(self, kind: type, deep: int) -> None:
        """A class's own attributes, and what its methods name."""
        if not is_program_class(kind.__module__) or not self.is_new(kind, deep):
            return
        self.found[f"class {kind.__module__}.{kind.__qualname__}"] = Attributes(kind)
        self.visit_class(type(kind), deep)
        for name, value in list(vars(kind).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType | CACHED):
                self.found[f"function {kind.__module__}.{kind.__qualname__}.{name}"] = function
                self.visit_function(innermost_function(function), deep)
                refuse_cached_state(function, name)

    def visit_function(self, function: Any, deep: int) -> None:
        """What a function names, itself or by the functions that it names or has in its closure."""
        if not isinstance(function, types.FunctionType):
            return
        self.visit_code(function.__code__, function.__globals__, deep)
        for held in map(cell_content, function.__closure__ or ()):
            if isinstance(held, types.FunctionType | CACHED) and deep and not is_library(held.__module__):
                self.visit_function(innermost_function(held), deep - 1)
                refuse_cached_state(held, held.__name__)

    def visit_code(self, code: types.CodeType, names: dict[str, Any], deep: int) -> None:
        """What a code names among the globals, and what functions, classes and modules that it names do."""
        if not self.is_new(code, deep):
            return
        inside = list(codes(code))
        known = {n for c in inside for n in c.co_names}
        own = not is_library(names.get("__name__"))
        for name in known & names.keys():
            self.visit_value(name, names[name], own, deep)
        if own:
            self.visit_modules(names, known, deep)
        for name in {n for c in inside for n in globals_set(c)}:
            raise UnparallelError(f"{code.co_name} sets the global variable {name}")
        if own and ACCOUNTS & known:
            raise UnparallelError(f"{code.co_name} asks what a function's cache holds, which cannot be put back")

    def visit_value(self, name: str, value: Any, own: bool, deep: int) -> None:
        """A global variable that code names; own: where the code is no library's."""
        if isinstance(value, type):
            if own and deep:
                self.visit_class(value, deep - 1)
        elif isinstance(value, types.FunctionType | CACHED):
            if deep and not is_library(value.__module__):
                self.found[f"global {name}"] = value
                self.visit_function(innermost_function(value), deep - 1)
                refuse_cached_state(value, name)
        elif own or isinstance(value, STATES):
            self.found[f"global {name}"] = value
            if own and deep:
                self.visit_class(type(value), deep - 1)

    def visit_modules(self, names: dict[str, Any], known: set[str], deep: int) -> None:
        """The modules of a program whose variables code sets or reads by name: its own, and those that it names."""
        named = [v for n in known if isinstance(v := names.get(n, sys.modules.get(n)), types.ModuleType)]
        own = sys.modules.get(names.get("__name__", ""))
        for module in [v for v in named if v is not own and is_program_class(v.__name__)]:
            self.found[f"module {module.__name__}"] = Globals(vars(module))
            for name in known & vars(module).keys() if deep else ():
                self.visit_value(f"{module.__name__}.{name}", vars(module)[name], True, deep - 1)
        if known & WRITERS or any(v is own for v in named):
            self.found[f"module {names.get('__name__')}"] = Globals(names)
            self.found.update((f"global {k}", v) for k, v in names.items() if isinstance(v, STATES) and k[:2] != "__")


def refuse_cached_state(function: Any, name: str) -> None:
    """Raises UnparallelError where a function is cached and keeps state, or counts in its cache."""
    plain = innermost_function(function)
    if isinstance(function, CACHED) and isinstance(plain, types.FunctionType) and not is_library(plain.__module__):
        inside = list(codes(plain.__code__))
        if any(c.co_freevars or stores(c) or CHANGERS & {*c.co_names} for c in inside):
            raise UnparallelError(f"{name} is cached, and keeps state of the calls that its cache does not answer")


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code and those inside it."""
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from codes(c)


def is_program_class(module: str) -> bool:
    """Whether a class's module is of a program, not of a library or of Python itself."""
    return module == "__main__" or (not is_library(module) and module.partition(".")[0] not in sys.stdlib_module_names)


@functools.lru_cache(maxsize=1024)
def globals_set(code: types.CodeType) -> frozenset[str]:
    """The global variables that a code sets."""
    return frozenset(i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"))


@functools.lru_cache(maxsize=1024)
def stores(code: types.CodeType) -> bool:
    """Whether a code sets anything but its locals."""
    return any(i.opname in STORES for i in dis.get_instructions(code))


def is_library(module: str | None) -> bool:
    """Whether code is of a library that keeps nothing there."""
    return module is not None and module.partition(".")[0] in LIBRARIES
