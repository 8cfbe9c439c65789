"""Torch's modes around a call: the solver's own arithmetic ignores them, and the model is called within them.

| surrounds `sample`, `sequential` or `iterate` | the solver's own arithmetic | the model       |
| torch.autocast(device, dtype)                 | the states' dtype           | under autocast  |
| a default device, torch.device(device)        | where the states are        | on that device  |
| gradients enabled                             | none recorded               | none recorded   |

Gradients of the model itself, as in posterior sampling, need `with torch.enable_grad():` inside of it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])
# The device types under autocast, and the dtype that each casts to.
Casts = tuple[tuple[str, torch.dtype], ...]
# The device types whose autocast is looked up.
AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
# The default device of torch where the caller set none.
CPU = torch.device("cpu")


class Modes(NamedTuple):
    """What surrounds a call: the autocasts that are on, and the default device where that is not the CPU."""

    casts: Casts = ()
    device: torch.device | None = None


_surrounding: ContextVar[Modes | None] = ContextVar("_surrounding", default=None)  # None: no solver is running here


def modes_now() -> Modes:
    """The modes that are on."""
    casts = tuple((d, torch.get_autocast_dtype(d)) for d in AUTOCAST_DEVICES if torch.is_autocast_enabled(d))
    device = torch.get_default_device()
    return Modes(casts, None if device == CPU else device)


def surrounding_modes() -> Modes:
    """The modes that were on where the solver was called."""
    return _surrounding.get() or Modes()


@contextlib.contextmanager
def in_caller_modes(found: Modes) -> Iterator[None]:
    """Within it everything is as it was where the solver was called, but for gradients."""
    token = _surrounding.set(None)
    try:
        with torch.no_grad(), switched(found, on=True):
            yield
    finally:
        _surrounding.reset(token)


@contextlib.contextmanager
def switched(found: Modes, on: bool) -> Iterator[None]:
    """Within it the modes that were found are on, or off."""
    with contextlib.ExitStack() as stack:
        if found.device is not None:  # torch's way of doing so slows every call, so it is not done where nothing is set
            stack.enter_context(found.device if on else CPU)
        for device, dtype in found.casts:
            stack.enter_context(torch.autocast(device, dtype, enabled=on))
        yield


def isolated_from_torch_modes(solve: F) -> F:
    """A solver whose arithmetic is in the states' dtype and records no gradients; so are the rounds that it yields."""

    @functools.wraps(solve)
    def solved(*args: Any, **kwargs: Any) -> Any:
        found = _surrounding.get()
        found = modes_now() if found is None else found
        token = _surrounding.set(found)
        try:
            with switched(found, on=False), torch.no_grad():
                result = solve(*args, **kwargs)
        finally:
            _surrounding.reset(token)
        return isolated_rounds(result, found) if isinstance(result, Iterator) else result

    return cast(F, solved)


def isolated_rounds(frames: Iterator[Any], found: Modes) -> Iterator[Any]:
    """The frames, each made in isolation; what is done between two is under what surrounds it there."""
    while True:
        with switched(found, on=False), torch.no_grad():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
