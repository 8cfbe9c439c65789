"""A solver on the ranks of a mesh: every rank runs it, and all begin with the first rank's inputs, sent once.

    x, noise, condition, state of generators  <-  the first rank's;    model  <-  sharded(model)

From then on all ranks compute the same, and meet in each call of the model.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..checks.solver import check_solver
from ..distributed.failures import RankError
from ..distributed.team import Team
from ..noise import Generators, default_generator
from ..problem import Problem
from ..system import System
from .sharded import sharded

F = TypeVar("F", bound=Callable[..., Any])

# The names of the arguments that make a `Problem`.
PROBLEM_ARGUMENTS = tuple(inspect.signature(Problem).parameters)
# The names of the arguments that `check_solver` checks.
SOLVER_ARGUMENTS = tuple(inspect.signature(check_solver).parameters)


def run_on_mesh(solve: F) -> F:
    """A solver that with `mesh=` is run by every rank of it: one problem, the first rank's numbers, rows shared out.

    Raises ValueError where ranks were given different problems, RankError where one fails, see `Team`.
    """
    names = inspect.signature(solve)

    @functools.wraps(solve)
    def solved(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("mesh") is None:
            return solve(*args, **kwargs)
        given = names.bind(*args, **kwargs)
        mesh, a = given.arguments.pop("mesh"), given.arguments
        team = Team(mesh)
        broadcast_arguments(team, a)
        a["model"] = sharded(a["model"], mesh)
        with team.told():
            return solve(*given.args, **given.kwargs)

    return cast(F, solved)


def broadcast_arguments(team: Team, given: dict[str, Any]) -> None:
    """Puts the first rank's numbers in the place of what was given, which is one problem on all ranks, and is checked.

    Raises ValueError where it is not, RankError where only another rank's is none.
    """
    noise, condition, draws = given.get("noise"), given.get("condition"), list[torch.Generator]()

    def problem() -> tuple[dict[str, str], list[Tensor]]:
        Problem(**{k: v for k, v in given.items() if k in PROBLEM_ARGUMENTS})
        check_solver(**{k: v for k, v in given.items() if k in SOLVER_ARGUMENTS})
        draws.extend(list_generators(given.get("generator"), given["x"].device))
        tensors = [given["x"], *([] if noise is None else [noise]), *(condition or {}).values()]
        what = {k: describe_arguments(v) for k, v in given.items() if k not in ("model", "watch")}
        return what, [*tensors, *(g.get_state() for g in draws)]

    try:
        made = iter(team.begin(problem))
    except RankError as error:
        raise error.__cause__ if isinstance(error.__cause__, ValueError) else error from None
    given["x"] = next(made)
    given["noise"] = None if noise is None else next(made)
    given["condition"] = {k: next(made) for k in condition or {}}
    for g, state in zip(draws, made, strict=True):
        g.set_state(state)


def describe_arguments(v: Any) -> str:
    """What an argument is, as far as it must be the same on all ranks."""
    if isinstance(v, Tensor):
        return f"{tuple(v.shape)} {v.dtype}"
    if isinstance(v, System):
        return f"a table of {len(v)} rows, {table_hash(v)}"
    if isinstance(v, Mapping):
        return str({k: describe_arguments(w) for k, w in v.items()})
    if isinstance(v, torch.Generator):
        return "a generator"
    if isinstance(v, list | tuple):
        return str([describe_arguments(w) for w in v])
    plain = isinstance(v, str | int | float | type(None) | torch.dtype) or is_dataclass(v)
    return repr(v) if plain else type(v).__name__


def table_hash(system: System) -> str:
    """A hash of a table, the same for the same table on any rank."""
    table = str([v.tolist() for v in (system.t, system.a, system.b, system.c, system.std)])
    return hashlib.sha256(table.encode()).hexdigest()[:8]


def list_generators(given: Generators | None, device: torch.device) -> list[torch.Generator]:
    """The generators that a call draws from."""
    if given is None:
        return [default_generator(device)]
    return [given] if isinstance(given, torch.Generator) else list(given)
