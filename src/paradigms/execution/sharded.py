"""A model that shares out the rows of a call over a team of ranks; every rank gets the answers to all rows.

    m = [model(x[part 0]) | model(x[part 1]) | ...]      part r evaluated by rank r, the rest received

Ranks must be given the same x, t and condition; `mesh.py` sees to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..distributed.exchange import SharedCall
from ..distributed.team import Team
from ..validate import in_words, named_arguments, refusal
from .chunked import Chunked, Model

# The dtypes that an answer may have: a rank sends the place in this list.
ANSWER_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Sharded(nn.Module):
    """The model of a team of ranks, see `sharded`."""

    def __init__(self, model: Model, team: Team) -> None:
        super().__init__()
        self.model, self.team = Chunked(model), team
        self.said: dict[torch.dtype, torch.dtype] = {}  # the dtype that answers have, by the states'
        self.first: Callable[[], None] | None = None  # once, before the next call: where it fails, this rank does

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the model says of x (M, ...)."""
        sent = self.said.get(x.dtype, torch.promote_types(x.dtype, torch.float32))  # unknown, so wide enough

        def ask(first: int, last: int) -> tuple[Sequence[Tensor], float]:
            if self.first is not None:
                before, self.first = self.first, None
                before()
            m = self.model(x[first:last], t[first:last], **{k: v[first:last] for k, v in condition.items()})
            if torch.promote_types(m.dtype, sent) != sent:
                raise ValueError(f"model: it answers in {m.dtype} and has answered in {sent}; needed: one dtype")
            return [m.to(sent)], float(ANSWER_DTYPES.index(m.dtype))

        def size(first: int, last: int) -> int:
            return (last - first) * x[0].numel() * sent.itemsize

        wide = x.detach().float()
        check = float(wide.sum() / wide.norm().clamp(min=1e-30))
        found, note = self.team.share(SharedCall(len(x), size, ask, x.device, check))
        self.first = None
        m = torch.cat([v.view(sent) for v in found]).reshape(x.shape).to(x.device)
        self.said[x.dtype] = ANSWER_DTYPES[int(note)]
        return m.to(self.said[x.dtype])


@named_arguments
def sharded(model: Model, mesh: Any) -> Sharded:
    """A model whose batches are divided among the ranks of a mesh.

    Args:
        model: As in `sample`.
        mesh: A process group, a DeviceMesh of one dimension, or one with a dimension called "time".

    Returns:
        A module to call on every rank with the same batch; every rank gets all answers.

    Raises:
        ValueError: It is no mesh.
        RankError: In a call, where a rank fails.
    """
    if not callable(model) or isinstance(model, type):
        raise refusal("model", in_words(model), "a callable x (M, ...), t (M,), **condition (M, ...) -> (M, ...)")
    return Sharded(model, Team(mesh))
