"""One call of a parallel pipeline: attempted, begun anew where that failed, stepped through where it cannot be.

    windows  ->  anew, with copies of what is changed in place  ->  the same loop, one row at a time  ->  the plain call
             ->  anew, at a smaller tolerance, see `repeat_doubtful.py`   ->  likewise

Before each all is put back: arguments, generators, what networks keep. What a user's code raises is raised as it is.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from ...distributed.team import Team
from ...window.controller import FixedWindow, WindowController
from ..report import Run, Settings
from .code.rewrite import UnparallelError
from .code.wrappers import innermost_function
from .compare_results import error
from .loop.active_call import ActiveCall
from .loop.repeat_doubtful import DoubtError
from .loop.row_modes import UnrepeatableError
from .loop.window_controller import PAD
from .network_watch import watch_network_fields
from .networks.batched_network import BatchedNetwork
from .networks.call_repetition import RemembersError
from .networks.network_call import CarriedError
from .networks.put_back import refuse_lost_state
from .patch import ClassPatch
from .state.outside_state import outside_state
from .state.snapshot import ChangedError, Snapshot, take_snapshot
from .step_caches import step_cache
from .subclass import network_ids, original_class, rewinding_subclass

# How often a call begins anew because a tensor was changed in place that was not copied: a guard, not a measured
# number. Each time names all the changes that it found, and what a class of pipelines changes is remembered.
AGAIN = 5
UNREPEATABLE: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()  # pipelines, and why

CALLED = "; callbacks had been called by then, and are called for those steps again"
NO_LOOP = (
    "its call did not come to a loop over steps that can be followed; needed: a `for` whose body calls "
    "self.scheduler.step(...), by that name, or a method of the class that does"
)


class PipelineCall(NamedTuple):
    """A call of a pipeline as the user made it; kind: the pipeline's own class."""

    pipe: Any
    kind: type
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def made_by(self, kind: type) -> Any:
        """What the call gives in that class: the pipeline's own, or one whose loops are rewound."""
        return kind.__call__(self.pipe, *self.args, **self.kwargs)  # type: ignore[operator]


def attempt_parallel_call(call: PipelineCall, team: Team | None) -> Any:
    """One call of a pipeline, in parallel; step by step, with the reason in the report, where that cannot be."""
    name, (settings, run) = call.kind.__name__, call.pipe.__dict__["_paradigms"]
    run.calls += 1
    start, began = starting_state(call), time.perf_counter()
    try:
        if why := step_cache(call.pipe) or UNREPEATABLE.get(call.pipe):
            run.fallbacks.append(f"{name}: {why}")
            return step_by_step(call, start, why)
        for _ in range(AGAIN):
            try:
                return run_once(call, settings, run, team)
            except ChangedError as changed:
                settings.copied |= changed.args[0]
            except DoubtError as doubt:
                run.retries += 1
                settings, why = doubt.args[0], "the estimate of its error in windows was beyond the tolerance"
                if settings is None:
                    break
            except UnparallelError as reason:
                why = str(reason)
                if isinstance(reason, UnrepeatableError):
                    UNREPEATABLE[call.pipe] = why.partition("; this call")[0]
                run.fallbacks.append(f"{name}: {reason}")
                break
            start.restore()
        else:
            why = f"it changes tensors in place in ever new places: {settings.copied}"
            run.fallbacks.append(f"{name}: {why}")
        start.restore()
        return step_by_step(call, start, why)
    finally:
        run.seconds += time.perf_counter() - began
        run.shared(team.spent if team and team.spent.calls else None)


def step_by_step(call: PipelineCall, start: Snapshot, why: str) -> Any:
    """The call one row at a time: its loop as it is, counted; the plain call where its loop cannot be made again."""
    settings, run = call.pipe.__dict__["_paradigms"]
    try:
        one = replace(settings, window=FixedWindow(1, why=why), batched=False)
        return run_once(call, one, run, None)
    except UnparallelError:
        start.restore()
    return call.made_by(call.kind)


