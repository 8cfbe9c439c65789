"""One call of a parallel policy: what it asks for becomes a table, a first noise and conditions, which the core solves.

D[m] = network(x[m], t[n[m]], observation[b[m]])        m = 0..W B - 1 rows of the window, one call
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...distributed.team import Team
from ...methods.base import AbstractMethod
from ...solution import Solution
from ...solve import sample
from ...stopping.base import AbstractStop
from ...system import System, expand_like
from ...window.controller import WindowController
from .inpainting import InpaintedSystem, KeptGuess, inpainted_system
from .interface import PolicyInterface, SamplingRequest, randn
from .stepping import step_through
from .warm_start import ChunkMemory, RecalledGuess, generator_per_sample, record_estimates, with_margin


@dataclass(frozen=True)
class PolicySettings:
    """How a policy runs: method, criterion, rows at once, mesh; stride: of chunks in actions, where they begin warm.

    compare: whether the policy's own loop runs after each call, on the same noise.
    """

    method: AbstractMethod
    stop: AbstractStop
    window: int | str | WindowController
    stride: int | None
    mesh: Any = None
    compare: bool = False


class CountedNetwork:
    """A policy's network as the core calls it: x (M, T, A), t (M,), condition (M, ...) -> (M, T, A).

    Known entries of a state (mask, value) are set before it is shown. Times that are measured are those of the module.
    Where samples are named by `who` (M,), those for which it answers no finite number are noted in `lost`, and get 0.
    """

    def __init__(self, seam: PolicyInterface) -> None:
        self.seam = seam
        self.lost: set[int] = set()

    @property
    def __self__(self) -> Any:
        return self.seam.network

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        mask: Tensor | None = None,
        value: Tensor | None = None,
        who: Tensor | None = None,
        **condition: Tensor,
    ) -> Tensor:
        parameter = next(self.seam.network.parameters(), x)
        x = x.to(parameter.dtype)
        if mask is not None and value is not None:
            x = torch.where(mask, value.to(x.dtype), x)
        with shapes_in_errors(self.seam, {"x": x, **condition}, first=1):
            m = self.seam.model(x, t, **condition)
        if who is not None and not math.isfinite(m.sum().item()):
            bad = ~torch.isfinite(m).flatten(1).all(1)
            self.lost.update(who[bad].tolist())
            m = torch.where(expand_like(bad[None], m[None])[0], 0, m)
        return m


@dataclass(frozen=True)
class Chunk:
    """One call's chunk x (B, T, A) and its account: network calls one after the other, rows times samples asked.

    found: the core's own account, None where every sample was stepped alone. alone: the samples that were, and why.
    """

    x: Tensor
    rounds: int
    evaluations: int
    found: Solution | None
    alone: dict[int, str]


def solve_chunk(
    model: CountedNetwork, settings: PolicySettings, given: SamplingRequest, table: System, memory: ChunkMemory | None
) -> tuple[Chunk, ChunkMemory | None]:
    """One call's chunk, and what to remember of it; samples that are not finite are stepped by the table, alone."""
    noise, N = draw_noise(table, given), len(table)
    team = None if settings.mesh is None else Team(settings.mesh)
    if team is not None:
        given, noise = agreed(team, given, noise)
    broken = nonfinite_samples(given)
    alone = dict.fromkeys(broken.nonzero().flatten().tolist(), "its observation is not finite")
    x = given.x.to(torch.promote_types(given.x.dtype, torch.float32)).clone()
    found: Solution | None = None
    rounds = evaluations = 0
    if len(alone) < len(x):
        fine = (~broken).nonzero().flatten()
        model.lost.clear()
        named = select_samples(given, fine)
        named = replace(named, condition={**named.condition, "who": fine})
        found, memory = solve_in_windows(model, settings, named, table, samples_noise(noise, fine), memory)
        rounds, evaluations = found.rounds, found.evaluations
        if team is not None:  # each rank knows of its own rows
            lost = team.slowest_of([float(b in model.lost) for b in range(len(x))])
            model.lost.update(b for b, v in enumerate(lost) if v)
        x[fine] = found.x
        alone |= dict.fromkeys(model.lost, "the network's answer is not finite")
    if alone:
        which = torch.tensor(sorted(alone), device=x.device)
        one = select_samples(given, which)
        x[which] = solve_by_table(model, table, one, samples_noise(noise, which))
        rounds, evaluations = rounds + N, evaluations + N * len(which)
    return Chunk(x, rounds, evaluations, found, alone), memory


