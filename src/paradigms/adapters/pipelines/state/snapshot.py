"""A snapshot of all that a loop carries from one step to the next, and how it is put back:

| what                                                                 | how it is put back                         |
| locals that a row sets                                               | handed to the code, which sets them        |
| lists, dicts, sets, deques, objects with fields or slots, closures   | their content; they stay who they are      |
| generators of torch, numpy and `random`, and their own               | their state                                |
| numpy's arrays                                                       | their content                              |
| tensors changed in place, as PNDM's sums are                         | their content, if a copy was kept          |

Tensors count their changes, so one that was changed in place and of which no copy was kept is found: `ChangedError`
names it, and the next time a copy is kept. What is written past that count, by `.data` or numpy, is seen by comparing
contents, where a copy was kept: of the first row of every loop, and of all rows of loops that are no library's. What
cannot be kept, an iterator, an open file, an unknown object that may
change, is found too: `UnkeptError` names it.
"""

from __future__ import annotations

import contextvars
import io
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..code.rewrite import CALLBACKS, UnparallelError
from .function_caches import cached_results
from .object_contents import (
    ObjectContent,
    content_kind,
    content_of,
    parts_of,
    put_back,
    same_objects,
)
from .object_fields import own_fields

NUMBERS = (int, float, complex, str)
# How far into lists, dicts and objects. Chosen by hand.
DEEP = 12


class ChangedError(Exception):
    """Tensors were changed in place of which no copy was kept; args[0] is the set of their places."""


class UnkeptError(UnparallelError):
    """A loop holds something that cannot be kept and put back; the message names it."""


@dataclass
class Snapshot:
    """What was found, see above; `values` are the locals by name."""

    values: dict[str, Any]
    contents: list[tuple[Any, Any]] = field(default_factory=list)
    generators: list[tuple[Callable[[Any], Any], Any]] = field(default_factory=list)
    tensors: list[tuple[str, Tensor, int | None, Tensor | None]] = field(default_factory=list)

    def restore(self) -> dict[str, Any]:
        """Puts everything back but the locals, which it gives; raises ChangedError."""
        if changed := self.changed():
            raise ChangedError(changed)
        for thing, was in self.contents:
            put_back(thing, was)
        for _, tensor, version, copy in self.tensors:
            if copy is not None and version is not None and tensor._version != version:
                tensor.copy_(copy)
            elif copy is not None and unequal(tensor, copy):
                overwrite(tensor, copy)
        self.tensors = [(p, t, None if v is None else t._version, c) for p, t, v, c in self.tensors]
        for setter, state in self.generators:
            setter(state)
        return self.values

    def touched(self) -> str:
        """The name of a class of which an object's fields were set since, or ""."""
        return next(
            (type(thing).__name__ for thing, was in self.contents if not same_objects(content_of(thing), was)), ""
        )

    def silent(self) -> str:
        """The place of a tensor that was changed past the count of its changes, as far as copies were kept, or ""."""
        found = (
            p for p, t, v, c in self.tensors if v is not None and t._version == v and c is not None and unequal(t, c)
        )
        return next(found, "")

    def differs(self, other: Snapshot, numbers: bool = True) -> bool:
        """Whether the same things hold other tensors, or numbers, in another snapshot of the same place in a loop."""
        here, there = (s.held() for s in (self, other))
        both = [(was, there[k]) for k, was in here.items() if k in there and not isinstance(was, Tensor)]
        alike = Alike(here, there, numbers)
        return not all(alike(a, b) for a, b in [(self.values, other.values), *both])

    def held(self) -> dict[int, Any]:
        """What each thing held when it was kept, by id; of tensors their copies."""
        copies = {id(t): c for _, t, _, c in self.tensors if c is not None}
        return {id(thing): was for thing, was in self.contents} | copies

    def changed(self, all: bool = False) -> set[str]:
        """The places of tensors that were changed since, of which no copy was kept, or of all."""
        return {p for p, t, v, c in self.tensors if v is not None and t._version != v and (all or c is None)}


def take_snapshot(
    values: Mapping[str, Any],
    copied: set[str] | None,
    strict: bool = True,
    last: Snapshot | None = None,
    networks: frozenset[int] | None = None,
) -> Snapshot:
    """Everything reachable from locals; tensors in the places `copied` are copied, all if None.

    last: a snapshot before, whose copies of what has not changed are used again. networks: the modules that are the
    pipeline's, by id, which are watched by themselves; others are kept as objects are. Raises UnkeptError, where
    `strict`. The user's callbacks are no part of it.
    """
    found = Snapshot({k: v for k, v in values.items() if not k.startswith("__")})
    seen: set[int] = set()
    copies = {} if last is None else {id(t): (t, c) for _, t, _, c in last.tensors if c is not None}

    def copy_of(v: Tensor) -> Tensor:
        known = copies.get(id(v))
        return known[1] if known is not None and known[0] is v and not unequal(v, known[1]) else v.clone()

    def visit(v: Any, place: str, deep: int) -> None:
        what = content_kind(type(v))
        if what is None and networks is not None and isinstance(v, nn.Module) and id(v) not in networks:
            what = "object"
        if what is None or id(v) in seen:
            return
        seen.add(id(v))
        if what == "tensor":
            visit(own_fields(v), place, deep)
            version = None if v.is_inference() else v._version
            copy = copy_of(v) if copied is None or place in copied or version is None else None
            found.tensors.append((place, v, version, copy))
        elif what == "generator":
            found.generators.append(generator_state(v))
        elif what == "unknown":
            if strict:
                raise UnkeptError(f"its loop holds {place}, {describe_object(v)}, which cannot be kept and put back")
        elif deep:
            if (
                what == "cache"
                and strict
                and any(content_kind(type(x)) not in (None, "tensor") for x in cached_results(v))
            ):
                raise UnkeptError(f"its loop calls {v.__name__}, whose cache holds an object that may change")
            if what != "parts":
                found.contents.append((v, content_of(v)))
            for name, x in parts_of(v):
                if content_kind(type(x)) is not None or isinstance(x, nn.Module):
                    visit(x, f"{place}.{name}", deep - 1)

    for name, v in found.values.items():
        if name not in CALLBACKS:
            visit(v, name, DEEP)
    found.generators += global_streams()
    return found


