"""A model made from a model: the rows of a call shared out over a team of ranks, on every rank the answers to all.

    m = [model(x[part 0]) | model(x[part 1]) | ...]      part r evaluated by rank r, the rest received

Ranks must be given the same x, t and condition. `over_mesh` sees to it: what a call begins with, its starting noise,
the noise generators and conditions, is the first rank's, sent once.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from .check import check_problem
from .chunks import Chunked, Model
from .noise import Generators, default_generator
from .roll import RankError
from .system import System
from .team import Agreed, Team

PROBLEM = ("generator", "noise", "condition")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
F = TypeVar("F", bound=Callable[..., Any])


class Sharded(nn.Module):
    """The model of a team of ranks, see `sharded`. agreed: what all ranks know of the last call's times."""

    def __init__(self, model: Model, team: Team) -> None:
        super().__init__()
        self.model, self.team, self.agreed = Chunked(model), team, Agreed()
        self.said: dict[torch.dtype, torch.dtype] = {}  # the dtype that answers have, by the states'

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the model says of x (M, ...)."""
        sent = self.said.get(x.dtype, torch.promote_types(x.dtype, torch.float32))  # unknown, so wide enough

        def ask(first: int, last: int) -> tuple[Sequence[Tensor], float]:
            m = self.model(x[first:last], t[first:last], **{k: v[first:last] for k, v in condition.items()})
            if torch.promote_types(m.dtype, sent) != sent:
                raise ValueError(f"model: it answers in {m.dtype} and has answered in {sent}; needed: one dtype")
            return [m.to(sent)], float(DTYPES.index(m.dtype))

        def size(first: int, last: int) -> int:
            return (last - first) * x[0].numel() * sent.itemsize

        wide = x.detach().float()
        check = float(wide.sum() / wide.norm().clamp(min=1e-30))
        found, self.agreed = self.team.share(len(x), size, ask, x.device, check)
        m = torch.cat([v.view(sent) for v in found]).reshape(x.shape).to(x.device)
        self.said[x.dtype] = DTYPES[int(self.agreed.note)]
        return m.to(self.said[x.dtype])


def sharded(model: Model, mesh: Any) -> Sharded:
    """The model whose rows are shared out over the ranks of a mesh; call it on every rank, with the same rows.

    mesh: a DeviceMesh of one dimension or with one called "time", or a process group. Pass it to `sample`, or pass
    `mesh=` there, which also sees to it that all ranks begin with the same numbers. Raises ValueError for no mesh.
    """
    return Sharded(model, Team(mesh))


def over_mesh(solve: F) -> F:
    """A solver that with `mesh=` is run by every rank of it: one problem, the first rank's numbers, rows shared out.

    Raises ValueError where ranks were given different problems, RankError where one fails, see `Team`.
    """
    names = inspect.signature(solve)

    @functools.wraps(solve)
    def solved(*args: Any, **kwargs: Any) -> Any:
        given = names.bind(*args, **kwargs)
        mesh, a = given.arguments.pop("mesh", None), given.arguments
        if mesh is None:
            return solve(*args, **kwargs)
        team = Team(mesh)
        refused(team, lambda: check_problem(a["system"], a["x"], 1, *(a.get(k) for k in PROBLEM)))  # type: ignore[arg-type]
        team.agree({k: described(v) for k, v in a.items() if k not in ("model", "watch")})
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


def refused(team: Team, check: Callable[[], None]) -> None:
    """Runs a check of what was given on every rank; raises its ValueError, or RankError where it is another rank's."""
    try:
        team.together(check)
    except RankError as error:
        raise error.__cause__ if isinstance(error.__cause__, ValueError) else error from None


def described(v: Any) -> str:
    """What an argument is, as far as it must be the same on all ranks."""
    if isinstance(v, Tensor):
        return f"{tuple(v.shape)} {v.dtype}"
    if isinstance(v, System):
        table = str([c.tolist() for c in (v.t, v.a, v.b, v.c, v.std)])
        return f"a table of {len(v)} rows, {hashlib.sha256(table.encode()).hexdigest()[:8]}"
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
