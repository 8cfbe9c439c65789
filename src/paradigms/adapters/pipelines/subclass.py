"""A pipeline in a parallel call: its classes are, for that time, subclasses of the same name.

| of                                | whose                                                                            |
| a pipeline, its blocks, its parts | loops are rewound, see `rewrite.py`, and progress bars move as rows are accepted |
| its networks                      | calls within a loop go to the loop                                               |

Networks are called as modules, so that hooks and compiled code are theirs. Which of these subclasses things have, and
that they have their own again, is in `patch.py`.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..report import ProgressBar
from .code.loop_items import LoopItems
from .code.rewrite import has_loop, rewindable_function, takes_steps
from .loop.active_call import ActiveCall, _active
from .loop.loop import WindowedLoop
from .networks.joined_calls import is_compiled
from .state.outside_state import codes, is_library, outside_state
from .unconditional import TableLoop, table_of

RECONSTRUCT: Any = vars(copyreg)["_reconstructor"]
CLOCKS = {"time", "perf_counter", "monotonic", "process_time", "now", "time_ns", "perf_counter_ns"}
# How far methods that step call each other. Chosen by hand.
DEEP = 4


def original_class(kind: type) -> type:
    """The class that a parallel one was made of."""
    return getattr(kind, "_paradigms_of", kind)


def looping_methods(kind: type) -> list[tuple[type, str]]:
    """The methods of a class and its parents that hold a denoising loop, each with the class that has it."""
    known = helper_methods(kind)
    return [(owner, name) for owner, name, function in plain_methods(kind) if has_loop(function, known)]


def plain_methods(kind: type) -> list[tuple[type, str, Any]]:
    """The plain methods of a class and its parents."""
    own = [(base, name, value) for base in kind.__mro__ for name, value in vars(base).items()]
    return [(base, name, value) for base, name, value in own if inspect.isfunction(value)]


def helper_methods(kind: type) -> frozenset[str]:
    """The names of methods that take a step outside of a loop of their own, or call one that does."""
    found, more = frozenset[str](), plain_methods(kind)
    for _ in range(DEEP):
        names = frozenset(name for _, name, function in more if name != "__call__" and takes_steps(function, found))
        if names == found:
            break
        found = names
    return found


def rewinding_subclass(kind: type) -> type:
    """The subclass of a class with loops, a pipeline's or a modular block's, that rewinds them in a parallel call."""
    return subclass_of_methods(
        kind, tuple((owner, name, vars(owner)[name]) for owner, name in looping_methods(kind)), helper_methods(kind)
    )


@functools.lru_cache(maxsize=256)
def subclass_of_methods(kind: type, loops: tuple[tuple[type, str, Any], ...], known: frozenset[str]) -> type:
    """`rewinding_subclass`, of the methods as they are now; parents' stand before these, where super() finds them."""
    bar: Any = getattr(kind, "progress_bar", None)

    def progress_bar(self: Any, iterable: Any = None, total: Any = None, **how: Any) -> Any:
        active = _active.get()
        if active is None or (active.loop is not None and active.loop.inside):
            return bar(self, iterable, total, **how)
        size = total if iterable is None else len(iterable)
        return TickingProgressBar(bar(self, total=size, **how), iterable, active)

    above = []
    for owner in kind.__mro__[1:]:
        if own := {name: method_of(plain, known) for of, name, plain in loops if of is owner}:
            above.append(same_name_subclass(owner, **own))
    own = {name: method_of(plain, known) for of, name, plain in loops if of is kind}
    return same_name_subclass(kind, *above, **own, progress_bar=bar and progress_bar, _paradigms_of=kind)


def same_name_subclass(kind: type, *above: type, **fields: Any) -> type:
    """A subclass of the same name, with what of `fields` is not None; above: parents after the class itself."""
    named = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__qualname__": kind.__qualname__}
    named |= {"__reduce_ex__": reduce_plain(kind)}  # type: ignore[dict-item]
    made: Any = mirrored(type(kind)) if "_paradigms_of" in fields else type
    made = made(kind.__name__, (kind, *above), named | {k: v for k, v in fields.items() if v is not None})
    if "_paradigms_of" in fields:
        type.__setattr__(made, READY, True)
    return made  # type: ignore[no-any-return]


READY = "_paradigms_ready"  # of a subclass that was made


@functools.cache
def mirrored(meta: Any) -> Any:
    """The metaclass of such subclasses: `type(self).n += 1` sets n of the class itself, as it does without us."""
    if hasattr(meta, READY):
        return meta

    def put(made: Any, name: str, value: Any) -> None:
        if READY in vars(made) and not name.startswith(("__", "_abc_", "_paradigms")):
            setattr(made._paradigms_of, name, value)
        else:
            meta.__setattr__(made, name, value)

    def drop(made: Any, name: str) -> None:
        if READY in vars(made) and name not in vars(made):
            delattr(made._paradigms_of, name)
        else:
            meta.__delattr__(made, name)

    return type(meta.__name__, (meta,), {"__setattr__": put, "__delattr__": drop, READY: False})


