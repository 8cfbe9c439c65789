"""A pipeline in a parallel call: its classes are, for that time, subclasses of the same name.

| of                                | whose                                                                            |
| a pipeline, its blocks, its parts | loops are rewound, see `rewrite.py`, and progress bars move as rows are accepted |
| its networks                      | calls within a loop go to the loop                                               |

Networks are called as modules, so that hooks and compiled code are theirs; what a step itself sets of a network would
not be so when its rows are evaluated later, so a step that does is told apart.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from torch import nn

from .fast import Table, table
from .loop import Loop
from .network import Network
from .report import Bar, Run, Settings
from .rewrite import UnparallelError, has_loop, rewindable

REGISTRY = "_diffusers_hook"  # where diffusers keeps hooks of a network, made when it is first asked for


@dataclass
class Active:
    """A parallel call that is going on."""

    pipe: Any
    settings: Settings
    run: Run
    network: Network
    loop: Loop | Table | None = None


_active: contextvars.ContextVar[Active | None] = contextvars.ContextVar("paradigms", default=None)


def original(kind: type) -> type:
    """The class that a parallel one was made of."""
    return getattr(kind, "_paradigms_of", kind)


def looping(kind: type) -> list[str]:
    """The names of a class's methods that hold a denoising loop."""
    found = {name: getattr(kind, name) for base in kind.__mro__ for name in vars(base)}
    return [name for name, value in found.items() if inspect.isfunction(value) and has_loop(value)]


@functools.cache
def rewound(kind: type) -> type:
    """The subclass of a class with loops, a pipeline's or a modular block's, that rewinds them in a parallel call."""
    bar: Any = getattr(kind, "progress_bar", None)

    def progress_bar(self: Any, iterable: Any = None, total: Any = None, **how: Any) -> Any:
        active = _active.get()
        if active is None or (active.loop is not None and active.loop.inside):
            return bar(self, iterable, total, **how)
        size = total if iterable is None else len(iterable)
        return Ticking(bar(self, total=size, **how), iterable, active)

    return kin(kind, **{name: method_of(kind, name) for name in looping(kind)}, progress_bar=bar and progress_bar)


def kin(kind: type, **fields: Any) -> type:
    """A subclass of the same name, with what of `fields` is not None."""
    named = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), named | {k: v for k, v in fields.items() if v is not None})


def parts(pipe: Any) -> list[Any]:
    """What else than a pipeline holds its loops: blocks of a modular one, pipelines of a combined one."""
    found = [v for v in vars(pipe).values() if hasattr(v, "components") and looping(type(v))]
    waiting = [b for b in [getattr(pipe, "_blocks", None)] if b is not None]
    while waiting:
        block = waiting.pop()
        found += [block] if looping(type(block)) else []
        waiting += list((getattr(block, "sub_blocks", None) or {}).values())
    return found


def method_of(kind: type, name: str) -> Any:
    """A method with a loop: rewound in a parallel call of its pipeline."""
    plain = getattr(kind, name)

    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (rewindable(plain, loop_of) if _active.get() else plain)(self, *args, **kwargs)

    return method


class Ticking(Bar):
    """A bar of a pipeline that is being called."""

    def __init__(self, bar: Any, items: Any, active: Active) -> None:
        super().__init__(bar, items)
        self.active = active

    def update(self, n: float = 1) -> None:
        """Moves the bar, where a row does so when that is accepted."""
        loop = self.active.loop
        if loop is not None and loop.inside:
            loop.tick(self, n)  # type: ignore[union-attr]
        else:
            self.bar.update(n)


def loop_of(pipe: Any, items: Any, scheduler: Any, state: str | None) -> Loop | Table:
    """The loop that rewound code runs on."""
    active = _active.get()
    assert active is not None
    kind = original(type(pipe))
    loop = table(active.settings, active.run, pipe, kind, items, state)
    active.loop = loop or Loop(active.settings, active.run, active.network, pipe, items, scheduler, state)
    active.run.steps += len(active.loop.items)
    return active.loop


@contextlib.contextmanager
def intercepted(pipe: Any, active: Active) -> Iterator[None]:
    """Within it the networks of a pipeline are answered by the loop that runs."""
    kinds = [(m, type(m), answered) for m in {id(m): m for m in networks(pipe)}.values()]
    kinds += [(part, type(part), rewound) for part in parts(pipe)]
    watch(pipe)
    token = _active.set(active)
    try:
        for thing, kind, made in kinds:
            become(thing, made(kind))  # type: ignore[arg-type]
        yield
    finally:
        _active.reset(token)
        for thing, kind, _ in kinds:
            become(thing, kind)


def become(thing: Any, kind: type) -> None:
    """Changes the class of a thing, past what a module does where an attribute is set."""
    object.__setattr__(thing, "__class__", kind)


_plain, _watched = nn.Module.__setattr__, WeakSet[Any]()


def watch(pipe: Any) -> None:
    """From now on, until `unwatch`, what steps set of networks is noticed.

    Not from call to call: where this changes Python forgets all it has cached of every module, and a small network
    takes milliseconds to recover.
    """
    _watched.add(pipe)
    if nn.Module.__setattr__ is not watched:
        nn.Module.__setattr__ = watched  # type: ignore[method-assign, assignment]


def unwatch(pipe: Any) -> None:
    """The opposite of `watch`, once there is no other pipeline that is watched."""
    _watched.discard(pipe)
    if not _watched and nn.Module.__setattr__ is watched:
        nn.Module.__setattr__ = _plain  # type: ignore[method-assign]


def watched(module: nn.Module, name: str, value: Any) -> None:
    """Sets an attribute of a network; raises UnparallelError where a step does."""
    active = _active.get()
    inside = active is not None and active.loop is not None and active.loop.inside
    if inside and name != REGISTRY and getattr(module, name, watched) is not value:
        raise UnparallelError(f"a step sets {name} of {type(module).__name__}")
    _plain(module, name, value)


def networks(pipe: Any) -> Iterator[nn.Module]:
    """A pipeline's components that are networks."""
    for v in pipe.components.values():
        yield from (m for m in (v if isinstance(v, list | tuple) else [v]) if isinstance(m, nn.Module))


@functools.cache
def answered(kind: type) -> type:
    """The subclass of a network's class whose calls go to the loop that runs."""

    def real(self: Any, *args: Any, **kwargs: Any) -> Any:
        mine = type(self)
        become(self, kind)  # compiled networks look at their class
        try:
            return self(*args, **kwargs)
        finally:
            become(self, mine)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        active = _active.get()
        if active is None or active.loop is None or not active.loop.inside:
            if active is not None and active.loop is not None and active.loop.stepping:
                return active.network.alone(lambda: real(self, *args, **kwargs))
            return real(self, *args, **kwargs)
        return active.loop.call(self, real, args, kwargs)  # type: ignore[union-attr]

    return kin(kind, __call__=call)
