"""Any diffusers pipeline in one line:

    with paradigms.parallelize(pipe, tolerance=0.003) as run:
        image = pipe(prompt).images[0]

While a pipeline is parallel its class is a subclass of its own, of the same name, whose loops are rewound, see
`rewrite.py`, and whose networks, while a loop runs, are of such subclasses too. Nothing is added to its components or
its configuration, its signature stays, and so do hooks and compiled networks, for networks are called as modules.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

from ...check import check_window
from ...method import AbstractMethod
from ...pace import AbstractPace
from ...solve import TOLERANCE
from ...spectral import Spectral
from ...stop import AbstractStop, FinalError
from ...team import Team
from .belief import belief
from .intercept import Active, intercepted, kin, looping, networks, original, parts, rewound, unwatch
from .network import Network
from .paced import PAD
from .report import Run, Settings
from .rewrite import UnparallelError
from .snapshot import ChangedError, Snapshot, snapshot
from .together import together

COPIED: dict[type, set[str]] = {}  # what was learned of each class of pipelines
AGAIN = 5  # how often a call begins anew, because a tensor was changed in place that was not copied


def enable_parallel_sampling(
    pipe: Any,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int | str | AbstractPace = "auto",
    batched: bool = True,
    mesh: Any = None,
) -> Run:
    """Makes a diffusers pipeline sample in parallel from now on, and gives the report that its calls add to.

    pipe: any pipeline with a loop over its scheduler's steps. method: default `Spectral()`. tolerance: relative error
    of the latents, as `FinalError` estimates it, or a criterion; 0 gives the sequential result. window: steps evaluated
    at once; "auto" picks, as it goes, what finishes soonest, the pipeline's own steps included.
    batched: False evaluates them one by one, equal to the last bit and no faster. mesh: as `sharded`'s; its
    ranks all make the same calls, share the rows, and get the same result. Raises ValueError for what is no such
    pipeline, a method that corrects states, a window below 1; a call does for step caches.
    """
    check_window(window)
    method = method or Spectral()
    if belief.dispatch(type(method)) is belief.dispatch(object):
        belief(method, None, None)  # type: ignore[arg-type]  # which raises
    stop = tolerance if isinstance(tolerance, AbstractStop) else FinalError(tolerance)
    kind = original(type(pipe))
    if not looping(kind) and not parts(pipe):
        raise ValueError(f"{kind.__name__} has no loop over a scheduler's steps; nothing in it can run in parallel")
    if mesh is not None:
        Team(mesh)  # for its errors
    settings, run = Settings(method, stop, window, batched, COPIED.setdefault(kind, set()), mesh=mesh), Run()
    pipe.__dict__["_paradigms"] = settings, run
    pipe.__class__ = parallel(kind)
    return run


def disable_parallel_sampling(pipe: Any) -> None:
    """Makes a pipeline sample step by step again."""
    pipe.__class__ = original(type(pipe))
    pipe.__dict__.pop("_paradigms", None)
    unwatch(pipe)


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


def sampled(pipe: Any, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a pipeline, in parallel, by all ranks of a mesh where there is one."""
    refuse_caches(pipe)
    mesh = pipe.__dict__["_paradigms"][0].mesh
    if mesh is None:
        return attempted(pipe, kind, args, kwargs, None)
    team = Team(mesh)
    with team.told():
        args, kwargs = together(team, pipe, args, kwargs)
        return attempted(pipe, kind, args, kwargs, Team(mesh))


def attempted(pipe: Any, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any], team: Team | None) -> Any:
    """One call of a pipeline, in parallel; step by step, with the reason in the report, where that cannot be."""
    settings, run = pipe.__dict__["_paradigms"]
    run.calls += 1
    start: Snapshot = snapshot({"args": list(args), "kwargs": dict(kwargs)}, set())
    before, began = (run.steps, run.rounds, len(run.accepted)), time.perf_counter()
    function = kind.__call__  # type: ignore[operator]
    try:
        for _ in range(AGAIN):
            window = settings.window if isinstance(settings.window, int) else PAD
            network = Network(settings.batched, -(-window // (team.size if team else 1)), team)
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
            del run.accepted[before[2] :], run.windows[before[2] :]
            start.restore()
        else:
            run.fallbacks.append(f"{kind.__name__}: it changes tensors in place in ever new places: {settings.copied}")
        start.restore()
        return function(pipe, *args, **kwargs)
    finally:
        run.seconds += time.perf_counter() - began
        run.shared(team.spent if team and team.spent.calls else None)


def account(run: Run, network: Network) -> None:
    """Adds what the networks took to a report."""
    run.evaluations += network.evals
    run.checks += network.checks
    run.model_seconds += network.clock.inside
    run.fallbacks += [why for why in network.reasons if why not in run.fallbacks]


@functools.cache
def parallel(kind: type) -> type:
    """The subclass of a pipeline's class that runs in parallel."""

    @functools.wraps(kind.__call__)  # type: ignore[operator]
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return sampled(self, kind, args, kwargs)

    return kin(rewound(kind), __call__=call, _paradigms_of=kind)


def refuse_caches(pipe: Any) -> None:
    """Raises ValueError where a network keeps what it computed for the next step."""
    for module in networks(pipe):
        if getattr(module, "is_cache_enabled", False):
            raise ValueError(
                f"{type(module).__name__} has a step cache, which depends on the order of calls; type: "
                f"pipe.{next(k for k, v in pipe.components.items() if v is module)}.disable_cache()"
            )
