"""All that a loop carries from one step to the next, kept and put back:

| what                                                                 | how it is put back                         |
| locals that a row sets                                               | handed to the code, which sets them        |
| lists, dicts, sets, deques, objects with fields or slots, closures   | their content; they stay who they are      |
| generators of torch, numpy and `random`, and their own               | their state                                |
| numpy's arrays                                                       | their content                              |
| tensors changed in place, as PNDM's sums are                         | their content, if a copy was kept          |

Tensors count their changes, so one that was changed in place and of which no copy was kept is found: `ChangedError`
names it, and the next time a copy is kept. What cannot be kept, an iterator, an open file, an unknown object that may
change, is found too: `UnkeptError` names it.
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .object_contents import content, kind, parts, put, same
from .rewrite import CALLBACKS, UnparallelError

DEEP = 5  # how far into lists, dicts and objects


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
            put(thing, was)
        for _, tensor, version, copy in self.tensors:
            if copy is not None and (version is None or tensor._version != version):
                tensor.copy_(copy)
        self.tensors = [(p, t, None if v is None else t._version, c) for p, t, v, c in self.tensors]
        for setter, state in self.generators:
            setter(state)
        return self.values

    def touched(self) -> str:
        """The name of a class of which an object's fields were set since, or ""."""
        return next((type(thing).__name__ for thing, was in self.contents if not same(content(thing), was)), "")

    def changed(self, all: bool = False) -> set[str]:
        """The places of tensors that were changed since, of which no copy was kept, or of all."""
        return {p for p, t, v, c in self.tensors if v is not None and t._version != v and (all or c is None)}


def snapshot(values: Mapping[str, Any], copied: set[str] | None, strict: bool = True) -> Snapshot:
    """Everything reachable from locals; tensors in the places `copied` are copied, all if None.

    Raises UnkeptError, where `strict`. The user's callbacks are no part of it.
    """
    found = Snapshot({k: v for k, v in values.items() if not k.startswith("__")})
    seen: set[int] = set()

    def visit(v: Any, place: str, deep: int) -> None:
        what = kind(type(v))
        if what is None or id(v) in seen:
            return
        seen.add(id(v))
        if what == "tensor":
            version = None if v.is_inference() else v._version
            copy = v.clone() if copied is None or place in copied or version is None else None
            found.tensors.append((place, v, version, copy))
        elif what == "generator":
            found.generators.append(generator(v))
        elif what == "unknown":
            if strict:
                raise UnkeptError(f"its loop holds {place}, {described(v)}, which cannot be kept and put back")
        elif deep:
            if what != "parts":
                found.contents.append((v, content(v)))
            for name, x in parts(v):
                if kind(type(x)) is not None:
                    visit(x, f"{place}.{name}", deep - 1)

    for name, v in found.values.items():
        if name not in CALLBACKS:
            visit(v, name, DEEP)
    found.generators += streams()
    return found


def generator(v: Any) -> tuple[Callable[[Any], Any], Any]:
    """What sets a generator's state, and the state that it has."""
    if isinstance(v, torch.Generator):
        return v.set_state, v.get_state()
    if isinstance(v, random.Random):
        return v.setstate, v.getstate()
    if hasattr(v, "bit_generator"):
        return generator(v.bit_generator)
    if hasattr(v, "get_state"):
        return v.set_state, v.get_state()
    return (lambda state: setattr(v, "state", state)), v.state


def streams() -> list[tuple[Callable[[Any], Any], Any]]:
    """The generators that a process has by itself: torch's on each device, numpy's and `random`'s."""
    found: list[tuple[Callable[[Any], Any], Any]] = [(torch.set_rng_state, torch.get_rng_state())]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found += [(g.set_state, g.get_state()) for g in torch.cuda.default_generators]
    found.append((random.setstate, random.getstate()))
    if (numpy := sys.modules.get("numpy")) is not None and "numpy.random" in sys.modules:
        found.append((numpy.random.set_state, numpy.random.get_state()))
    return found


def described(v: Any) -> str:
    """What a thing is that cannot be kept."""
    if isinstance(v, io.IOBase):
        return "an open file"
    what = "an iterator" if hasattr(v, "__next__") else "an object that may change"
    return f"{what} ({type(v).__name__})"
