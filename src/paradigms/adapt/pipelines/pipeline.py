"""Any diffusers pipeline in one line:

    with paradigms.parallelize(pipe, tolerance=0.003, window=32) as run:
        image = pipe(prompt).images[0]

While a pipeline is parallel its class is a subclass of its own, of the same name, whose loops are rewound, see
`rewrite.py`, and whose networks, while a loop runs, are of such subclasses too. Nothing is added to its components or
its configuration, its signature stays, and so do hooks and compiled networks, for networks are called as modules.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...method import AbstractMethod
from ...solve import TOLERANCE
from ...spectral import Spectral
from ...stop import AbstractStop, FinalError
from .belief import belief
from .fast import Table, table
from .loop import Loop
from .network import Network
from .report import Bar, Run, Settings
from .rewrite import UnparallelError, has_loop, rewindable
from .snapshot import ChangedError, Snapshot, snapshot

COPIED: dict[type, set[str]] = {}  # what was learned of each class of pipelines
AGAIN = 5  # how often a call begins anew, because a tensor was changed in place that was not copied


@dataclass
class Active:
    """A parallel call that is going on."""

    pipe: Any
    settings: Settings
    run: Run
    network: Network
    loop: Loop | Table | None = None


_active: contextvars.ContextVar[Active | None] = contextvars.ContextVar("paradigms", default=None)


def enable_parallel_sampling(
    pipe: Any,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int = 32,
    batched: bool = True,
) -> Run:
    """Makes a diffusers pipeline sample in parallel from now on, and gives the report that its calls add to.

    pipe: any pipeline with a loop over its scheduler's steps. method: default `Spectral()`. tolerance: relative error
    of the latents, as `FinalError` estimates it, or a criterion; 0 gives the sequential result. window: steps evaluated
    at once. batched: False evaluates them one by one, equal to the last bit and no faster. Raises ValueError for what
    is no such pipeline, a method that corrects states, a window below 1; a call does for step caches.
    """
    if not isinstance(window, int) or window < 1:
        raise ValueError(f"window: given {window!r}; needed: a whole number of steps, 1 or more")
    method = method or Spectral()
    if belief.dispatch(type(method)) is belief.dispatch(object):
        belief(method, None, None)  # type: ignore[arg-type]  # which raises
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    kind = original(type(pipe))
    if not looping(kind) and not parts(pipe):
        raise ValueError(f"{kind.__name__} has no loop over a scheduler's steps; nothing in it can run in parallel")
    run = Run()
    pipe.__dict__["_paradigms"] = Settings(method, stop, window, batched, COPIED.setdefault(kind, set())), run
    pipe.__class__ = parallel(kind)
    return run


def disable_parallel_sampling(pipe: Any) -> None:
    """Makes a pipeline sample step by step again."""
    pipe.__class__ = original(type(pipe))
    pipe.__dict__.pop("_paradigms", None)


@contextlib.contextmanager
def parallelize(pipe: Any, method: AbstractMethod | None = None, **how: Any) -> Iterator[Run]:
    """Within it a diffusers pipeline samples in parallel; arguments and errors as `enable_parallel_sampling`'s."""
    outer = vars(pipe).get("_paradigms")
    run = enable_parallel_sampling(pipe, method, **how)
    try:
        yield run
    finally:
        if outer is None:
            disable_parallel_sampling(pipe)
        else:
            pipe.__dict__["_paradigms"] = outer


def original(kind: type) -> type:
    """The class that a parallel one was made of."""
    return getattr(kind, "_paradigms_of", kind)


def looping(kind: type) -> list[str]:
    """The names of a class's methods that hold a denoising loop."""
    found = {name: getattr(kind, name) for base in kind.__mro__ for name in vars(base)}
    return [name for name, value in found.items() if inspect.isfunction(value) and has_loop(value)]


@functools.cache
def parallel(kind: type) -> type:
    """The subclass of a pipeline's class that runs in parallel."""

    @functools.wraps(kind.__call__)  # type: ignore[operator]
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return sampled(self, kind, args, kwargs)

    return kin(rewound(kind), __call__=call, _paradigms_of=kind)


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
    active.loop = loop or Loop(active.settings, active.run, active.network, items, scheduler, state)
    active.run.steps += len(active.loop.items)
    return active.loop


