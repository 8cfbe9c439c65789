"""The contents of Python objects, kind by kind: how they are read, compared and put back in place.

| kind        | things                                              | content                                    |
| "list"      | lists, sets, deques                                 | a copy                                     |
| "dict"      | dicts                                               | a copy                                     |
| "object"    | anything with fields or slots                       | the fields, and a dict's or list's items   |
| "array"     | numpy's arrays                                      | a copy                                     |
| "cell"      | a variable of a closure                             | its value                                  |
| "cache"     | functions with a cache of `functools`               | how many results it has                    |
| "class"     | a class, within `Attributes`                     | its attributes that can be a state         |
|              | a module's global variables, within `Globals`       | those that can be a state                  |
| "parts"     | tuples, functions, bound methods: they do not change, what they hold and their fields may         |
| "tensor", "generator", "unknown"   | see `snapshot.py`                                                            |
"""

from __future__ import annotations

import contextvars
import enum
import functools
import io
import random
import sys
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .attributes import Attributes, Globals
from .function_caches import CACHED
from .object_fields import has_fields, own_fields, own_slots, set_slots

ATOMS = (str, bytes, int, float, bool, complex, type(None), type, torch.dtype, torch.device, torch.Size, nn.Module,
         enum.Enum, range, slice, type(Ellipsis), types.ModuleType, types.CodeType, property)  # fmt: skip
STATELESS = (
    "transformers",
    "tokenizers",
    "sentencepiece",
    "PIL",
    "tqdm",
    "logging",
    "_thread",
    "threading",
    "regex",
    "_pytest",
    "pluggy",
)  # packages whose objects a loop reads
PARTS = (tuple, frozenset, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType,
         functools.partial, types.MappingProxyType)  # fmt: skip
BARS = "_progress_bar_config"  # of a pipeline: what its bars write to is no part of a step
NUMPY = {"Generator": "generator", "RandomState": "generator", "SeedSequence": "unknown", "void": "unknown"}


def content_kind(of: Any) -> str | None:
    """What a class's values are, see above; None if they are only read."""
    return _kind(of)


@functools.lru_cache(maxsize=4096)
def _kind(of: Any) -> str | None:
    root = of.__module__.partition(".")[0]
    if issubclass(of, threading.local | Attributes | threading.Event | threading.Semaphore):
        return "class" if issubclass(of, Attributes) else "object"
    if (issubclass(of, ATOMS) and not has_own_fields(of)) or root in STATELESS or hasattr(of, "passes_by"):
        return None
    if root == "numpy" or hasattr(of, "__array_finalize__"):
        return numpy_kind(of)
    if issubclass(of, random.SystemRandom):
        return "unknown"
    if of is memoryview or of is CACHED:
        return "unknown" if of is memoryview else "cache"
    for base, name in ((Tensor, "tensor"), (torch.Generator, "generator"), (random.Random, "generator"),
                       (contextvars.ContextVar, "generator"), (types.CellType, "cell"), (PARTS, "parts")):  # fmt: skip
        if issubclass(of, base):
            return name
    if of in (list, set, deque):
        return "list"
    if of in (dict, OrderedDict):
        return "dict"
    if hasattr(of, "__next__") or issubclass(of, io.IOBase) or hasattr(of, "from_buffer"):  # the last is ctypes'
        return "unknown"
    if issubclass(of, list | set | deque | dict) or has_fields(of):
        return "object"
    changing = of.__hash__ in (None, object.__hash__) and of is not object and root not in ("torch", "builtins")
    return "unknown" if changing or of is bytearray else None


def numpy_kind(of: Any) -> str | None:
    """What numpy's classes are, and arrays of a program's own, which may have fields beside their numbers."""
    if hasattr(of, "__array_finalize__"):
        return "array" if of.__module__.partition(".")[0] == "numpy" else "unknown"
    if hasattr(of, "random_raw"):
        return "generator"
    what = "unknown" if hasattr(of, "__next__") else "object" if has_fields(of) else None
    return NUMPY.get(of.__name__, what)


def has_own_fields(of: Any) -> bool:
    """Whether a number, a word or a member of an enumeration is of a class that gave it fields beside."""
    return issubclass(of, str | bytes | int | float | complex | enum.Enum) and has_fields(of)


class ObjectContent:
    """The content of an object: its fields, its slots, and its items where it is a list, a dict or the like."""

    def __init__(self, thing: Any) -> None:
        self.fields = dict(own_fields(thing) or {})
        self.slots = own_slots(thing)
        self.items: Any = None
        if isinstance(thing, dict):
            self.items = dict(thing)
        elif isinstance(thing, list | set | deque):
            self.items = list(thing)


def content_of(thing: Any) -> Any:
    """What a thing holds, of a kind that can be kept."""
    what = content_kind(type(thing))
    if what == "class":
        return thing.read()
    if what == "cell":
        try:
            return thing.cell_contents
        except ValueError:  # not yet set
            return content_of
    if what == "cache":
        return thing.cache_info().currsize
    return thing.copy() if what in ("list", "dict", "array") else ObjectContent(thing)


