"""One call of a parallel policy: what it asks for becomes a table, a first noise and conditions, which the core solves.

D[m] = network(x[m], t[n[m]], observation[b[m]])        m = 0..W B - 1 rows of the window, one call
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...method import AbstractMethod
from ...pace import AbstractPace
from ...solution import Solution
from ...solve import sample
from ...stop import AbstractStop
from ...system import System
from ..pipelines.report import Run
from .inpaint import Inpainted, Kept, inpainted
from .seam import Ask, Seam, randn
from .warm import Memory, Recalled, noted, several, wary


@dataclass(frozen=True)
class Settings:
    """How a policy runs: method, criterion, rows at once, mesh; stride: of chunks in actions, where they begin warm."""

    method: AbstractMethod
    stop: AbstractStop
    window: int | str | AbstractPace
    stride: int | None
    mesh: Any = None


class Network:
    """A policy's network as the core calls it: x (M, T, A), t (M,), condition (M, ...) -> (M, T, A).

    Known entries of a state (mask, value) are set before it is shown. Times that are measured are those of the module.
    """

    def __init__(self, seam: Seam) -> None:
        self.seam = seam

    @property
    def __self__(self) -> Any:
        return self.seam.network

    def __call__(
        self, x: Tensor, t: Tensor, mask: Tensor | None = None, value: Tensor | None = None, **condition: Tensor
    ) -> Tensor:
        parameter = next(self.seam.network.parameters(), x)
        x = x.to(parameter.dtype)
        if mask is not None and value is not None:
            x = torch.where(mask, value, x)
        with told(self.seam, {"x": x, **condition}, first=1):
            return self.seam.model(x, t, **condition)


def named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that have none under "kwargs"; raises TypeError as the call would."""
    takes = inspect.signature(function)
    bound = takes.bind(*args, **kwargs)
    bound.apply_defaults()
    rest = next((name for name, p in takes.parameters.items() if p.kind is p.VAR_KEYWORD), None)
    return {**bound.arguments, "kwargs": bound.arguments.pop(rest) if rest else {}}


def solved(
    model: Network, settings: Settings, given: Ask, table: System, memory: Memory | None
) -> tuple[Solution, Memory | None]:
    """One call's chunk (B, T, A) with its account, and what to remember of it."""
    system, method, stop = table, settings.method, settings.stop
    x, condition = given.x, dict(given.condition)
    noise = drawn(system, given)
    how: dict[str, Any] = {"mesh": settings.mesh}
    if settings.stride is not None:
        D = memory.recall(table, x, given.generator, settings.stride) if memory else None
        if D is not None:
            method, stop = replace(method, guess=Recalled(method.guess, D)), wary(stop, settings.window, table)
        memory = Memory(table, several(given.generator), x.new_zeros(len(table), *x.shape, dtype=torch.float32))
        how["watch"] = functools.partial(noted, D=memory.D)
    if given.known is not None:
        system = inpainted(table, *given.known)
        method, x = replace(method, guess=Kept(method.guess)), system.keep(x)
        condition |= {"mask": system.mask, "value": system.value}
    found = sample(
        model, system, x, method, window=settings.window, tolerance=stop, noise=noise, condition=condition, **how
    )  # fmt: skip
    if isinstance(system, Inpainted):
        found = replace(found, x=system.keep(found.x))
    return found, memory


def account(run: Run, found: Solution) -> None:
    """Adds what one call took to a report."""
    run.calls += 1
    run.steps += found.rows
    run.rounds += found.rounds
    run.evaluations += found.evals
    run.model_seconds += found.model_seconds
    run.residual = max(run.residual, float(found.residual.max()))


def drawn(system: System, given: Ask) -> Tensor | None:
    """z (N, B, T, A): what the policy's own loop draws after x, in its order and dtype; None where it draws nothing."""
    draws = (system.c != 0).tolist()
    if not any(draws):
        return None
    x = given.x
    return torch.stack(
        [randn(tuple(x.shape), given.generator, x.dtype, x.device) if d else torch.zeros_like(x) for d in draws]
    )


@contextlib.contextmanager
def told(seam: Seam, given: dict[str, Any], first: int = 0) -> Iterator[None]:
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


def refuse_training(seam: Seam) -> None:
    """Raises ValueError where the policy or its network is in training mode, in which answers are random."""
    for module in (seam.holder, seam.network):
        if getattr(module, "training", False):
            raise ValueError(
                f"{type(module).__name__} is in training mode, its answers are random; type: policy.eval()"
            )
