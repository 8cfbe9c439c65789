"""A pipeline's network calls on the ranks of a team: each rank runs its share and receives the other answers.

    [answer of a call | answer of a call | ..]      as bytes, a rank's behind each other, in one all-gather

How long an answer is depends on its network and what that is told, so a call of a new kind is run by every rank.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ....distributed.exchange import SharedCall
from ....distributed.packing import tensor_bytes, unpack_tensors
from ....distributed.team import Team
from .network_call import NetworkCall

Forms = dict[Any, tuple[list[Any], Any]]  # an answer of each kind of call, its leaves and their tree


def evaluate_on_team(
    calls: list[NetworkCall], team: Team, forms: Forms, here: Callable[[list[NetworkCall]], tuple[list[Any], bool]]
) -> tuple[list[Any], bool]:
    """The answers to calls, of which `here` runs this rank's, and whether any rank's drew at random.

    forms: remembers one answer of each kind.
    """
    began, said, drew = time.perf_counter(), dict[int, Any](), False
    for k, call in enumerate(calls):
        if call_kind(call) not in forms:
            (said[k],), by_chance = here([call])
            drew |= by_chance
            forms[call_kind(call)] = tree_flatten(said[k])
    known = [forms[call_kind(call)] for call in calls]

    def size(first: int, last: int) -> int:
        return sum(tensor_bytes(v) for leaves, _ in known[first:last] for v in tensor_leaves(leaves))

    def ask(first: int, last: int) -> tuple[list[Tensor], float]:
        todo = [k for k in range(first, last) if k not in said]
        answers, by_chance = here([calls[k] for k in todo]) if todo else ([], False)
        said.update(zip(todo, answers, strict=True))
        found = [tree_flatten(said[k])[0] for k in range(first, last)]
        for leaves, (form, _) in zip(found, known[first:last], strict=True):
            if not same_shapes(leaves, form):
                raise ValueError("a network's answer has not the shapes of its others")
        return [v for leaves in found for v in tensor_leaves(leaves)], float(drew or by_chance)

    every = [v for leaves, _ in known for v in tensor_leaves(leaves)]
    device = every[0].device if every else torch.device("cpu")
    found, note = team.share(SharedCall(len(calls), size, ask, device, began=began))
    heard = iter(unpack_tensors(torch.cat(found), every))
    out = [
        tree_unflatten([next(heard) if isinstance(v, Tensor) else v for v in leaves], spec) for leaves, spec in known
    ]
    return out, note > 0


def call_kind(call: NetworkCall) -> Any:
    """What decides the form of an answer to a call: its network, and what it is told but for numbers."""
    leaves = call.leaves
    switches = tuple(v for v in leaves if v is None or isinstance(v, bool | str))
    return id(call.network), str(call.spec), tuple(getattr(v, "shape", None) for v in leaves), switches


def tensor_leaves(leaves: list[Any]) -> list[Tensor]:
    """Those of an answer's leaves that are sent."""
    return [v for v in leaves if isinstance(v, Tensor)]


def same_shapes(leaves: list[Any], form: list[Any]) -> bool:
    """Whether an answer's tensors have the shapes and dtypes of another's."""
    a, b = tensor_leaves(leaves), tensor_leaves(form)
    return len(a) == len(b) and all(v.shape == w.shape and v.dtype == w.dtype for v, w in zip(a, b, strict=True))
