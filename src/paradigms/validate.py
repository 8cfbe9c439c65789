"""Checks of single arguments. Every refusal reads

name: given X; needed: Y; type Z
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])
# A message repeats at most this many numbers. Chosen by hand.
NUMBERS_SHOWN = 8


def in_words(v: Any) -> str:
    """A value in words: the shape of a tensor, a plain value as it is typed, else what kind of thing it is."""
    if (number := number_in(v)) is not None:
        return f"tensor({number})" if isinstance(v, Tensor) else f"numpy's {type(v).__name__} {number}"
    if isinstance(v, Tensor):
        return f"{tuple(v.shape)}"
    if isinstance(v, type):
        return f"the class {v.__name__}"
    if v is None or isinstance(v, str | int | float | complex):
        return repr(v) if len(repr(v)) <= 80 else f"{repr(v)[:77]}..."
    if inspect.isroutine(v):
        return f"the function {getattr(v, '__name__', type(v).__name__)}"
    return type(v).__name__


def in_numbers(v: Tensor) -> str:
    """A tensor of one axis (N,) in words: its first few numbers."""
    shown = ", ".join(f"{x:g}" for x in v[:NUMBERS_SHOWN].tolist())
    return f"[{shown}{', ...' if len(v) > NUMBERS_SHOWN else ''}]"


def counted(count: int, thing: str) -> str:
    """A number of things: "1 round", "2 rounds"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def number_in(v: Any) -> Any:
    """The plain number in a numpy scalar or a tensor of shape (), which are none to type; None where it is neither."""
    scalar = isinstance(v, Tensor) or (type(v).__module__ == "numpy" and not isinstance(v, int | float | type))
    if not scalar or getattr(v, "shape", None) != () or (isinstance(v, Tensor) and v.device.type == "meta"):
        return None
    return v.item()


def refusal(name: str, given: str, needed: str, typed: str | None = None) -> ValueError:
    """The error of a value that cannot be used; `given` and `needed` in words, `typed` is what to type."""
    return ValueError(f"{name}: given {given}; needed: {needed}" + (f"; type {typed}" if typed else ""))


def check_number(name: str, v: Any, needed: str, ok: Callable[[float], bool] = math.isfinite) -> None:
    """Refuses what is no number, and a number that is not `ok`."""
    if not is_number(v, ok):
        plain = number_in(v)
        raise refusal(name, in_words(v), needed, plain_argument(name, plain) if is_number(plain, ok) else None)


def is_number(v: Any, ok: Callable[[float], bool]) -> bool:
    """Whether v is a number that torch holds and that is `ok`."""
    if isinstance(v, bool) or not isinstance(v, int | float) or too_large(v):
        return False
    return not math.isnan(v) and ok(v)


def plain_argument(name: str, v: Any) -> str:
    """How a plain number is given, where the name is an argument's."""
    return f"{name}={v!r}" if name.isidentifier() else repr(v)


def check_whole(name: str, v: Any, needed: str, low: float, high: float = math.inf) -> None:
    """Refuses what is no whole number from low to high."""
    if type(v) is not int or not low <= v <= high:
        plain = number_in(v)
        typed = plain_argument(name, plain) if type(plain) is int and low <= plain <= high else None
        raise refusal(name, in_words(v), needed, typed)


def check_flag(name: str, v: Any) -> None:
    """Refuses what is neither True nor False."""
    if not isinstance(v, bool):
        plain = number_in(v)
        raise refusal(
            name, in_words(v), "True or False", plain_argument(name, plain) if isinstance(plain, bool) else None
        )


def check_choice(name: str, v: Any, names: Iterable[str], elsewhere: Mapping[str, str] | None = None) -> None:
    """Refuses what is none of the names, and says which is the closest, or the one for a name used elsewhere."""
    names, other = list(names), (elsewhere or {}).get(v) if isinstance(v, str) else None
    if not (isinstance(v, str) and v in names):
        typed = repr(other) if other in names else closest_name(v, names, "{0!r}")
        raise refusal(name, in_words(v), f"one of {', '.join(names)}", typed)


def closest_name(v: Any, names: Iterable[str], form: str = "{0}") -> str | None:
    """The name that was probably meant, None where none is close."""
    lower = {name.lower(): name for name in names}
    near = get_close_matches(v.lower(), lower, 1) if isinstance(v, str) else []
    return form.format(lower[near[0]]) if near else None


