"""A function of a batch of B made one of any rows of it: what it holds is taken row by row.

    denoise(x (B, ...), t (B,)) with a cache of its prompt     ->     denoise(x (M, ...), t (M,)) of samples b (M,)

A closure's tensors (B, ...) become v[b], in lists, tuples and dicts too; a cache that has `batch_select_indices` is
copied and told b. Modules, numbers and what has no first axis of B stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

from torch import Tensor, nn


def of_rows(function: Callable[..., Any], b: Tensor, B: int) -> Callable[..., Any]:
    """The function for samples b (M,) of its batch of B; raises TypeError for what is no function of Python."""
    if not isinstance(function, FunctionType):
        raise TypeError(f"given a {type(function).__name__}, whose batch cannot be repeated; needed: a function")
    cells = tuple(CellType(taken(cell.cell_contents, b, B)) for cell in function.__closure__ or ())
    defaults = tuple(taken(v, b, B) for v in function.__defaults__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, defaults, cells)
    made.__kwdefaults__ = {k: taken(v, b, B) for k, v in (function.__kwdefaults__ or {}).items()} or None
    return made


def taken(v: Any, b: Tensor, B: int) -> Any:
    """Rows b of what a function holds."""
    if isinstance(v, Tensor):
        return v[b] if v.ndim and len(v) == B else v
    if hasattr(v, "batch_select_indices"):
        cache = copy.deepcopy(v)
        cache.batch_select_indices(b)
        return cache
    if isinstance(v, FunctionType) and v.__closure__:
        return of_rows(v, b, B)
    if isinstance(v, dict):
        return {k: taken(w, b, B) for k, w in v.items()}
    if isinstance(v, tuple) and hasattr(v, "_make"):
        return v._make(taken(w, b, B) for w in v)
    if type(v) in (list, tuple):
        return type(v)(taken(w, b, B) for w in v)
    return v


def module_of(function: Any) -> nn.Module | None:
    """The module that a function's closure holds first, which it is a velocity of."""
    cells = getattr(function, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells]
    return next((v for v in held if isinstance(v, nn.Module)), getattr(function, "__self__", None))
