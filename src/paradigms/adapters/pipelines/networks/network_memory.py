"""The state of a network between calls: what all objects that it reaches hold, its weights apart.

    a network, its modules     their fields, buffers and hooks, and what their classes hold
    a function on it           what is in its closure, its defaults, its fields, and the globals that it names
    a bound method, a partial  its object, its function, its arguments
    an object                  its fields; lists, dicts, sets, deques: their content

A change of nothing but numbers and words is a count or a note, which may decide about a later answer or not; a change
of anything else can be part of one.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from array import array
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..state.attributes import plain
from ..state.function_caches import CACHED
from ..state.object_contents import content_kind
from ..state.object_fields import own_fields, slots_of
from .kept_contents import ABOVE, NUMBERS, KeptContents, SlotFields
from .network_weights import NetworkWeights

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "numpy")  # whose functions name no state of a network
OTHERS = ("torch", "numpy", "transformers", "tokenizers", "sentencepiece", "PIL", "logging", "threading", "builtins")
# How far into what a network holds. Chosen by hand.
DEEP = 16


class NetworkState:
    """What a network keeps, at one moment; weights: whether those are copied, where they are few."""

    def __init__(self, network: nn.Module, weights: bool = False) -> None:
        self.kept = KeptContents()
        self.iterators = False
        self.cached: list[Any] = []  # functions with a cache of their own
        self.weights = NetworkWeights(network, weights)
        self.seen: set[int] = set()
        self.waiting = list(network.modules())  # and those that are found elsewhere, as in the closure of a hook
        for module in self.waiting:
            self.visit(module, DEEP)
        for base in {k for m in network.modules() for k in type(m).__mro__ if k.__module__.split(".")[0] != "torch"}:
            self.keep(base, {k: v for k, v in vars(base).items() if plain(v)}, DEEP)
            for v in [v for v in vars(base).values() if isinstance(v, types.FunctionType) and not is_library(v)]:
                self.visit(v, DEEP)  # a forward that was set on the class, and what is in its closure
        self.seen.clear()

    def visit(self, v: Any, deep: int) -> None:
        """Keeps what v holds."""
        if (isinstance(v, NUMBERS) and not is_program(v)) or id(v) in self.seen or not deep:
            return
        if hasattr(type(v), "passes_by"):  # ours, as a pipeline holds that is in a closure
            return
        if isinstance(v, nn.Module) and deep < DEEP:
            self.waiting.append(v)  # at full depth, in its turn
            return
        self.seen.add(id(v))
        if isinstance(v, Tensor):
            if not isinstance(v, nn.Parameter):
                self.kept.keep_tensor(v)
        elif content_kind(type(v)) == "generator":
            self.kept.keep_generator(v)
        elif content_kind(type(v)) == "array":
            self.kept.keep_array(v)
        elif isinstance(v, type):
            self.keep(v, {k: x for k, x in vars(v).items() if plain(x)}, deep - 1)
        elif isinstance(v, types.FunctionType):
            self.function(v, deep - 1)
        elif isinstance(v, CACHED):
            self.cached.append(v)
            self.visit(v.__wrapped__, deep - 1)
        elif isinstance(v, types.CellType):
            with contextlib.suppress(ValueError):  # it is empty
                self.keep(v, v.cell_contents, deep - 1)
        elif isinstance(v, bytearray | array):
            self.kept.keep(v, v[:])
        elif isinstance(v, list | set | deque):
            self.keep(v, v.copy(), deep - 1)
        elif isinstance(v, tuple | frozenset | types.MethodType | functools.partial):
            for x in parts_inside(v):
                self.visit(x, deep - 1)
        elif hasattr(type(v), "__next__"):
            self.iterators = True
        elif isinstance(v, dict):
            self.keep(v, dict(v), deep - 1)
        elif isinstance(v, nn.Module):
            self.waiting += [m for m in v._modules.values() if m is not None]
            self.object(v, deep - 1)
        elif type(v).__module__.split(".")[0] not in OTHERS:
            self.object(v, deep - 1)

    def function(self, v: Any, deep: int) -> None:
        """The closure, defaults and fields of a function, and the globals that it names."""
        for x in (*(v.__closure__ or ()), v.__defaults__, v.__kwdefaults__, vars(v)):
            self.visit(x, deep)
            if isinstance(x, types.CellType):
                with contextlib.suppress(ValueError):
                    self.module(x.cell_contents, v, deep)
        if not is_library(v):
            for x in [v.__globals__[k] for k in v.__code__.co_names if k in v.__globals__]:
                self.module(x, v, deep)
            named = {k: v.__globals__[k] for k in v.__code__.co_names if k in v.__globals__}
            self.keep(v.__globals__, {k: x for k, x in named.items() if plain(x)}, deep)
            for x in filter(is_program, named.values()):
                self.visit(x, deep)

    def module(self, v: Any, function: Any, deep: int) -> None:
        """What a function names of a program's module."""
        if isinstance(v, types.ModuleType) and is_programs(v.__name__):
            named = {k: vars(v)[k] for k in function.__code__.co_names if k in vars(v)}
            self.keep(vars(v), {k: x for k, x in named.items() if plain(x)}, deep)

    def object(self, v: Any, deep: int) -> None:
        """The fields of an object."""
        fields = own_fields(v)
        if fields is not None:
            self.keep(fields, {k: x for k, x in fields.items() if k not in ABOVE}, deep)
        if slots_of(type(v)):
            self.keep(SlotFields(v), SlotFields(v).read(), deep)

    def keep(self, thing: Any, content: Any, deep: int) -> None:
        """What a thing holds now, and what that holds."""
        self.kept.keep(thing, content)
        inside: Any = [content]  # a cell's is one thing
        if not isinstance(thing, types.CellType):
            inside = content.values() if isinstance(content, dict) else content
        for x in inside:
            self.visit(x, deep)

    def changes(self) -> Iterator[tuple[tuple[int, Any], Any, Any]]:
        """What is not as it was: where, what was there, and what is."""
        yield from self.kept.changes()
        for p in self.weights.changed():
            yield (id(p), None), None, p

    def restore(self) -> None:
        """Puts everything back but the content of large tensors, and of weights that are many or were not copied."""
        self.weights.restore()
        self.kept.restore()


def parts_inside(v: Any) -> tuple[Any, ...]:
    """What a tuple, a frozen set, a bound method or a partial is made of."""
    if isinstance(v, types.MethodType):
        return v.__self__, v.__func__
    return (v.func, v.args, v.keywords) if isinstance(v, functools.partial) else tuple(v)


def is_program(v: Any) -> bool:
    """Whether a value is a class that is of a program, not of a library or of Python itself."""
    return isinstance(v, type) and is_programs(v.__module__)


def is_programs(module: str) -> bool:
    """Whether a module of that name is of a program, not of a library or of Python itself."""
    root = module.partition(".")[0]
    return root == "__main__" or root not in {*LIBRARIES, *OTHERS, "paradigms", *sys.stdlib_module_names}


def is_library(function: Any) -> bool:
    """Whether a function is of a library, whose functions name no state of a network."""
    return function.__module__ is None or function.__module__.split(".")[0] in LIBRARIES