def agreed(team: Team, given: SamplingRequest, noise: Tensor | None) -> tuple[SamplingRequest, Tensor | None]:
    """What the first rank was asked and drew, on every rank; raises ValueError where others were asked otherwise."""
    names, known = list(given.condition), given.known or ()
    tensors = [given.x, *given.condition.values(), *known, *(() if noise is None else (noise,))]
    what = {"conditional_sample": f"{names}, {[tuple(v.shape) for v in tensors]}"}
    with team.told():
        x, *rest = team.begin(lambda: (what, tensors))
    condition, rest = dict(zip(names, rest, strict=False)), rest[len(names) :]
    both = (rest[0], rest[1]) if known else None
    return replace(given, x=x, condition=condition, known=both), rest[-1] if noise is not None else None


def solve_in_windows(
    model: CountedNetwork,
    settings: PolicySettings,
    given: SamplingRequest,
    table: System,
    noise: Tensor | None,
    memory: ChunkMemory | None,
) -> tuple[Solution, ChunkMemory | None]:
    """One call as the core solves it, and what to remember of it."""
    system, method, stop = table, settings.method, settings.stop
    x, condition = given.x, dict(given.condition)
    how: dict[str, Any] = {"mesh": settings.mesh}
    if settings.stride is not None:
        last = memory.recall(table, x, given.generator, settings.stride) if memory else None
        D = x.new_zeros(len(table), *x.shape, dtype=torch.float32)
        memory = ChunkMemory(table, generator_per_sample(given.generator), D)
        if last is None:
            method = memory.method(method, method.guess, None)
        else:
            method = memory.method(method, RecalledGuess(method.guess, last[0]), last[1])
            stop = with_margin(stop, settings.window, table)
        how["watch"] = functools.partial(record_estimates, D=memory.D)
    if given.known is not None:
        system = inpainted_system(table, *given.known)
        method, x = replace(method, guess=KeptGuess(method.guess)), system.keep(x)
        condition |= {"mask": system.mask, "value": system.value}
    found = sample(
        model, system, x, method, window=settings.window, tolerance=stop, noise=noise, condition=condition, **how
    )  # fmt: skip
    if isinstance(system, InpaintedSystem):
        found = replace(found, x=system.keep(found.x))
    return found, memory


def solve_by_table(model: CountedNetwork, table: System, given: SamplingRequest, noise: Tensor | None) -> Tensor:
    """The chunk (B, T, A) of a call, row by row, whatever the network says."""
    x, condition, system = given.x, dict(given.condition), table
    if given.known is not None:
        system = inpainted_system(table, *given.known)
        x, condition = system.keep(x), condition | {"mask": system.mask, "value": system.value}
    with torch.no_grad():
        return step_through(model, system, x, noise, condition)


def nonfinite_samples(given: SamplingRequest) -> Tensor:
    """The samples (B,) that are given what is not finite."""
    known = [] if given.known is None else [torch.where(given.known[0], given.known[1], 0)]
    seen = [given.x, *(v for v in given.condition.values() if v.is_floating_point()), *known]
    return torch.stack([~torch.isfinite(v).flatten(1).all(1) for v in seen]).any(0)


def select_samples(given: SamplingRequest, which: Tensor) -> SamplingRequest:
    """What is asked for some samples of a call."""
    if len(which) == len(given.x):
        return given
    who = generator_per_sample(given.generator)
    return replace(
        given,
        x=given.x[which],
        generator=given.generator if who is None else [who[n] for n in which.tolist()],
        condition={k: v[which] for k, v in given.condition.items()},
        known=given.known and (given.known[0][which], given.known[1][which]),
    )


def samples_noise(noise: Tensor | None, which: Tensor) -> Tensor | None:
    """The noise (N, B, ...) of some samples."""
    return noise if noise is None or len(which) == noise.shape[1] else noise[:, which]


def draw_noise(system: System, given: SamplingRequest) -> Tensor | None:
    """z (N, B, T, A): what the policy's own loop draws after x, in its order and dtype; None where it draws nothing."""
    draws = (system.c != 0).tolist()
    if not any(draws):
        return None
    x = given.x
    return torch.stack(
        [randn(tuple(x.shape), given.generator, x.dtype, x.device) if d else torch.zeros_like(x) for d in draws]
    )


@contextlib.contextmanager
def shapes_in_errors(seam: PolicyInterface, given: dict[str, Any], first: int = 0) -> Iterator[None]:
    """Within it an error of the network becomes a ValueError that tells the shapes it was given, from axis `first`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(f"{name} {tuple(v.shape[first:])}" for name, v in given.items() if isinstance(v, Tensor))
        raise ValueError(
            f"{type(seam.network).__name__}: given{', of each row,' if first else ''} {shapes}, it failed: {error}; "
            "needed: observations and actions of the shapes that it was made for"
        ) from error


def refuse_training(seam: PolicyInterface) -> None:
    """Raises ValueError where the policy or its network is in training mode, in which answers are random."""
    for module in (seam.holder, seam.network):
        if getattr(module, "training", False):
            raise ValueError(
                f"{type(module).__name__} is in training mode, its answers are random; type: policy.eval()"
            )
