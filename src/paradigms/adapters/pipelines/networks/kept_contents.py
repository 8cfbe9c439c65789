"""What things held at one moment: kept, compared with what they hold now, and put back in place.

lists, sets, deques, dicts, arrays     a copy of what is in them
an object's fields and slots, a class  likewise, by name
a variable of a closure                its value
a tensor                               torch's count of its changes, a copy where it is small
a generator                            its state
"""

from __future__ import annotations

import types
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..state.attributes import plain
from ..state.object_contents import content_kind, same_objects
from ..state.object_fields import own_slots, set_slots
from ..state.snapshot import generator_state, overwrite, unequal
from .network_call import tensor_version

NUMBERS = (str, bytes, int, float, bool, complex, type(None), torch.dtype, torch.device, torch.Size, type)
ABOVE = {"_modules", "_compiled_call_impl"}  # of a module: other modules, compiled code
# A tensor or an array of at most this many numbers is compared by its content. Chosen by hand.
SMALL = 1 << 20
ROWS = (list, deque, bytearray, array)  # whose content has an order


class KeptContents:
    """Things, and what each held when it was kept."""

    def __init__(self) -> None:
        self.ids: list[list[int] | None] = []  # who was in each dict, for what did not change is most of it
        self.contents: list[tuple[Any, Any]] = []  # lists, sets, deques, cells, fields and what was in them
        self.tensors: dict[int, tuple[Tensor, int | None, Tensor | None]] = {}  # each, its version, a copy if small
        self.generators: list[tuple[Any, Any]] = []  # what sets the state of each, and its state

    def keep(self, thing: Any, content: Any) -> None:
        """What a thing holds now."""
        self.contents.append((thing, content))
        self.ids.append(ids(thing) if isinstance(thing, dict) else None)

    def keep_tensor(self, v: Tensor) -> None:
        """The numbers of a tensor, if they are few, and the count of its changes."""
        copy = v.detach().clone() if v.numel() <= SMALL and not v.is_meta else None
        self.tensors[id(v)] = v, tensor_version(v), copy

    def keep_array(self, v: Any) -> None:
        """The numbers of an array, if they are few."""
        if v.size <= SMALL:
            self.keep(v, v.copy())

    def keep_generator(self, v: Any) -> None:
        """The state of a generator of random numbers."""
        self.generators.append(generator_state(v))

    def changes(self) -> Iterator[tuple[tuple[int, Any], Any, Any]]:
        """What is not as it was: where, what was there, and what is."""
        for (thing, content), who in zip(self.contents, self.ids, strict=True):
            if who is not None and ids(thing) == who:
                continue
            for place, old, new in content_differences(content, contents_now(thing, content)):
                yield (id(thing.thing if isinstance(thing, SlotFields) else thing), place), old, new
        for key, (tensor, version, copy) in self.tensors.items():
            past = copy is not None and unequal(tensor, copy)  # by .data, which no version counts
            if past or (version is not None and tensor._version != version):
                yield (key, None), None, tensor

    def restore(self) -> None:
        """Puts everything back but the content of large tensors."""
        for tensor, _, copy in self.tensors.values():
            if copy is not None and unequal(tensor, copy):
                overwrite(tensor, copy)
        for thing, content in self.contents:
            for _ in content_differences(content, contents_now(thing, content)):
                put_back(thing, content)
                break
        for setter, state in self.generators:
            setter(state)


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
        wide = "__builtins__" not in thing and "__spec__" not in thing  # of a module only what was named
        return {k: v for k, v in thing.items() if (k not in ABOVE if wide else k in content)}
    return thing


def content_differences(old: Any, new: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Where two contents differ: the place, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for k in old.keys() | new.keys():
            if not same_content(old.get(k), new.get(k)):
                yield k, old.get(k), new.get(k)
    elif isinstance(old, ROWS) and isinstance(new, ROWS):
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
        dict.update(thing, content)  # a Counter's own adds
    elif isinstance(thing, list | bytearray | array):
        thing[:] = content
    elif content_kind(type(thing)) == "array":
        thing[...] = content
    else:
        thing.clear()
        thing.update(content) if isinstance(thing, set) else thing.extend(content)


def ids(thing: dict[Any, Any]) -> list[int]:
    """Who is in a dict."""
    return list(map(id, thing.values()))
