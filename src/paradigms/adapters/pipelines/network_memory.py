"""The state of a network between calls: all objects that it reaches, its weights left out; found, compared, put back.

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
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .attributes import plain
from .network_call import tensor_version
from .object_contents import CACHED, content_kind, own_fields, own_slots, same_objects, set_slots, slots_of
from .snapshot import generator_state, overwrite, unequal

NUMBERS = (str, bytes, int, float, bool, complex, type(None), torch.dtype, torch.device, torch.Size, type)
ABOVE = {"_modules", "_compiled_call_impl"}  # of a module: other modules, compiled code
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "numpy")  # whose functions name no state of a network
OTHERS = ("torch", "numpy", "transformers", "tokenizers", "sentencepiece", "PIL", "logging", "threading", "builtins")
# A tensor of at most this many numbers is compared by its content. Chosen by hand.
SMALL = 1 << 20
# Weights of at most this many numbers are copied once a loop: 128 MiB of float32. Chosen by hand.
WEIGHTS = 1 << 25
# How far into what a network holds. Chosen by hand.
DEEP = 16


class NetworkState:
    """What a network keeps, at one moment; weights: whether those are copied, where they are few."""

    def __init__(self, network: nn.Module, weights: bool = False) -> None:
        self.ids: list[list[int] | None] = []  # who was in each dict, for what did not change is most of it
        self.contents: list[tuple[Any, Any]] = []  # lists, sets, deques, cells, fields and what was in them
        self.tensors: dict[int, tuple[Tensor, int | None, Tensor | None]] = {}  # each, its version, a copy if small
        self.generators: list[tuple[Any, Any]] = []  # what sets the state of each, and its state
        self.iterators = False
        self.cached: list[Any] = []  # functions with a cache of their own
        copied = weights and sum(p.numel() for p in network.parameters()) <= WEIGHTS
        self.weights = [(p, tensor_version(p), p.detach().clone() if copied and not p.is_meta else None)
                        for p in network.parameters()]  # fmt: skip
        self.seen: set[int] = set()
        self.waiting = list(network.modules())  # and those that are found elsewhere, as in the closure of a hook
        for module in self.waiting:
            self.visit(module, DEEP)
        for base in {k for m in network.modules() for k in type(m).__mro__ if k.__module__.split(".")[0] != "torch"}:
            self.keep(base, {k: v for k, v in vars(base).items() if plain(v)}, DEEP)
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
                copy = v.detach().clone() if v.numel() <= SMALL and not v.is_meta else None
                self.tensors[id(v)] = v, tensor_version(v), copy
        elif content_kind(type(v)) == "generator":
            self.generators.append(generator_state(v))
        elif content_kind(type(v)) == "array":
            if v.size <= SMALL:
                self.contents.append((v, v.copy()))
                self.ids.append(None)
        elif isinstance(v, type):
            self.keep(v, {k: x for k, x in vars(v).items() if plain(x)}, deep - 1)
        elif isinstance(v, types.FunctionType):
            self.function(v, deep - 1)
        elif isinstance(v, CACHED):
            self.cached.append(v)
            self.visit(v.__wrapped__, deep - 1)
        elif isinstance(v, types.MethodType | functools.partial | types.CellType):
            self.parts(v, deep - 1)
        elif isinstance(v, list | set | deque):
            self.keep(v, v.copy(), deep - 1)
        elif isinstance(v, tuple | frozenset):
            for x in v:
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
        if v.__module__ is not None and v.__module__.split(".")[0] not in LIBRARIES:
            named = {k: v.__globals__[k] for k in v.__code__.co_names if k in v.__globals__}
            self.keep(v.__globals__, {k: x for k, x in named.items() if plain(x)}, deep)
            for x in filter(is_program, named.values()):
                self.visit(x, deep)

    def parts(self, v: Any, deep: int) -> None:
        """What a bound method, a partial or a cell is made of."""
        if isinstance(v, types.CellType):
            with contextlib.suppress(ValueError):  # it is empty
                self.keep(v, v.cell_contents, deep)
        else:
            inside = (v.__self__, v.__func__) if isinstance(v, types.MethodType) else (v.func, v.args, v.keywords)
            for x in inside:
                self.visit(x, deep)

    def object(self, v: Any, deep: int) -> None:
        """The fields of an object."""
        fields = own_fields(v)
        if fields is not None:
            self.keep(fields, {k: x for k, x in fields.items() if k not in ABOVE}, deep)
        if slots_of(type(v)):
            self.keep(SlotFields(v), SlotFields(v).read(), deep)

    def keep(self, thing: Any, content: Any, deep: int) -> None:
        """What a thing holds now, and what that holds."""
        self.contents.append((thing, content))
        self.ids.append(ids(thing) if isinstance(thing, dict) else None)
        inside: Any = [content]  # a cell's is one thing
        if not isinstance(thing, types.CellType):
            inside = content.values() if isinstance(content, dict) else content
        for x in inside:
            self.visit(x, deep)

    def changes(self) -> Iterator[tuple[tuple[int, Any], Any, Any]]:
        """What is not as it was: where, what was there, and what is."""
        for (thing, content), who in zip(self.contents, self.ids, strict=True):
            if who is not None and ids(thing) == who:
                continue
            for place, old, new in content_differences(content, contents_now(thing, content)):
                yield (id(thing.thing if isinstance(thing, SlotFields) else thing), place), old, new
        for p, version, _ in self.weights:
            if version is not None and p._version != version:
                yield (id(p), None), None, p
        for key, (tensor, version, copy) in self.tensors.items():
            past = copy is not None and unequal(tensor, copy)  # by .data, which no version counts
            if past or (version is not None and tensor._version != version):
                yield (key, None), None, tensor

    def restore(self) -> None:
        """Puts everything back but the content of large tensors, and of weights that are many or were not copied."""
        for p, _, copy in self.weights:
            if copy is not None and unequal(p, copy):
                overwrite(p, copy)
        for tensor, _, copy in self.tensors.values():
            if copy is not None and unequal(tensor, copy):
                overwrite(tensor, copy)
        for thing, content in self.contents:
            for _ in content_differences(content, contents_now(thing, content)):
                put_back(thing, content)
                break
        for setter, state in self.generators:
            setter(state)


def ids(thing: dict[Any, Any]) -> list[int]:
    """Who is in a dict."""
    return list(map(id, thing.values()))


def is_program(v: Any) -> bool:
    """Whether a value is a class that is of a program, not of a library or of Python itself."""
    root = v.__module__.partition(".")[0] if isinstance(v, type) else "builtins"
    return root == "__main__" or root not in {*LIBRARIES, *OTHERS, "paradigms", *sys.stdlib_module_names}


class SlotFields:
    """The fields that an object has without a dict."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def read(self) -> dict[str, Any]:
        """Those that are set."""
        return own_slots(self.thing)

    def write(self, content: dict[str, Any]) -> None:
        """Sets all of them."""
        set_slots(self.thing, content)


