"""States are computed on as a solver says, whatever surrounds its call; the model is called as the caller set it.

| surrounds `sample`, `sequential` or `iterate` | the solver's own arithmetic | the model       |
| torch.autocast(device, dtype)                 | the states' dtype           | under autocast  |
| gradients enabled                             | none recorded               | none recorded   |

Gradients of the model itself, as in posterior sampling, need `with torch.enable_grad():` inside of it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])
Casts = tuple[tuple[str, torch.dtype], ...]  # device types under autocast, and what they cast to
DEVICES = ("cpu", "cuda", "mps", "xpu")

_surrounding: ContextVar[Casts | None] = ContextVar("_surrounding", default=None)  # None: no solver is running here


def autocast_dtypes() -> Casts:
    """The autocasts that are on."""
    return tuple((d, torch.get_autocast_dtype(d)) for d in DEVICES if torch.is_autocast_enabled(d))


def surrounding_modes() -> Casts:
    """The autocasts that were on where the solver was called."""
    return _surrounding.get() or ()


@contextlib.contextmanager
def in_caller_modes(found: Casts) -> Iterator[None]:
    """Within it everything is as it was where the solver was called, but for gradients."""
    token = _surrounding.set(None)
    try:
        with torch.no_grad(), restore_autocast(found, on=True):
            yield
    finally:
        _surrounding.reset(token)


@contextlib.contextmanager
def restore_autocast(found: Casts, on: bool) -> Iterator[None]:
    """Within it the autocasts that were found are on, or off."""
    with contextlib.ExitStack() as stack:
        for device, dtype in found:
            stack.enter_context(torch.autocast(device, dtype, enabled=on))
        yield


def isolated_from_torch_modes(solve: F) -> F:
    """A solver whose arithmetic is in the states' dtype and records no gradients; so are the rounds that it yields."""

    @functools.wraps(solve)
    def solved(*args: Any, **kwargs: Any) -> Any:
        found = _surrounding.get()
        found = autocast_dtypes() if found is None else found
        token = _surrounding.set(found)
        try:
            with restore_autocast(found, on=False), torch.no_grad():
                result = solve(*args, **kwargs)
        finally:
            _surrounding.reset(token)
        return isolated_rounds(result, found) if isinstance(result, Iterator) else result

    return cast(F, solved)


def isolated_rounds(frames: Iterator[Any], found: Casts) -> Iterator[Any]:
    """The frames, each made in isolation; what is done between two is under what surrounds it there."""
    while True:
        with restore_autocast(found, on=False), torch.no_grad():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
