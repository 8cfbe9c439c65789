"""What was given, in words, and the checks of single values. Every refusal reads

name: given X; needed: Y; type Z
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def said(v: Any) -> str:
    """A value in words: the shape of a tensor, a plain value as it is typed, else what kind of thing it is."""
    if isinstance(v, Tensor):
        return f"{tuple(v.shape)}"
    if isinstance(v, type):
        return f"the class {v.__name__}"
    if v is None or isinstance(v, str | int | float | complex):
        return repr(v) if len(repr(v)) <= 80 else f"{repr(v)[:77]}..."
    if inspect.isroutine(v):
        return f"the function {getattr(v, '__name__', type(v).__name__)}"
    return type(v).__name__


def refusal(name: str, given: str, needed: str, typed: str | None = None) -> ValueError:
    """The error of a value that cannot be used; `given` and `needed` in words, `typed` is what to type."""
    return ValueError(f"{name}: given {given}; needed: {needed}" + (f"; type {typed}" if typed else ""))


def number(name: str, v: Any, needed: str, ok: Callable[[float], bool] = math.isfinite) -> None:
    """Refuses what is no number, and a number that is not `ok`."""
    if isinstance(v, bool) or not isinstance(v, int | float) or math.isnan(v) or not ok(v):
        raise refusal(name, said(v), needed)


def whole(name: str, v: Any, needed: str, low: float, high: float = math.inf) -> None:
    """Refuses what is no whole number from low to high."""
    if isinstance(v, bool) or not isinstance(v, int) or not low <= v <= high:
        raise refusal(name, said(v), needed)


def flag(name: str, v: Any) -> None:
    """Refuses what is neither True nor False."""
    if not isinstance(v, bool):
        raise refusal(name, said(v), "True or False")


def choice(name: str, v: Any, names: Iterable[str]) -> None:
    """Refuses what is none of the names, and says which is the closest."""
    names = list(names)
    if not (isinstance(v, str) and v in names):
        raise refusal(name, said(v), f"one of {', '.join(names)}", closest(v, names, "{0!r}"))


def closest(v: Any, names: Iterable[str], form: str = "{0}") -> str | None:
    """The name that was probably meant, None where none is close."""
    lower = {name.lower(): name for name in names}
    near = get_close_matches(v.lower(), lower, 1) if isinstance(v, str) else []
    return form.format(lower[near[0]]) if near else None


def named(function: F) -> F:
    """The function, which names the closest of its arguments where it is given one that it does not have."""
    takes = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if unknown := next((k for k in kwargs if k not in takes), None):
            meant = closest(unknown, takes, "{0}=...")
            needed = f"one of its arguments {', '.join(takes)}" + (f"; type {meant}" if meant else "")
            raise TypeError(f"{function.__name__}: given {unknown}; needed: {needed}")
        return function(*args, **kwargs)

    return called  # type: ignore[return-value]
