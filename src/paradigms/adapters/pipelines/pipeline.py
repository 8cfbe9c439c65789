"""`enable_parallel_sampling` for a pipeline: its class, its settings and what its call becomes.

    with paradigms.parallelize(pipe, tolerance=0.003) as run:
        image = pipe(prompt).images[0]

While a pipeline is parallel its class is a subclass of its own, of the same name, whose loops are rewound, see
`rewrite.py`, and whose networks, while a loop runs, are of such subclasses too. Nothing is added to its components or
its configuration, its signature stays, and so do hooks and compiled networks, for networks are called as modules.
Copies and pickles are of the plain pipeline.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from ...checks.solver import check_window
from ...distributed.team import Team
from ...solve import TOLERANCE
from ..options import Options
from ..report import Run, Settings
from .attempts import PipelineCall, attempt_parallel_call, compare_with_sequential
from .broadcast import first_ranks_arguments
from .network_watch import unwatch_network_fields
from .networks.jacobian import jacobian_of
from .subclass import loop_holders, looping_methods, original_class, rewinding_subclass, same_name_subclass

OPEN = "_paradigms_open"  # of a pipeline: the `with`s that it is in
COPIED: dict[type, set[str]] = {}  # what was learned of each class of pipelines


def enable_parallel_sampling(pipe: Any, options: Options) -> Run:
    """Makes a diffusers pipeline sample in parallel from now on, and gives the report that its calls add to.

    pipe: any pipeline with a loop over its scheduler's steps. A tolerance of 0 gives the sequential result to the
    rounding of its numbers, 1e-5 in float32; a window of 1 is the pipeline's own code, bit for bit. The ranks of a mesh
    all make the same calls, share the rows, and get the same result. A call whose error may be beyond the tolerance is
    made again, see `repeat_doubtful.py`. Raises ValueError for what is no such pipeline, a method that corrects states,
    a window below 1.
    """
    settings = check_settings(pipe, options)
    kind, run = original_class(type(pipe)), Run()
    before = type(pipe), vars(pipe).get("_paradigms")
    try:
        pipe.__dict__["_paradigms"] = settings, run
        pipe.__class__ = parallel_subclass(kind)
    except BaseException:
        install_class(pipe, *before)
        raise
    if "__call__" in vars(pipe):
        run.fallbacks.append(
            f"{kind.__name__}: __call__ was set on this one pipeline, so pipe.__call__(...) runs step by step; "
            "call pipe(...), or set it on the class"
        )
    return run


def check_settings(pipe: Any, options: Options) -> Settings:
    """The settings of a pipeline; raises ValueError for what cannot be."""
    check_window(options.window)
    method, stop = options.solver(TOLERANCE)
    if jacobian_of.dispatch(type(method)) is jacobian_of.dispatch(object):
        jacobian_of(method, None, None)  # type: ignore[arg-type]  # which raises
    kind = original_class(type(pipe))
    if not looping_methods(kind) and not loop_holders(pipe) and not hasattr(getattr(pipe, "scheduler", None), "step"):
        raise ValueError(f"{kind.__name__} has no loop over a scheduler's steps; nothing in it can run in parallel")
    if options.compare and options.mesh is not None:
        raise ValueError("compare: given with mesh, whose ranks would each compare; needed: one of the two")
    if options.mesh is not None:
        Team(options.mesh)  # for its errors
    copied = COPIED.setdefault(kind, set())
    return Settings(method, stop, options.window, options.batched, copied, mesh=options.mesh, compare=options.compare)


def disable_parallel_sampling(pipe: Any) -> None:
    """Makes a pipeline sample step by step again."""
    try:
        install_class(pipe, original_class(type(pipe)), None)
    finally:
        install_class(pipe, original_class(type(pipe)), None)
        vars(pipe).pop(OPEN, None)


def install_class(pipe: Any, kind: type, settings: Any) -> None:
    """Gives a pipeline a class and what it was asked to do; None: it is plain."""
    try:
        pipe.__class__ = kind
    finally:
        if settings is not None:
            pipe.__dict__["_paradigms"] = settings
        else:
            pipe.__dict__.pop("_paradigms", None)
            unwatch_network_fields(pipe)


class ParallelContext(contextlib.AbstractContextManager[Run]):
    """A `with` in which a pipeline is parallel. Where several end in another order, each ends what it began."""

    passes_by = True  # no part of what a snapshot keeps

    def __init__(self, pipe: Any, options: Options) -> None:
        self.pipe, self.options = pipe, options
        self.before: tuple[type, Any] = type(pipe), vars(pipe).get("_paradigms")

    def __enter__(self) -> Run:
        self.before = type(self.pipe), vars(self.pipe).get("_paradigms")
        try:
            run = enable_parallel_sampling(self.pipe, self.options)
            vars(self.pipe).setdefault(OPEN, []).append(self)
        except BaseException:
            self.leave(True)
            raise
        return run

    def __exit__(self, *error: Any) -> None:
        try:
            self.leave()
        finally:
            self.leave()

    def leave(self, surely: bool = False) -> None:
        """Gives the pipeline back what it was before; one that began later does so when it ends."""
        opened = vars(self.pipe).get(OPEN, [])
        later = opened[opened.index(self) + 1 :] if self in opened else []
        if later:
            later[0].before = self.before
        elif surely or self in opened:
            install_class(self.pipe, *self.before)
        if self in opened:
            opened.remove(self)
        if not opened:
            vars(self.pipe).pop(OPEN, None)


def parallelize(pipe: Any, options: Options) -> ParallelContext:
    """Within it a diffusers pipeline samples in parallel; errors as `enable_parallel_sampling`'s."""
    return ParallelContext(pipe, options)


def parallel_call(pipe: Any, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a pipeline, in parallel, by all ranks of a mesh where there is one."""
    settings, run = pipe.__dict__["_paradigms"]
    if settings.mesh is not None:
        team = Team(settings.mesh)
        with team.told():
            args, kwargs = first_ranks_arguments(team, pipe, args, kwargs)
            return attempt_parallel_call(PipelineCall(pipe, kind, args, kwargs), Team(settings.mesh))
    call = PipelineCall(pipe, kind, args, kwargs)
    return compare_with_sequential(call, run) if settings.compare else attempt_parallel_call(call, None)


def parallel_subclass(kind: type) -> type:
    """The subclass of a pipeline's class that runs in parallel."""

    @functools.wraps(kind.__call__)  # type: ignore[operator]
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return parallel_call(self, kind, args, kwargs)

    return same_name_subclass(rewinding_subclass(kind), __call__=call, _paradigms_of=kind)