def check_dense(name: str, value: Tensor) -> None:
    """Refuses a tensor whose numbers cannot be read row by row."""
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        needed = "a plain one, for an answer has no graph and rows are decided on by their numbers"
        typed = "sample of the whole batch outside of it"
        raise refusal(name, "a tensor within torch.func.grad, vmap or another transform", needed, typed)
    if value.is_nested:
        raise refusal(name, "a nested tensor", "one whose rows are of one shape", "torch.nested.to_padded_tensor(...)")
    if value.layout != torch.strided or value.device.type == "meta":
        raise refusal(name, f"a tensor of {value.layout} on {value.device}", "one that is dense and has numbers")


def why_unbound(function: Any, *args: Any, **kwargs: Any) -> tuple[str, str] | None:
    """What a function takes, in words, and why these arguments are none; None where they fit, or nobody can say."""
    try:
        takes = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    try:
        takes.bind(*args, **kwargs)
    except TypeError as error:
        return f"one that takes {takes}", str(error)
    return None


def named_arguments(function: F) -> F:
    """The function or class, which names the closest of its arguments where it is given one that it does not have."""
    if isinstance(function, type):
        function.__init__ = called_by(function.__init__, function.__name__)  # type: ignore[misc]
        return function
    return called_by(function, function.__name__)


def called_by(function: F, name: str) -> F:
    """The function under a name, as `named` makes it."""
    takes = [taken for taken in inspect.signature(function).parameters if taken != "self"]

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "verified" in kwargs and "verify" in takes and "verify" not in kwargs:
            kwargs["verify"] = kwargs.pop("verified")  # as the first README printed it
        if unknown := next((k for k in kwargs if k not in takes), None):
            meant = closest_name(unknown, takes, "{0}=...")
            needed = f"one of its arguments {', '.join(takes)}" if takes else "no argument"
            needed += f"; type {meant}" if meant else ""
            raise TypeError(f"{name}: given {unknown}; needed: {needed}")
        return function(*args, **kwargs)

    return called  # type: ignore[return-value]


class CheckedFields:
    """A dataclass whose fields are of the kind that they are annotated with, before anything else looks at them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own: Any = cls.__dict__.get("__post_init__")
        if own is not None:

            @functools.wraps(own)
            def both(self: CheckedFields) -> None:
                check_fields(self)
                own(self)

            cls.__post_init__ = both  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(thing: Any) -> None:
    """Refuses a field that is annotated as a number, a truth or a class of its own, and is none."""
    for f in fields(thing):
        v, kind = getattr(thing, f.name), str(f.type)
        if kind.endswith(" | None") and v is None:
            continue
        kind = kind.removesuffix(" | None")
        name = f"{type(thing).__name__}: {f.name}"
        if kind in ("float", "int"):
            huge = (kind == "float" or f.name == "seed") and too_large(v)
            if isinstance(v, bool) or not isinstance(v, int | float if kind == "float" else int) or huge:
                needed = "a finite number, 0 (to rounding) or more" if f.name == "tolerance" else "a finite number"
                raise refusal(name, in_words(v), needed if kind == "float" else "a whole number")
        elif kind == "bool":
            check_flag(name, v)
        elif (
            isinstance(base := known_annotation(type(thing), kind), type)
            and base is not Any
            and not isinstance(v, base)
        ):
            kinds: list[type] = type.__subclasses__(base)
            made = [each.__name__ for each in kinds if each.__module__ == base.__module__]
            typed = f"{v.__name__}()" if isinstance(v, type) else closest_name(v, made, "{0}()")
            raise refusal(name, in_words(v), f"a {kind}: {' or '.join(f'{m}()' for m in made)}", typed)


def too_large(v: float) -> bool:
    """Whether a whole number is larger than torch holds, as a seed or as a float."""
    return isinstance(v, int) and not -(2**63) <= v < 2**63


def known_annotation(cls: type, name: str) -> Any:
    """What a name means where a class, or one that it comes from, was written."""
    return next(
        (vars(sys.modules[k.__module__])[name] for k in cls.__mro__ if name in vars(sys.modules[k.__module__])), None
    )
