"""A pipeline's call on a mesh: every rank makes it, with the first rank's tensors and at the first rank's generators.

    args, kwargs, torch's own generators  <-  the first rank's,    sent once, before anything is drawn

What is no tensor (prompts, numbers) must be the same on all ranks already; of pictures and other objects only the kind
is compared. Generators given are set in place, so that they end alike on all ranks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...distributed.team import Team
from ...execution.mesh import describe_arguments


def first_ranks_arguments(team: Team, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments of a call as the first rank has them; raises ValueError where ranks were given different ones."""
    given = {f"argument {k}": v for k, v in enumerate(args)} | kwargs
    leaves, spec = tree_flatten((args, kwargs))
    own = [torch.default_generator]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        own.append(torch.cuda.default_generators[torch.cuda.current_device()])
    draws = [v for v in leaves if isinstance(v, torch.Generator)] + own
    tensors = [*(v for v in leaves if isinstance(v, Tensor)), *(g.get_state() for g in draws)]
    what = {"pipeline": type(pipe).__name__} | {k: describe_arguments(v) for k, v in given.items()}
    first = iter(team.begin(lambda: (what, tensors)))
    leaves = [next(first) if isinstance(v, Tensor) else v for v in leaves]
    for g, state in zip(draws, first, strict=True):
        g.set_state(state)
    made: tuple[Any, Any] = tree_unflatten(leaves, spec)
    return made