def parts_of(thing: Any) -> Iterator[tuple[str, Any]]:
    """What a thing holds, by names of its place."""
    what = content_kind(type(thing))
    if isinstance(thing, types.FunctionType) and "_torchdynamo_orig_callable" in vars(thing):
        yield "compiled", vars(thing)["_torchdynamo_orig_callable"]  # what torch.compile was given; the rest is torch's
    elif isinstance(thing, types.FunctionType):
        yield from zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=False)
        yield from (("defaults", thing.__defaults__), ("kwdefaults", thing.__kwdefaults__), ("fields", vars(thing)))
    elif isinstance(thing, types.MethodType | types.BuiltinFunctionType | types.MethodWrapperType):
        yield "self", thing.__self__
    elif isinstance(thing, CACHED):
        yield "wrapped", thing.__wrapped__
    elif isinstance(thing, Globals):
        return
    elif isinstance(thing, functools.partial):
        yield from (("func", thing.func), ("args", thing.args), ("keywords", thing.keywords))
    elif what == "cell":
        yield "value", content_of(thing)
    elif what == "class":
        yield from thing.read().items()
    elif what == "dict" or isinstance(thing, types.MappingProxyType):
        yield from ((str(k), v) for k, v in thing.items())
        yield from (("key", k) for k in thing if not isinstance(k, ATOMS))
    elif what == "array" and thing.dtype == object:
        yield from (("item", v) for v in thing.flat)
    elif what in ("list", "parts"):
        yield from ((str(min(i, 3)), v) for i, v in enumerate(thing))
        yield from [("fields", fields)] if (fields := own_fields(thing)) is not None else []
    elif what == "object" or isinstance(thing, nn.Module):
        whole = ObjectContent(thing)
        yield from ((str(k), v) for k, v in (whole.fields | whole.slots).items() if k != BARS)
        items = whole.items.values() if isinstance(whole.items, dict) else whole.items or ()
        yield from ((str(min(i, 3)), v) for i, v in enumerate(items))
        yield from [("args", thing.args)] if isinstance(thing, BaseException) else []
        if isinstance(thing, defaultdict):
            yield "default_factory", thing.default_factory
        yield from ((f"class {v.of.__name__}", v) for v in classes(type(thing)))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1024)
def classes(of: Any) -> tuple[Attributes, ...]:
    """The classes of an object that can hold state: those of a program, not of a library or of Python itself."""
    roots = {"diffusers", "torch", "transformers", "accelerate", "numpy", "paradigms", *sys.stdlib_module_names}
    return tuple(Attributes(k) for k in of.__mro__ if k.__module__.partition(".")[0] not in roots - {"__main__"})


def same_objects(a: Any, b: Any) -> bool:
    """Whether two contents hold the same things, by who they are."""
    if isinstance(a, ObjectContent) and isinstance(b, ObjectContent):
        return same_objects(a.fields, b.fields) and same_objects(a.slots, b.slots) and same_objects(a.items, b.items)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(k in b and b[k] is v for k, v in a.items())
    if isinstance(a, list | deque):
        return len(a) == len(b) and all(map(_is, a, b))
    if isinstance(a, set):
        return a == b
    array = hasattr(type(a), "__array_finalize__")
    if array and a.dtype == object:
        return a.shape == b.shape and all(map(_is, a.flat, b.flat))
    return a is b or (array and a.shape == b.shape and bool((a == b).all()))


def _is(v: Any, w: Any) -> bool:
    return v is w


def put_back(thing: Any, was: Any) -> None:
    """Gives a thing back what it held, where that is not what it holds."""
    if same_objects(content_of(thing), was):
        return
    what = content_kind(type(thing))
    if what == "cell":
        if was is content_of:
            del thing.cell_contents
        else:
            thing.cell_contents = was
    elif what == "class":
        thing.write(was)
    elif what == "array":
        thing[...] = was
    elif what == "cache":  # one that has more than it had answers as it would have, but for what was not there at all
        if was == 0:
            thing.cache_clear()
    elif what in ("list", "dict"):
        refill_container(thing, was)
    else:
        if (fields := own_fields(thing)) is not None:
            refill_container(fields, was.fields)
        set_slots(thing, was.slots)
        if was.items is not None:
            refill_container(thing, was.items)


def refill_container(thing: Any, items: Any) -> None:
    """Gives a container other items."""
    base = next(b for b in (list, set, deque, OrderedDict, dict) if isinstance(thing, b))
    if base is list:
        list.__setitem__(thing, slice(None), items)
        return
    base.clear(thing)  # type: ignore[arg-type]
    fill: Any = deque.extend if base is deque else getattr(base, "update")  # noqa: B009
    fill(thing, items)
