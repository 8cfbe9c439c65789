"""Tells models apart, so that what was measured of a model is found again in its next call.

    a module or another object       itself                                as long as it lives
    a bound method                   its object
    a function, a lambda             its code and what that refers to: objects themselves, tensors by their form, others
                                     by their value or type
    functools.partial                its function, and its arguments alike
    key="my-model"                   the key; the last MOST_KEYS of them

So a lambda that is made anew in each call is the same model where it calls the same network. A wrong guess costs a few
rounds and changes no answer.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

# How many keys are remembered; the one that was used longest ago is forgotten first. Chosen by hand.
MOST_KEYS = 64
# The types of what a function refers to that are compared by their value.
VALUE_TYPES = (int, float, str, bytes, bool, type(None), torch.dtype, torch.device)

_kept: WeakKeyDictionary[Any, dict[Hashable, Any]] = WeakKeyDictionary()
_named: dict[Hashable, dict[Hashable, Any]] = {}


def memory(model: Any, key: Hashable | None = None) -> tuple[dict[Hashable, Any], Hashable]:
    """The dictionary that is kept for a model, and what to look up in it before anything else."""
    if key is not None:
        found = _named[key] = _named.pop(key, {})
        for old in list(_named)[:-MOST_KEYS]:
            del _named[old]
        return found, ()
    owner, parts = identity(model)
    try:
        return _kept.setdefault(owner, {}), parts
    except TypeError:  # it cannot be remembered
        return {}, parts


def identity(model: Any) -> tuple[Any, Hashable]:
    """The object that a model's memory lives as long as, and what tells models of one object apart."""
    if isinstance(model, types.MethodType):
        return model.__self__, ()
    if isinstance(model, functools.partial):
        owner, parts = identity(model.func)
        given = [*model.args, *(v for item in sorted(model.keywords.items()) for v in item)]
        return owner, (parts, *map(described, given))
    if isinstance(model, types.FunctionType):
        refers = referred(model)
        owners = [v for v in refers if callable(v) and not isinstance(v, types.FunctionType | types.MethodType | type)]
        return (owners or [model.__code__])[0], (model.__code__, *map(described, refers))
    return model, ()


def referred(function: types.FunctionType) -> list[Any]:
    """What a function refers to: defaults, what it closes over, and objects to be called that are global names."""
    code, cells = function.__code__, function.__closure__ or ()
    named = [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    loose = [
        v for v in named if callable(v) and not isinstance(v, type | types.FunctionType | types.BuiltinFunctionType)
    ]
    closed = [cell.cell_contents for cell in cells if cell != types.CellType()]
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *closed, *loose]


def described(v: Any) -> Hashable:
    """What is compared of something that a model refers to."""
    if isinstance(v, Tensor) and not isinstance(v, torch.nn.Parameter):
        return v.shape, v.dtype, v.device
    if isinstance(v, types.FunctionType):
        return v.__code__
    if isinstance(v, VALUE_TYPES):
        return type(v), v
    return id(v) if callable(v) and not isinstance(v, types.MethodType) else type(v).__qualname__


def forget() -> None:
    """Forgets every model."""
    _kept.clear()
    _named.clear()
