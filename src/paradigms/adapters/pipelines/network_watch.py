"""Notices when a step sets an attribute of a network: meanwhile `nn.Module.__setattr__` is replaced.

A network that a step itself switches over would not be so when its rows are evaluated later. It is ours not from call
to call: where it changes Python forgets all it has cached of every module, and a small network takes milliseconds to
recover. It is torch's own again once the last pipeline is disabled or gone.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn

from .code.rewrite import UnparallelError
from .loop.active_call import _active

REGISTRY = "_diffusers_hook"  # where diffusers keeps hooks of a network, made when it is first asked for

_own: Any = nn.Module.__setattr__  # what stood there before ours
_watched: dict[int, weakref.ref[Any]] = {}


def watch_network_fields(pipe: Any) -> None:
    """From now on, until `unwatch_network_fields` or the pipeline's end, what steps set of networks is noticed."""
    global _own
    key = id(pipe)
    if key not in _watched:
        _watched[key] = weakref.ref(pipe, lambda _: drop_watcher(key))
    if nn.Module.__setattr__ is not watched_setattr:
        _own = nn.Module.__setattr__
        nn.Module.__setattr__ = watched_setattr  # type: ignore[method-assign, assignment]


def unwatch_network_fields(pipe: Any) -> None:
    """The opposite of `watch_network_fields`."""
    drop_watcher(id(pipe))


def drop_watcher(key: int) -> None:
    """Forgets a pipeline; with the last one modules are as they were."""
    _watched.pop(key, None)
    if not _watched and nn.Module.__setattr__ is watched_setattr:
        nn.Module.__setattr__ = _own  # type: ignore[method-assign]


def watched_setattr(module: nn.Module, name: str, value: Any) -> None:
    """Sets an attribute of a network; raises UnparallelError where a step does, but to what it is: += does so."""
    active = _active.get()
    inside = active is not None and active.loop is not None and active.loop.inside
    if (
        inside
        and name != REGISTRY
        and (isinstance(value, Tensor) or getattr(module, name, watched_setattr) is not value)
    ):
        raise UnparallelError(f"a step sets {name} of {type(module).__name__}")
    _own(module, name, value)