def generator_state(v: Any) -> tuple[Callable[[Any], Any], Any]:
    """What sets a generator's state, and the state that it has."""
    if isinstance(v, torch.Generator):
        return v.set_state, v.get_state()
    if isinstance(v, random.Random):
        return v.setstate, v.getstate()
    if isinstance(v, contextvars.ContextVar):
        was = v.get(generator_state)
        return (lambda state: (state is was and was is generator_state) or v.set(state)), was
    if hasattr(v, "bit_generator"):
        return generator_state(v.bit_generator)
    if hasattr(v, "get_state"):
        return v.set_state, v.get_state()
    return (lambda state: setattr(v, "state", state)), v.state


def unequal(v: Tensor, copy: Tensor) -> bool:
    """Whether a tensor's content is not that of its copy, bit for bit but for NaN."""
    if v.shape != copy.shape or v.layout != torch.strided or v.is_meta:
        return False
    if torch.equal(v, copy):
        return False
    return not (
        v.is_floating_point()
        and torch.equal(v.isnan(), copy.isnan())
        and torch.equal(v.nan_to_num(), copy.nan_to_num())
    )


def overwrite(v: Tensor, copy: Tensor) -> None:
    """Gives a tensor a content past the count of its changes; one of inference mode has none."""
    if v.is_inference():
        with torch.inference_mode():
            v.copy_(copy)
    else:
        v.data.copy_(copy)


@dataclass
class Alike:
    """Whether two values hold the same tensors, to the rounding of their device, and the same numbers, if they count.

    here, there: what things held when each was kept, by id; they may hold something else by now.
    """

    here: dict[int, Any]
    there: dict[int, Any]
    numbers: bool

    def __call__(self, a: Any, b: Any, deep: int = 3) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            a, b = self.here.get(id(a), a), self.there.get(id(b), b)
            return a is b or (a.shape == b.shape and not (unequal(a, b) if a.device.type == "cpu" else far(a, b)))
        if a is b or not deep:
            return True  # compared by itself
        a, b = self.here.get(id(a), a), self.there.get(id(b), b)
        if isinstance(a, ObjectContent) and isinstance(b, ObjectContent):
            return all(self(getattr(a, k), getattr(b, k), deep) for k in ("fields", "slots", "items"))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return all(self(a.get(k), b.get(k), deep - 1) for k in a.keys() | b.keys())
        if isinstance(a, list | tuple | deque) and isinstance(b, list | tuple | deque):
            return len(a) == len(b) and all(self(v, w, deep - 1) for v, w in zip(a, b, strict=True))
        plain = isinstance(a, NUMBERS) and isinstance(b, NUMBERS)
        return not (self.numbers and plain) or a == b or (a != a and b != b)


def far(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of a device differ by more than it rounds."""
    if a.device.type == "cpu" or not a.is_floating_point():
        return False
    return bool((a.double() - b.double()).norm() > 1e-2 * b.double().norm())


def global_streams() -> list[tuple[Callable[[Any], Any], Any]]:
    """What a process has by itself: the streams of random numbers, and its environment."""
    return [*random_streams(), (set_environment, dict(os.environ))]


def random_streams() -> list[tuple[Callable[[Any], Any], Any]]:
    """The streams of torch on each device, of numpy and of `random`: what sets each, and its state."""
    found: list[tuple[Callable[[Any], Any], Any]] = [(torch.set_rng_state, torch.get_rng_state())]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found += [(g.set_state, g.get_state()) for g in torch.cuda.default_generators]
    found.append((random.setstate, random.getstate()))
    if (numpy := sys.modules.get("numpy")) is not None and "numpy.random" in sys.modules:
        found.append((numpy.random.set_state, numpy.random.get_state()))
    return found


def same_state(a: Any, b: Any) -> bool:
    """Whether two states of a stream are one."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if hasattr(a, "__array__"):
        return bool((a == b).all())
    if isinstance(a, tuple) and any(hasattr(v, "__array__") for v in a):
        return all(map(same_state, a, b))
    return bool(a == b)


def set_environment(was: dict[str, str]) -> None:
    """Gives the process the variables of its environment that it had."""
    if was != os.environ:
        os.environ.clear()
        os.environ.update(was)


def describe_object(v: Any) -> str:
    """What a thing is that cannot be kept."""
    if isinstance(v, io.IOBase):
        return "an open file"
    what = "an iterator" if hasattr(type(v), "__next__") else "an object that may change"
    return f"{what} ({type(v).__name__})"