def starting_state(call: PipelineCall) -> Snapshot:
    """What a call begins with: what its arguments and the pipeline hold, what its code can set, and the generators."""
    pipe = call.pipe
    kind = original_class(type(pipe))
    plain = innermost_function(kind.__call__)
    code, names = getattr(plain, "__code__", starting_state.__code__), getattr(plain, "__globals__", {})
    held = [v for v in vars(pipe).values() if not isinstance(v, nn.Module)]
    reached = outside_state(kind, code, names, held, strict=False)
    whole = {"args": list(call.args), "kwargs": dict(call.kwargs), "self": pipe, **reached}
    return take_snapshot(whole, None, strict=False, networks=network_ids(pipe))


def run_once(call: PipelineCall, settings: Settings, run: Run, team: Team | None) -> Any:
    """One attempt; what it changed is put back, whatever ends it, and where it is given up what it counted as well."""
    window = settings.window if isinstance(settings.window, int) else 1 if single(settings.window) else PAD
    network = BatchedNetwork(settings.batched, -(-window // (team.size if team else 1)), team=team)
    active = ActiveCall(call.pipe, settings, run, network)
    swap, counted, done = ClassPatch(call.pipe, active), attempt_counts(run), True
    watch_network_fields(call.pipe)
    try:
        try:
            swap.begin()
            made = call.made_by(rewinding_subclass(call.kind))
        except CarriedError as carried:
            raise carried.args[0] from None
        except (UnparallelError, ChangedError, DoubtError) as reason:
            done = False
            network.probe.restore()
            if isinstance(reason, RemembersError):
                width = network.samples // max(network.evaluations, 1)
                network.probing(lambda: refuse_lost_state(network.probe, network.opening.values()), width)
            run.steps, run.rounds = counted[:2]
            del run.accepted[counted[2] :], run.windows[counted[2] :]
            run.estimate, run.doubts[counted[4] :] = counted[3], []
            run.tolerance, run.asked = counted[5:]
            if isinstance(reason, UnparallelError) and active.loop is not None and active.loop.called:
                raise type(reason)(f"{reason}{CALLED}") from None
            raise
        finally:
            swap.end()
    finally:
        try:
            swap.end()
        finally:
            swap.free()
        count_networks(run, network, active, done)
    if active.loop is None:
        run.fallbacks.append(f"{call.kind.__name__}: {NO_LOOP}")
    return made


def single(window: Any) -> bool:
    """Whether a window is always one row."""
    return window == 1 or (isinstance(window, WindowController) and window.only == 1)


def attempt_counts(run: Run) -> tuple[Any, ...]:
    """What a report counts of an attempt, to be put back where it is given up."""
    return run.steps, run.rounds, len(run.accepted), run.estimate, len(run.doubts), run.tolerance, run.asked


def count_networks(run: Run, network: BatchedNetwork, active: ActiveCall, done: bool) -> None:
    """Adds what the networks took to a report; what was given up counts as checks."""
    run.evaluations += network.samples if done else 0
    run.checks += network.checked + (0 if done else network.samples)
    run.model_seconds += network.clock.seconds
    run.fallbacks += [why for why in network.reasons if why not in run.fallbacks]
    pace = getattr(active.loop, "pace", None)
    if done and pace is not None:
        run.told(pace.reason() if hasattr(pace, "reason") else None, getattr(pace, "expected", lambda: None)())


def compare_with_sequential(call: PipelineCall, run: Run) -> Any:
    """One call in parallel, and the plain one from the same generators to compare it with."""
    start = starting_state(call)
    made = attempt_parallel_call(call, None)
    end, began = starting_state(call), time.perf_counter()
    start.restore()
    plain = call.made_by(call.kind)
    run.sequential_seconds = (run.sequential_seconds or 0.0) + time.perf_counter() - began
    end.restore()
    run.max_error = max(run.max_error or 0.0, error(made, plain))
    return made
