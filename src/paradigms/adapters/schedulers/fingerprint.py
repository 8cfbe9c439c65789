"""A short mark of a value by which a change is noticed: scalars by value, tensors by how often they changed.

| value                              | its mark                                                     |
| numbers, text, None, dtypes        | itself                                                       |
| a tensor                           | who it is, and torch's count of changes in place             |
| lists, dicts, sets, queues         | the marks of the first MANY of what they hold                |
| a scheduler                        | its configuration, its levels, and functions put on it       |
| modules, other objects             | who they are, and the marks of their fields, DEEP levels far |
"""

from __future__ import annotations

import itertools
import types
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MANY, DEEP = 32, 4
ATOMS = (str, bytes, int, float, bool, complex, type(None), type, torch.dtype, torch.device)
REGISTERS = ("_parameters", "_buffers", "_modules")  # of a module
TORCHS = frozenset(vars(nn.Module()))  # its hooks and its mode are not the loop's


def fingerprint(value: Any, network: Any = None, deep: int = DEEP) -> Hashable:
    """The mark of a value; `network`, the one that a loop calls, is marked by who it is alone."""
    if isinstance(value, ATOMS):
        return type(value), repr(value) if isinstance(value, float) else value
    if isinstance(value, Tensor):
        return id(value), tuple(value.shape), None if value.is_inference() else value._version
    if isinstance(value, types.MethodType):
        return id(value.__func__), id(value.__self__)
    if value is network or deep == 0 or isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return id(value)
    if hasattr(value, "set_timesteps") and hasattr(value, "step"):
        return levels(value), tuple((k, id(v)) for k, v in vars(value).items() if callable(v))
    if isinstance(value, Mapping):
        return id(value), len(value), fingerprints(((repr(k), v) for k, v in value.items()), network, deep)
    if isinstance(value, list | tuple | deque | set | frozenset):
        kept = id(value) if isinstance(value, list | deque) else None  # a tuple may be made anew by a property
        return kept, len(value), fingerprints(((str(n), v) for n, v in enumerate(value)), network, deep)
    return id(value), type(value), fingerprints(fingerprint_fields(value), network, deep)


def fingerprints(named: Iterable[tuple[str, Any]], network: Any, deep: int) -> Hashable:
    """The marks of the first of some named values."""
    return tuple((name, fingerprint(v, network, deep - 1)) for name, v in itertools.islice(named, MANY))


def fingerprint_fields(thing: Any) -> list[tuple[str, Any]]:
    """The fields of an object; of a module what it registers and what users set, and not its hooks."""
    held = getattr(thing, "__dict__", {})
    if not isinstance(thing, nn.Module):
        return list(held.items())
    own = [(k, v) for k, v in held.items() if k not in TORCHS]
    return own + [item for register in REGISTERS for item in held[register].items()]


def levels(scheduler: Any) -> Hashable:
    """What tells the table of one scheduler from another's: class, configuration and, changed by hand, its levels."""
    held = getattr(scheduler, "alphas_cumprod", None)
    config = repr(list(getattr(scheduler, "config", {}).items()))
    return type(scheduler), config, tuple(held.tolist()) if isinstance(held, Tensor) else None