def contents_now(thing: Any, content: Any) -> Any:
    """What a thing holds now, to be compared with what it held."""
    if isinstance(thing, types.CellType):
        return thing.cell_contents
    if isinstance(thing, SlotFields):
        return thing.read()
    if isinstance(thing, type):
        return {k: v for k, v in vars(thing).items() if plain(v)}
    if isinstance(content, dict):
        wide = thing.get("__builtins__") is None  # of a program's globals only what was named
        return {k: v for k, v in thing.items() if (k not in ABOVE if wide else k in content)}
    return thing


def content_differences(old: Any, new: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Where two contents differ: the place, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for k in old.keys() | new.keys():
            if not same_content(old.get(k), new.get(k)):
                yield k, old.get(k), new.get(k)
    elif isinstance(old, list | deque) and isinstance(new, list | deque):
        for i, (v, w) in enumerate(zip(old, new, strict=False)):
            if not same_content(v, w):
                yield i, v, w
        for i, w in enumerate(list(new)[len(old) :], len(old)):
            yield i, None, w
        if len(new) < len(old):
            yield "length", len(old), len(new)
    elif isinstance(old, set) and isinstance(new, set):
        if old != new:
            yield "set", None, list(new - old)
    elif content_kind(type(new)) == "array":
        if not same_objects(old, new):
            yield "array", None, new
    elif not same_content(old, new):
        yield "", old, new


def same_content(v: Any, w: Any) -> bool:
    """Whether two values are one, or equal numbers or words."""
    return v is w or (type(v) is type(w) and isinstance(v, NUMBERS) and bool(v == w))


def is_plain_data(v: Any) -> bool:
    """Whether a value holds nothing but numbers and words."""
    if isinstance(v, Mapping):
        return all(is_plain_data(k) and is_plain_data(x) for k, x in v.items())
    return isinstance(v, NUMBERS) or (isinstance(v, list | tuple | set | deque) and all(map(is_plain_data, v)))


def put_back(thing: Any, content: Any) -> None:
    """Gives a thing back what it held."""
    if isinstance(thing, types.CellType):
        thing.cell_contents = content
    elif isinstance(thing, SlotFields):
        thing.write(content)
    elif isinstance(thing, type):
        for k in [k for k in contents_now(thing, content) if k not in content]:
            delattr(thing, k)
        for k, v in content.items():
            setattr(thing, k, v)
    elif isinstance(content, dict):
        for k in [k for k in contents_now(thing, content) if k not in content]:
            del thing[k]
        thing.update(content)
    elif isinstance(thing, list):
        thing[:] = content
    elif content_kind(type(thing)) == "array":
        thing[...] = content
    else:
        thing.clear()
        thing.update(content) if isinstance(thing, set) else thing.extend(content)