def sampled(pipe: Any, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a pipeline, in parallel; step by step, with the reason in the report, where that cannot be."""
    settings, run = pipe.__dict__["_paradigms"]
    refuse_caches(pipe)
    run.calls += 1
    start: Snapshot = snapshot({"args": list(args), "kwargs": dict(kwargs)}, set())
    before, began = (run.steps, run.rounds, len(run.accepted)), time.perf_counter()
    function = kind.__call__  # type: ignore[operator]
    try:
        for _ in range(AGAIN):
            network = Network(settings.batched, settings.window)
            active = Active(pipe, settings, run, network)
            try:
                with intercepted(pipe, active):
                    made = rewound(kind).__call__(pipe, *args, **kwargs)  # type: ignore[operator]
                if active.loop is None:
                    raise UnparallelError("its call did not come to a loop over steps")
                return made
            except ChangedError as changed:
                settings.copied |= changed.args[0]
            except UnparallelError as error:
                run.fallbacks.append(f"{kind.__name__}: {error}")
                break
            finally:
                account(run, network)
            run.steps, run.rounds = before[:2]
            del run.accepted[before[2] :]
            start.restore()
        else:
            run.fallbacks.append(f"{kind.__name__}: it changes tensors in place in ever new places: {settings.copied}")
        start.restore()
        return function(pipe, *args, **kwargs)
    finally:
        run.seconds += time.perf_counter() - began


def account(run: Run, network: Network) -> None:
    """Adds what the networks took to a report."""
    run.evaluations += network.evals
    run.checks += network.checks
    run.model_seconds += network.seconds
    run.fallbacks += [why for why in network.reasons if why not in run.fallbacks]


@contextlib.contextmanager
def intercepted(pipe: Any, active: Active) -> Iterator[None]:
    """Within it the networks of a pipeline are answered by the loop that runs."""
    kinds = [(m, type(m), answered) for m in {id(m): m for m in networks(pipe)}.values()]
    kinds += [(part, type(part), rewound) for part in parts(pipe)]
    token, plain = _active.set(active), nn.Module.__setattr__

    def watched(module: nn.Module, name: str, value: Any) -> None:
        now = _active.get()
        if now is not None and now.loop is not None and now.loop.inside and getattr(module, name, plain) is not value:
            raise UnparallelError(f"a step sets {name} of {type(module).__name__}")
        plain(module, name, value)

    try:
        for thing, kind, made in kinds:
            thing.__class__ = made(kind)  # type: ignore[arg-type]
        nn.Module.__setattr__ = watched  # type: ignore[method-assign, assignment]
        yield
    finally:
        nn.Module.__setattr__ = plain  # type: ignore[method-assign]
        _active.reset(token)
        for thing, kind, _ in kinds:
            thing.__class__ = kind


def networks(pipe: Any) -> Iterator[nn.Module]:
    """A pipeline's components that are networks."""
    for v in pipe.components.values():
        yield from (m for m in (v if isinstance(v, list | tuple) else [v]) if isinstance(m, nn.Module))


@functools.cache
def answered(kind: type) -> type:
    """The subclass of a network's class whose calls go to the loop that runs."""

    def real(self: Any, *args: Any, **kwargs: Any) -> Any:
        mine = type(self)
        self.__class__ = kind  # compiled networks look at their class
        try:
            return self(*args, **kwargs)
        finally:
            self.__class__ = mine

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        active = _active.get()
        if active is None or active.loop is None or not active.loop.inside:
            return real(self, *args, **kwargs)
        return active.loop.call(self, real, args, kwargs)  # type: ignore[union-attr]

    return kin(kind, __call__=call)


def refuse_caches(pipe: Any) -> None:
    """Raises ValueError where a network keeps what it computed for the next step."""
    for module in networks(pipe):
        if getattr(module, "is_cache_enabled", False):
            raise ValueError(
                f"{type(module).__name__} has a step cache, which depends on the order of calls; type: "
                f"pipe.{next(k for k, v in pipe.components.items() if v is module)}.disable_cache()"
            )
