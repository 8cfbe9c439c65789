"""Checks that a policy's own loop does what its scheduler's table says: both are run on known answers.

    own loop(stub) = table(stub) within EQUAL, after as many draws        then a call may be solved by the table
    anything else                                                         then the policy's own loop runs, unchanged

A loop with steering of its own, one that draws otherwise, decides by what it sees, or keeps account of its calls is
found so. What was found holds as long as all that the loop depends on is what it was, and for calls with the same kinds
of arguments.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..schedulers.fingerprint import DEEP, Marks, fingerprint
from ..schedulers.prepare import SchedulerError
from .arguments import KWARGS, ignored_arguments, trim_arguments
from .call import CountedNetwork, draw_noise, solve_by_table
from .decisions import Decisions
from .interface import NAME, Inpainting, PolicyInterface, table_of_scheduler
from .random_streams import RandomStreams, positions, seed_streams
from .stub_copy import StubPolicy

# How far apart answers may be, relatively; tables and loops in float32 differ by 2e-7 to 3e-6 in 15 to 1000 steps.
# Chosen by hand.
EQUAL = 3e-5
# The same in half precision, whose rounding grows along a chain; other noise is 1 off. Chosen by hand.
LOOSE = 0.1
# How many kinds of calls are remembered. Chosen by hand.
MANY = 32
one_trial = threading.RLock()  # trials seed the random streams of the process, so one is made at a time


@dataclass(frozen=True)
class LoopCheck:
    """What a trial found: why a policy's own loop must run, None where the table may; what that depends on.

    names: attributes of the policy, network: of its network; marks: what they were.
    """

    why: str | None
    names: tuple[str, ...]
    network: tuple[str, ...]
    marks: Hashable = None


class LoopChecks:
    """The verdicts on one policy's loop so far."""

    def __init__(self, seam: PolicyInterface) -> None:
        self.seam = seam
        self.found: dict[Hashable, LoopCheck] = {}

    def why(self, loop: Any, arguments: dict[str, Any]) -> str | None:
        """Why the policy's own loop must run for such a call; None where the table gives the same.

        Raises SchedulerError where the own loop cannot run the policy's scheduler.
        """
        function = id(getattr(loop, "__func__", loop)), id(getattr(loop, "__self__", None))
        kind = (type(self.seam.holder), function, call_signature(arguments), half_precision(self.seam, arguments))
        verdict = self.found.get(kind)
        if verdict is None or verdict.marks != self.marks(loop, verdict)[0]:
            while len(self.found) >= MANY:
                self.found.pop(next(iter(self.found)))
            verdict = check_loop(self.seam, loop, arguments)
            marks, outside = self.marks(loop, verdict)
            if outside and verdict.why is None:
                verdict = replace(verdict, why=f"{self.seam.name}: it uses {outside}, which a table does not")
            self.found[kind] = verdict = replace(verdict, marks=marks)
        return verdict.why

    def marks(self, loop: Any, verdict: LoopCheck) -> tuple[Hashable, str]:
        """What all that a loop depends on is now, and which modules it uses that say something else at every call."""
        holder, network = self.seam.holder, self.seam.network
        marks = Marks(holder, network)
        marks.named |= set(verdict.names)
        found: list[Hashable] = [marks.of(loop)]
        found += [marks.of(getattr(holder, name, None)) for name in ("noise_scheduler", *verdict.names)]
        found += [marks.of(getattr(network, name, None)) for name in verdict.network]
        found.append(marks.class_of(type(holder), DEEP))
        return tuple(found), ", ".join(sorted(marks.outside))


def call_signature(arguments: dict[str, Any]) -> Hashable:
    """What calls that are tried once have in common: which arguments are given, of which kinds and sizes."""
    return tuple((k, call_signature(v) if isinstance(v, dict) else argument_signature(v)) for k, v in arguments.items())


