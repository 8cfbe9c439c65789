"""A solver over the ranks of a mesh: each runs it, and what it begins with is the first rank's, sent once.

    x, noise, condition, state of generators  <-  the first rank's;    model  <-  sharded(model)

From then on all ranks compute the same, and meet in each call of the model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .check import check_problem
from .noise import Generators, default_generator
from .roll import RankError
from .shard import sharded
from .system import System
from .team import Team

PROBLEM = ("generator", "noise", "condition")
F = TypeVar("F", bound=Callable[..., Any])


def over_mesh(solve: F) -> F:
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
        agree(team, a)
        noise, condition, generator = a.get("noise"), a.get("condition") or {}, a.get("generator")
        draws = generators(generator, a["x"].device)
        tensors = [a["x"], *([] if noise is None else [noise]), *condition.values()]
        made = iter(team.broadcast([*tensors, *(g.get_state() for g in draws)], a["x"].device))
        a["x"] = next(made)
        a["noise"] = None if noise is None else next(made)
        a["condition"] = {k: next(made) for k in condition}
        for g, state in zip(draws, made, strict=True):
            g.set_state(state)
        a["model"] = sharded(a["model"], mesh)
        with team.told():
            return solve(*given.args, **given.kwargs)

    return cast(F, solved)


def agree(team: Team, given: Mapping[str, Any]) -> None:
    """Checks what was given on every rank, and that it is one problem; raises ValueError, RankError for another's."""

    def what() -> dict[str, str]:
        check_problem(given["system"], given["x"], 1, *(given.get(k) for k in PROBLEM))  # type: ignore[arg-type]
        return {k: described(v) for k, v in given.items() if k not in ("model", "watch")}

    try:
        team.agree(what)
    except RankError as error:
        raise error.__cause__ if isinstance(error.__cause__, ValueError) else error from None


def described(v: Any) -> str:
    """What an argument is, as far as it must be the same on all ranks."""
    if isinstance(v, Tensor):
        return f"{tuple(v.shape)} {v.dtype}"
    if isinstance(v, System):
        return f"a table of {len(v)} rows, {v.digest}"
    if isinstance(v, Mapping):
        return str({k: described(w) for k, w in v.items()})
    if isinstance(v, torch.Generator):
        return "a generator"
    if isinstance(v, list | tuple):
        return str([described(w) for w in v])
    plain = isinstance(v, str | int | float | type(None) | torch.dtype) or is_dataclass(v)
    return repr(v) if plain else type(v).__name__


def generators(given: Generators | None, device: torch.device) -> list[torch.Generator]:
    """The generators that a call draws from."""
    if given is None:
        return [default_generator(device)]
    return [given] if isinstance(given, torch.Generator) else list(given)
