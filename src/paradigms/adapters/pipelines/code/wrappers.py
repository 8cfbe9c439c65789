"""Wrapped functions (decorators): finds what a wrapper calls, and wraps another function the same way.

    wrapper -> .. -> plain      becomes      wrapper' -> .. -> made,    with all else that the wrappers hold the same

A wrapper holds what it calls in a cell of its closure; what names it is `__wrapped__`, or, where that was not set, that
it is the only function in the closure.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


def wrapper_chain(function: Any) -> list[Any]:
    """The function, what it wraps, and so on; methods as their functions."""
    found: list[Any] = []
    while function is not None and not any(function is f for f in found):
        found.append(function)
        function = next_of(function)
    return found


def next_of(function: Any) -> Any:
    """What a function wraps, None where it wraps nothing."""
    told = getattr(function, "__wrapped__", None)
    if told is not None or not isinstance(function, types.FunctionType):
        return told
    held = [v for v in map(cell_content, function.__closure__ or ()) if isinstance(v, types.FunctionType)]
    return held[0] if len(held) == 1 and function.__code__.co_flags & VARIADIC == VARIADIC else None


# A function that takes *args and **kwargs, as what passes them on does. Source: CPython, inspect.CO_VARARGS and
# CO_VARKEYWORDS.
VARIADIC = 0x04 | 0x08


def innermost_function(function: Any) -> Any:
    """The innermost function."""
    return wrapper_chain(function)[-1]


def replace_innermost(function: Callable[..., Any], plain: Any, made: Any) -> Callable[..., Any]:
    """The function with `made` in the place of `plain`, its innermost; raises LookupError, which names a wrapper."""
    layers = wrapper_chain(function)
    assert layers[-1] is plain
    if len(layers) == 1:
        made.__dict__.update(plain.__dict__)
    for layer, held in zip(layers[-2::-1], layers[:0:-1], strict=True):
        made = rebuild_wrapper(layer, held, made)
    return made  # type: ignore[no-any-return]


def rebuild_wrapper(wrapper: Any, held: Any, made: Any) -> Any:
    """A wrapper that calls `made` where it called `held`; all its other cells are shared with the wrapper's."""
    cells = getattr(wrapper, "__closure__", None) or ()
    places = [i for i, cell in enumerate(cells) if cell_content(cell) is held]
    if not isinstance(wrapper, types.FunctionType) or not places:
        raise LookupError(getattr(wrapper, "__qualname__", None) or type(wrapper).__qualname__)
    closure = tuple(types.CellType(made) if i in places else cell for i, cell in enumerate(cells))
    twin = types.FunctionType(wrapper.__code__, wrapper.__globals__, wrapper.__name__, wrapper.__defaults__, closure)
    twin.__kwdefaults__ = wrapper.__kwdefaults__
    twin.__dict__.update(wrapper.__dict__)
    twin.__wrapped__ = made  # type: ignore[attr-defined]
    return twin


def cell_content(cell: Any) -> Any:
    """What a cell holds, None where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
