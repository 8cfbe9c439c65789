"""`enable_parallel_sampling` and `parallelize`: they find out whether they were given a pipeline or a policy.

| given                                               | made parallel by        |
| a diffusers pipeline                                | `adapters/pipelines/`   |
| a policy of LeRobot or diffusion_policy, or as them | `adapters/policies/`    |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..methods.base import AbstractMethod
from ..stopping.base import AbstractStop
from ..window.controller import WindowController
from . import pipelines, policies
from .options import Options
from .pipelines import Run
from .policies.policy import what_is_needed

OPEN = "_paradigms_within"  # of a thing that is parallel: what it is in


def enable_parallel_sampling(
    pipe_or_policy: Any,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | AbstractStop | None = None,
    window: int | str | WindowController = "auto",
    batched: bool = True,
    warm_start: bool = False,
    mesh: Any = None,
    compare: bool = False,
) -> Run:
    """Makes a diffusers pipeline or a diffusion policy sample in parallel, until it is disabled.

    Args:
        pipe_or_policy: A diffusers pipeline, or a policy with a `conditional_sample`, such as LeRobot's.
        method: How states are corrected; `Spectral()` if None.
        tolerance: Relative error of latents or actions, as `FinalError` estimates it; None is 0.003 for latents and
            0.01 for actions. 0 is the sequential result up to rounding. Or a stopping rule.
        window: Steps evaluated at once. "auto" measures and chooses.
        batched: For pipelines: False calls the networks for one step at a time.
        warm_start: For policies: begin from the last chunk of actions, shifted.
        mesh: Ranks that share each batch, as in `sharded`.
        compare: Also make each call step by step, and report the relative error and the speedup.

    Returns:
        The report, a `Run`, which is added to with every call.

    Raises:
        ValueError: It is neither a pipeline nor a policy, or an argument cannot be used.

    Example:
        A small pipeline that ships, in three steps of DDIM:

        >>> import paradigms as pd
        >>> from paradigms.models.latent import load
        >>> pipe = load()
        >>> run = pd.enable_parallel_sampling(pipe, window=3)
        >>> images = pipe("pines, snow", num_inference_steps=3).images
        >>> run.steps, run.status
        (3, 'converged')
    """
    adapter = adapter_of(pipe_or_policy)
    options = Options(method, tolerance, window, batched, warm_start, mesh, compare)
    check_options(options, adapter)
    return adapter.enable_parallel_sampling(pipe_or_policy, options)  # type: ignore[no-any-return]


def disable_parallel_sampling(pipe_or_policy: Any) -> None:
    """Makes a pipeline or a policy sample step by step again.

    Args:
        pipe_or_policy: What was made parallel.

    Raises:
        ValueError: It is neither a pipeline nor a policy.
    """
    adapter_of(pipe_or_policy).disable_parallel_sampling(pipe_or_policy)
    vars(pipe_or_policy).pop(OPEN, None)


def parallelize(
    pipe_or_policy: Any,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | AbstractStop | None = None,
    window: int | str | WindowController = "auto",
    batched: bool = True,
    warm_start: bool = False,
    mesh: Any = None,
    compare: bool = False,
) -> Parallel:
    """Makes a pipeline or a policy sample in parallel, for good or, used in a `with`, for a block.

    Args:
        pipe_or_policy, method, tolerance, window, batched, warm_start, mesh, compare: As in `enable_parallel_sampling`.

    Returns:
        Something to call in place of the pipeline. It has the numbers of the report and prints it; `with` gives the
        report itself, a `Run`.

    Raises:
        ValueError: It is neither a pipeline nor a policy, or an argument cannot be used.
    """
    adapter = adapter_of(pipe_or_policy)
    options = Options(method, tolerance, window, batched, warm_start, mesh, compare)
    check_options(options, adapter)
    return Parallel(pipe_or_policy, adapter, options)


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


Context: Any = type(_nothing())  # what `contextmanager` makes: its lines are no code of ours


class Parallel(Context):  # type: ignore[misc]
    """A thing that is parallel from when this is made, until the end of its `with`, or for good without one.

    Called, it calls the thing; it has the numbers of the report, and prints as it does. A `with` resumes `_lasting`
    where it waits, inside of both its try: so Ctrl-C at any line of ours, the first included, finds an end to run.
    """

    def __init__(self, thing: Any, adapter: Any, options: Options) -> None:
        self._thing = thing
        self._make: Any = lambda: adapter.parallelize(thing, options)
        self._within: Any = None
        self._run: Any = None
        self.func: Any = None
        self.args: tuple[Any, ...] = ()
        self.kwds: dict[str, Any] = {}
        self._wait()
        self._begin()

    def _wait(self) -> None:
        """Puts `_lasting` where the next `with` resumes it."""
        self.gen = self._lasting()
        next(self.gen)

    def _lasting(self) -> Iterator[Run | None]:
        try:
            try:
                yield None  # until a `with` begins
                if "args" not in vars(self):  # else it ends without a `with`, which takes them away
                    yield self._begin()
            finally:
                self._end()
        finally:
            self._end()

    def _begin(self) -> Run:
        try:
            if self._within is None:
                self._within = self._make()
                self._within.keeper = self  # without a `with` it is for good
                self._run = self._within.__enter__()
                vars(self._thing)[OPEN] = EnabledObjects(vars(self._thing).get(OPEN), self._within)
            return self._run  # type: ignore[no-any-return]
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._within is not None:
            self._within.__exit__(None, None, None)
            if held := vars(self._thing).get(OPEN):
                held.drop(self._thing, self._within)
            self._within = None
            self.func, self.args, self.kwds = None, (), {}
            self.__dict__.pop("gen", None)  # which holds this, and so the thing; a second `with` makes it again

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._thing(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "gen" and "_make" in vars(self):
            self._wait()
            return self.gen
        run = None if name.startswith("_") else vars(self).get("_run")
        if run is None or not hasattr(run, name):
            kind = type(vars(self).get("_thing")).__name__
            raise AttributeError(
                f"parallelize({kind}): given .{name}; needed: that of the {kind} itself, which is parallel now, or a "
                "number of its report"
            )
        return getattr(run, name)

    def __str__(self) -> str:
        return f"{type(self._thing).__name__}, parallel: {self._run}"

    __repr__ = __str__


class EnabledObjects:
    """The `with`s that a thing is in, so that they last as long as it does; none in copies and pickles of it."""

    passes_by = True  # no part of what a pipeline's steps keep

    def __init__(self, below: EnabledObjects | None = None, *within: Any) -> None:
        self.within: list[Any] = [*(below.within if below else ()), *within]

    def __reduce__(self) -> Any:
        return EnabledObjects, ()

    def drop(self, thing: Any, within: Any) -> None:
        """One of them is over."""
        self.within = [w for w in self.within if w is not within]
        if not self.within:
            vars(thing).pop(OPEN, None)


def check_options(options: Options, adapter: Any) -> None:
    """Raises ValueError for an argument that this kind has not, and for values that cannot be used."""
    options.check()
    for name, usual, owner, what in (
        ("batched", True, pipelines, "a pipeline"),
        ("warm_start", False, policies, "a policy"),
    ):
        value = getattr(options, name)
        if adapter is not owner and value is not usual:
            raise ValueError(f"{name}: given {value!r}; needed: {what}, for the other kind has no such argument")


def adapter_of(pipe_or_policy: Any) -> Any:
    """The adapter of a pipeline or a policy; raises ValueError for what can be neither."""
    thing = pipe_or_policy
    if policies.interface_of(thing) is not None:
        return policies
    if isinstance(thing, type) or (thing is not None and not hasattr(thing, "__dict__")) or thing is None:
        what = repr(thing) if not isinstance(thing, type) else f"the class {thing.__name__}"
        raise ValueError(f"given {what}; needed: a diffusers pipeline, such as DiffusionPipeline.from_pretrained(...)")
    if isinstance(thing, nn.Module):
        own = what_is_needed(thing)
        raise ValueError(f"{own}; for a network of a pipeline type enable_parallel_sampling(pipe), the pipeline itself")
    return pipelines