def argument_signature(v: Any) -> Hashable:
    """What one argument is like."""
    if isinstance(v, Tensor):
        known = bool(v.any()) if v.dtype == torch.bool else bool(torch.isfinite(v).all())
        return tuple(v.shape), v.dtype, v.device, known
    if isinstance(v, torch.Generator | list | tuple):
        return str(type(v))
    return fingerprint(v)


def check_loop(seam: PolicyInterface, loop: Any, arguments: dict[str, Any]) -> LoopCheck:
    """Why a loop's own run must be kept, or None, and the attributes that it read; raises SchedulerError.

    In half precision it is tried twice: for equality in float32, and for the noise that it draws as it is.
    """
    device = next(seam.network.parameters(), torch.zeros(())).device
    half, streams = half_precision(seam, arguments), RandomStreams(device)
    loop = getattr(loop, "_torchdynamo_orig_callable", loop)  # what torch.compile was given
    try:
        try:
            one_trial.acquire()
            verdict = attempt(seam, loop, arguments, device, None)
            if verdict.why is None and half is not None:
                verdict = replace(verdict, why=attempt(seam, loop, arguments, device, half).why)
        finally:
            end_trial(streams)
    finally:
        end_trial(streams)  # twice is as once: an interrupt may have come between
    return replace(verdict, why=verdict.why and f"{seam.name}: {verdict.why}")


def end_trial(streams: RandomStreams) -> None:
    """Puts the random streams back, and lets others try."""
    streams.restore()
    if one_trial._is_owned():  # type: ignore[attr-defined]
        one_trial.release()


def attempt(
    seam: PolicyInterface, loop: Any, arguments: dict[str, Any], device: torch.device, half: torch.dtype | None
) -> LoopCheck:
    """One trial: why a loop's own run must be kept, or None, and the attributes that it read."""
    made: StubPolicy | None = None
    try:
        made = StubPolicy(seam, loop, half)
        if half is None:
            with torch.autocast(device.type, enabled=False):
                why = difference_found(made, seam.holder.noise_scheduler, arguments, device, half)
        else:
            why = difference_found(made, seam.holder.noise_scheduler, arguments, device, half)
    except Exception as error:  # the loop is the user's, and so is what it may raise on a network it does not know
        if made and made.broken and not arguments[KWARGS]:  # else it may be the arguments, and the own loop tells
            raise unfit(seam, made.broken[0]) from error
        why = f"it could not be tried on a network of known answers: {type(error).__name__}: {error}"
    if made is None:
        return LoopCheck(why, (), ())
    if why is None and (lost := made.read & made.shared):
        why = f"it uses {', '.join(sorted(lost))}, which cannot be copied to try it"
    return LoopCheck(why, tuple(sorted(made.read - {NAME})), tuple(sorted(made.network)))


@torch.no_grad()
def difference_found(
    made: StubPolicy, scheduler: Any, arguments: dict[str, Any], device: torch.device, half: torch.dtype | None
) -> str | None:
    """Why the copy's loop is not the table on the copy's network, None where it is."""
    seam, given, spare = made.seam, with_numbers(arguments, half is None), ignored_arguments(made.loop)
    seed_streams(device, 1)
    asked = with_new_generators(given, 0)
    decisions = Decisions([*given.values(), *given[KWARGS].values()])
    theirs = decisions.watch(lambda: call_loop(made.loop, asked))
    draws = positions(device, trim_arguments(asked, spare).get("generator"))
    if not isinstance(theirs, Tensor):
        return f"it gave {type(theirs).__name__} and no tensor"
    if changed := made.changed:
        return f"it changes {', '.join(changed)}, which a table does not"
    if decisions.found:
        return f"it decides by the numbers that it sees ({decisions.found[0]}), which a table does not"
    seed_streams(device, 1)
    asked = trim_arguments(with_new_generators(given, 0), spare)
    ask = seam.asked(asked)
    try:
        system = table_of_scheduler(scheduler, seam.holder.num_inference_steps, ask.step)
    except SchedulerError as error:
        return str(error)
    ours = solve_by_table(CountedNetwork(seam), system, ask, draw_noise(system, ask))
    if ours.shape != theirs.shape:
        return f"it gave {tuple(theirs.shape)} where the table of its scheduler gives {tuple(ours.shape)}"
    if not torch.equal(torch.isfinite(ours), torch.isfinite(theirs)):
        return "it gives numbers where the table of its scheduler gives none, or the other way round"
    off = relative_difference(ours, theirs)
    if not off <= (EQUAL if half is None else LOOSE):
        noise = (
            "" if half is None else f", in {str(half).removeprefix('torch.')}: its noise may be drawn in another dtype"
        )
        return f"on a network of known answers it is {off:.1e} off what the table of its scheduler gives{noise}"
    if draws != positions(device, asked.get("generator")):
        return "it draws other numbers than its first noise and its scheduler's"
    return None


