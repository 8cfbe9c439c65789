"""All that a loop carries from one step to the next, kept and put back:

| what                                                              | how it is put back                         |
| locals that a row sets                                            | handed to the code, which sets them        |
| lists, dicts, and objects with fields: schedulers, the pipeline   | their content; they stay who they are      |
| generators, and torch's own                                       | their state                                |
| tensors changed in place, as PNDM's sums are                      | their content, if a copy was kept          |

Tensors count their changes, so one that was changed in place and of which no copy was kept is found:
`ChangedError` names it, and the next time a copy is kept.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ATOMS = (str, bytes, int, float, bool, complex, type(None), type, torch.dtype, torch.device, torch.Size, nn.Module,
         types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)  # fmt: skip
STATELESS = (
    "transformers",
    "tokenizers",
    "sentencepiece",
    "PIL",
    "numpy",
    "tqdm",
)  # packages whose objects a loop reads
DEEP = 5  # how far into lists, dicts and objects


class ChangedError(Exception):
    """Tensors were changed in place of which no copy was kept; args[0] is the set of their places."""


@dataclass
class Snapshot:
    """What was found, see above; `values` are the locals by name."""

    values: dict[str, Any]
    contents: list[tuple[Any, Any]] = field(default_factory=list)
    generators: list[tuple[torch.Generator, Tensor]] = field(default_factory=list)
    tensors: list[tuple[str, Tensor, int | None, Tensor | None]] = field(default_factory=list)
    rng: list[Tensor] = field(default_factory=list)

    def restore(self) -> dict[str, Any]:
        """Puts everything back but the locals, which it gives; raises ChangedError."""
        if changed := self.changed():
            raise ChangedError(changed)
        for thing, content in self.contents:
            if isinstance(thing, list):
                thing[:] = content
            else:
                fields = thing if type(thing) is dict else vars(thing)
                fields.clear()
                fields.update(content)
        for _, tensor, version, copy in self.tensors:
            if copy is not None and (version is None or tensor._version != version):
                tensor.copy_(copy)
        self.tensors = [(p, t, None if v is None else t._version, c) for p, t, v, c in self.tensors]
        for generator, state in self.generators:
            generator.set_state(state)
        torch.set_rng_state(self.rng[0])
        if len(self.rng) > 1:
            torch.cuda.set_rng_state(self.rng[1])
        return self.values

    def touched(self) -> str:
        """The name of a class of which an object's fields were set since, or ""."""
        for thing, content in self.contents:
            if type(thing) not in (dict, list) and any(vars(thing).get(k) is not v for k, v in content.items()):
                return type(thing).__name__
            now = thing if type(thing) in (dict, list) else vars(thing)
            if len(now) != len(content):
                return type(thing).__name__
        return ""

    def changed(self, all: bool = False) -> set[str]:
        """The places of tensors that were changed since, of which no copy was kept, or of all."""
        return {p for p, t, v, c in self.tensors if v is not None and t._version != v and (all or c is None)}


def snapshot(values: Mapping[str, Any], copied: set[str] | None) -> Snapshot:
    """Everything reachable from locals; tensors in the places `copied` are copied, all if None."""
    found = Snapshot({k: v for k, v in values.items() if not k.startswith("__")})
    seen: set[int] = set()

    def visit(v: Any, place: str, deep: int) -> None:
        what = kind(type(v))  # type: ignore[arg-type]
        if what is None or id(v) in seen:
            return
        seen.add(id(v))
        if what == "tensor":
            version = None if v.is_inference() else v._version
            copy = v.clone() if copied is None or place in copied or version is None else None
            found.tensors.append((place, v, version, copy))
        elif what == "generator":
            found.generators.append((v, v.get_state()))
        elif deep and what == "list":
            if type(v) is list:
                found.contents.append((v, list(v)))
            for i, x in enumerate(v):
                visit(x, f"{place}.{min(i, 3)}", deep - 1)
        elif deep and isinstance(fields := v if what == "dict" else getattr(v, "__dict__", None), dict):
            found.contents.append((v, dict(fields)))
            for k, x in fields.items():
                if kind(type(x)) is not None:  # type: ignore[arg-type]
                    visit(x, f"{place}.{k}", deep - 1)

    for name, v in found.values.items():
        visit(v, name, DEEP)
    found.rng = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found.rng.append(torch.cuda.get_rng_state())
    return found


@functools.cache
def kind(of: Any) -> str | None:
    """What a class's values are: "tensor", "generator", "list", "dict", "object" with fields; None if only read."""
    if issubclass(of, ATOMS) or of.__module__.partition(".")[0] in STATELESS or hasattr(of, "passes_by"):
        return None
    for base, name in ((Tensor, "tensor"), (torch.Generator, "generator"), (tuple, "list")):
        if issubclass(of, base):
            return name
    return {list: "list", dict: "dict"}.get(of, "object")


class Fields:
    """What the modules of a network hold: their fields, and how often their tensors were changed in place.

    What is written to a parameter's `.data` is not seen.
    """

    def __init__(self, network: nn.Module) -> None:
        own = [vars(module) for module in network.modules()]
        inner = [v for fields in own for v in fields.values() if type(v) in (dict, list, OrderedDict)]
        self.kept = [(v, v.copy()) for v in (*own, *inner)]
        self.tensors = [t for t in (*network.parameters(), *network.buffers()) if not t.is_inference()]
        self.versions = [t._version for t in self.tensors]

    def same(self) -> bool:
        """Whether all is as it was."""
        try:
            return self.versions == [t._version for t in self.tensors] and all(v == w for v, w in self.kept)
        except (RuntimeError, ValueError):  # another tensor or array is in the place of one
            return False

    def restore(self) -> None:
        """Puts the fields back, not the content of tensors."""
        for v, w in self.kept:
            if isinstance(v, list):
                v[:] = w
            else:
                v.clear()
                v.update(w)