def reduce_plain(kind: type) -> Any:
    """What copies and pickles of a thing in a subclass are made of: its own class, and no settings."""

    def reduce(self: Any, protocol: Any) -> Any:
        made: Any = kind.__reduce_ex__(self, protocol)  # type: ignore[call-arg]
        if isinstance(made, str) or type(self) is kind:
            return made
        function, args, *rest = made
        args = tuple(original_class(v) if v is type(self) else v for v in args)
        if function is vars(copyreg)["__newobj__"] and len(args) == 1:  # which pickle would look at the class of
            function, args = RECONSTRUCT, (*args, object, None)
        if rest and isinstance(rest[0], dict):
            rest[0] = {k: v for k, v in rest[0].items() if not k.startswith("_paradigms")}
        return original_class(function) if function is type(self) else function, args, *rest

    return reduce


def loop_holders(pipe: Any) -> list[Any]:
    """What else than a pipeline holds its loops: blocks of a modular one, pipelines of a combined one."""
    found = [v for v in vars(pipe).values() if hasattr(type(v), "components") and looping_methods(type(v))]
    waiting = [b for b in [getattr(pipe, "_blocks", None)] if b is not None]
    while waiting:
        block = waiting.pop()
        found += [block] if looping_methods(type(block)) else []
        waiting += list((getattr(block, "sub_blocks", None) or {}).values())
    return found


def method_of(plain: Any, known: frozenset[str]) -> Any:
    """A method with a loop: rewound in a parallel call of its pipeline."""

    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (rewindable_function(plain, loop_of, known) if _active.get() else plain)(self, *args, **kwargs)

    return method


class TickingProgressBar(ProgressBar):
    """A bar of a pipeline that is being called."""

    def __init__(self, bar: Any, items: Any, active: ActiveCall) -> None:
        super().__init__(bar, items)
        self.active = active

    def update(self, n: float = 1) -> None:
        """Moves the bar, where a row does so when that is accepted."""
        loop = self.active.loop
        if loop is not None and loop.inside:
            loop.tick(self, n)  # type: ignore[union-attr]
        else:
            self.bar.update(n)


def loop_of(pipe: Any, items: Any, scheduler: Any, state: str | None) -> WindowedLoop | TableLoop:
    """The loop that rewound code runs on."""
    active = _active.get()
    assert active is not None
    kind, frame = original_class(type(pipe)), sys._getframe(1)
    source = LoopItems(items, frame.f_locals.values())
    loop = table_of(active, pipe, kind, items, state)
    active.loop = loop or WindowedLoop(active, pipe, items, scheduler, state)
    active.loop.source = source
    if active.settings.window != 1 and getattr(active.settings.window, "only", 0) != 1:
        held = [v for v in (*frame.f_locals.values(), *vars(pipe).values()) if not isinstance(v, nn.Module)]
        active.loop.outside = outside_state(kind, frame.f_code, frame.f_globals, held)
        active.loop.networks = network_ids(active.pipe)  # `pipe` may be a block, which has no components
        active.loop.own = not is_library(frame.f_globals.get("__name__"))
        active.loop.clocked = any(CLOCKS & {*c.co_names} for c in codes(frame.f_code))
    active.run.steps += len(active.loop.items)
    return active.loop


def networks_of(pipe: Any) -> Iterator[nn.Module]:
    """A pipeline's components that are networks."""
    for v in pipe.components.values():
        yield from (m for m in (v if isinstance(v, list | tuple) else [v]) if isinstance(m, nn.Module))


def network_ids(pipe: Any) -> frozenset[int]:
    """The modules of a pipeline's networks, by id."""
    return frozenset(id(m) for network in networks_of(pipe) for m in network.modules())


@functools.cache
def answering_subclass(kind: type) -> type:
    """The subclass of a network's class whose calls go to the loop that runs in the thread that makes them."""
    plain: Any = kind.__call__  # type: ignore[operator]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        active = _active.get()
        if active is None or active.loop is None or not active.loop.inside:
            if active is not None and active.loop is not None and active.loop.stepping:
                return active.loop.alone(self, lambda: network_answer(self, kind, plain, *args, **kwargs))  # type: ignore[union-attr]
            return network_answer(self, kind, plain, *args, **kwargs)
        return active.loop.call(self, functools.partial(_real, kind, plain), args, kwargs)  # type: ignore[union-attr]

    return same_name_subclass(kind, __call__=call, _paradigms_of=kind)


def _real(kind: type, plain: Any, network: Any, *args: Any, **kwargs: Any) -> Any:
    return network_answer(network, kind, plain, *args, **kwargs)


def network_answer(network: Any, kind: type, plain: Any, *args: Any, **kwargs: Any) -> Any:
    """What a network answers; a compiled one is called in its own class, which it was compiled for."""
    if not is_compiled(network) or _active.get() is None:
        return plain(network, *args, **kwargs)
    mine = type(network)
    set_class(network, kind)
    try:
        return network(*args, **kwargs)
    finally:
        set_class(network, mine)


def set_class(thing: Any, kind: type) -> None:
    """Changes the class of a thing, past what a module does where an attribute is set."""
    object.__setattr__(thing, "__class__", kind)
