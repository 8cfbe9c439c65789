"""The modules that a model is made of, and which of them are unfit for a batch of rows.

A module is unfit if it does not answer each row by itself and always the same: dropout and other random modules in
training mode, normalisation over the batch, statistics that move with every call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from types import MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

# The attributes in which random modules keep the share that they drop.
DROP_RATES = ("p", "drop_prob", "drop_rate", "rate", "prob")
# Lists and dicts of more things than this are not looked into. Chosen by hand.
MOST_HELD = 64
# Parts of the class names of random modules, in lower case.
DROP_NAMES = ("drop", "stochasticdepth")


def modules_of(model: Any, depth: int = 2) -> list[nn.Module]:
    """The modules that a model is made of, or a function, method or object that holds them."""
    found = list(model.modules()) if isinstance(model, nn.Module) else []
    return found + [m for v in modules_held_by(model) for m in modules_of(v, depth - 1)] if depth else found


def modules_held_by(model: Any) -> list[Any]:
    """What a function, method or object holds that may be the model that it calls."""
    if isinstance(model, functools.partial):
        return [model.func, *model.args, *model.keywords.values()]
    if isinstance(model, MethodType):
        return [model.__self__]
    if not inspect.isfunction(model):
        values = unpacked(getattr(model, "__dict__", {}).values())
        inside = isinstance(model, nn.Module)  # which names its own modules
        return [v for v in values if inspect.isroutine(v) or (isinstance(v, nn.Module) and not inside)]
    try:
        found = inspect.getclosurevars(model)
    except ValueError:  # a cell that is still empty
        return []
    values = unpacked([*found.nonlocals.values(), *found.globals.values(), *(model.__defaults__ or ())])
    return [v for v in values if hasattr(v, "__dict__") and not isinstance(v, type | ModuleType | Tensor)]


def unpacked(values: Iterable[Any]) -> list[Any]:
    """The values, and what lists, tuples and dicts of a few things among them hold."""
    found: list[Any] = []
    for v in values:
        held = v.values() if isinstance(v, dict) else v if isinstance(v, list | tuple) else ()
        found += [v, *(held if len(held) <= MOST_HELD else ())]
    return found


def unfit_for_batches(model: Any) -> str | None:
    """Why a module of a model cannot be sampled with, None where none is known to be unfit.

    Looked into are a module and what is made of one alone; what else a function uses may not be what it calls.
    """
    while not isinstance(model, nn.Module):
        if isinstance(model, MethodType):
            model = model.__self__
        elif isinstance(model, functools.partial):
            model = model.func
        else:
            return None
    return next((why for m in model.modules() if (why := unfit_module(m))), None)


def unfit_module(m: nn.Module) -> str | None:
    """Why one module, whatever is in it, does not answer each row by itself and always the same."""
    name = type(m).__name__
    if isinstance(m, _BatchNorm) and m.running_mean is None:
        return f"{name} without running statistics, which mixes the rows of a batch"
    if not m.training:
        return None
    if isinstance(m, _NormBase) and (isinstance(m, _BatchNorm) or m.track_running_stats):
        mixes = "mixes the rows of a batch and " if isinstance(m, _BatchNorm) else ""  # an instance is one row
        return f"{name} in training mode, which {mixes}moves its statistics"
    if name == "_SpectralNorm":
        return "spectral_norm in training mode, which moves its estimate with every call"
    return f"{name} in training mode, whose answers are random" if random_in_training(m) else None


def random_in_training(m: nn.Module) -> bool:
    """Whether a module in training mode is random, as dropout is."""
    if isinstance(m, nn.RReLU):
        return m.lower != m.upper
    rate = getattr(m, "dropout", 0.0) if isinstance(m, nn.MultiheadAttention | nn.RNNBase) else 0.0
    if isinstance(rate, int | float) and rate > 0:
        return True
    if not any(part in type(m).__name__.lower() for part in DROP_NAMES):
        return False
    return any(isinstance(v := getattr(m, name, 0), int | float) and v > 0 for name in DROP_RATES)