def relative_difference(x: Tensor, y: Tensor) -> float:
    """|x - y| / |x| of what is finite."""
    x, y = (torch.where(torch.isfinite(v), v, 0).double() for v in (x, y))
    return float((x - y).norm() / x.norm().clamp(min=1e-30))


def half_precision(seam: PolicyInterface, arguments: dict[str, Any]) -> torch.dtype | None:
    """The half precision that a call's network answers in, or None."""
    p = next(seam.network.parameters(), torch.zeros(()))
    if torch.is_autocast_enabled(p.device.type):
        return torch.get_autocast_dtype(p.device.type)
    held = [p, *(v for v in arguments.values() if isinstance(v, Tensor))]
    narrow = any(v.is_floating_point() and v.element_size() < 4 for v in held)
    return p.dtype if narrow else None


def call_loop(loop: Any, given: dict[str, Any]) -> Any:
    """What a loop gives."""
    return loop(**{k: v for k, v in given.items() if k != KWARGS}, **given[KWARGS])


def with_new_generators(given: dict[str, Any], number: int) -> dict[str, Any]:
    """The arguments with a new generator in place of the one, or of those, that were given."""
    g = given.get("generator")
    if g is None:
        return given
    device = g.device if isinstance(g, torch.Generator) else g[0].device
    return given | {"generator": torch.Generator(device).manual_seed(number)}


def with_numbers(arguments: dict[str, Any], wide: bool) -> dict[str, Any]:
    """The arguments of a call with numbers in place of what was seen, so that nothing is hidden by zeros; what is not
    finite stays, for a loop may know what to do with it.

    wide: in float32 or better.
    """
    g = torch.Generator().manual_seed(2)

    def one(v: Any) -> Any:
        if not isinstance(v, Tensor):
            return dict(v) if isinstance(v, dict) else v
        if not v.is_floating_point():
            return v.clone()
        dtype = torch.promote_types(v.dtype, torch.float32) if wide else v.dtype
        made = torch.randn(v.shape, generator=g).to(v.device, dtype)
        return torch.where(torch.isfinite(v), made, v.to(dtype))

    return {name: one(v) for name, v in arguments.items()}


def refuse_unfit(seam: PolicyInterface, loop: Any) -> None:
    """Raises SchedulerError where the own loop cannot run the policy's scheduler, whatever else it may find."""
    p = next(seam.network.parameters(), torch.zeros(()))
    how: dict[str, Any] = {"batch_size": 1}
    if isinstance(seam, Inpainting):
        data = torch.zeros(1, getattr(seam.holder, "horizon", 16), 2, dtype=p.dtype, device=p.device)
        how = {"condition_data": data, "condition_mask": data.bool()}
    check_loop(seam, loop, how | {KWARGS: {}})


def unfit(seam: PolicyInterface, error: Exception) -> SchedulerError:
    """The refusal of a scheduler that the policy's own loop cannot run."""
    return SchedulerError(
        f"noise_scheduler: {type(seam.holder.noise_scheduler).__name__} cannot be run by "
        f"{type(seam.holder).__name__}.conditional_sample: {type(error).__name__}: {error}; type: "
        "policy.noise_scheduler = diffusers.DDIMScheduler.from_config(policy.noise_scheduler.config)"
    )
