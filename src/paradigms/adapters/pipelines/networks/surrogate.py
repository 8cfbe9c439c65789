"""Predicts a network's answer before it is evaluated: equation (2) in what the network predicts:

    S[n](y) = m[n] + (J[n] d - P[n] d) / Q[n],    d = y - x[n]      where the network was asked at x[n] and said m[n]
    S[n](y) = (D - P[n] y) / Q[n]                                   where it was not: D of the row before, held fixed

At y = x[n], everything else that it was told being equal too, the answer is m[n] itself, bit for bit. A network may be
shown more than the state (masks, an image) and say more (a variance): J is of what both have in common, from the first
element of each axis on; the rest of an answer is held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ....execution.torch_modes import isolated_from_torch_modes
from ....methods.base import AbstractMethod
from ...schedulers.linearized import LinearizedScheduler
from .jacobian import AssumedJacobian, jacobian_of
from .network_call import NetworkCall, RowArguments, is_sample


@dataclass
class KnownAnswer:
    """A call, and what the network said to it: its leaves; `main` is the leaf that answers the sample."""

    call: NetworkCall
    leaves: list[Any]
    spec: Any
    main: int
    x: Tensor | None = None  # (B, ...) float32, what sample and answer have in common
    m: Tensor | None = None

    def answer(self, m: Tensor | None = None) -> Any:
        """What was said, with m in the place of the main leaf."""
        leaves = [v.clone() if isinstance(v, Tensor) else v for v in self.leaves]
        if m is not None:
            where = tuple(slice(0, s) for s in m.shape)
            leaves[self.main][where] = m.to(leaves[self.main].dtype)
        return tree_unflatten(leaves, self.spec)


def known_answer(call: NetworkCall, said: Any) -> KnownAnswer:
    """A call with what was said to it."""
    leaves, spec = tree_flatten(said)
    main = next((i for i, v in enumerate(leaves) if is_sample(v)), -1)
    found = KnownAnswer(call, leaves, spec, main)
    if main >= 0 and call.x is not None and call.x.ndim == leaves[main].ndim and len(call.x) == len(leaves[main]):
        size = [min(s) for s in zip(call.x.shape, leaves[main].shape, strict=True)]
        where = tuple(slice(0, s) for s in size)
        found.x, found.m = call.x[where].float(), leaves[main][where].float()
    return found


class Surrogate:
    """Answers for one call of each row, by what the network said to it and to its neighbours."""

    def __init__(self, method: AbstractMethod, course: LinearizedScheduler) -> None:
        self.method, self.course = method, course
        self.rows: dict[int, KnownAnswer] = {}
        self.beliefs: dict[torch.Size, AssumedJacobian] = {}  # by shape, for guidance may end on the way
        self.last: tuple[KnownAnswer, Tensor | None] | None = None  # the row before, and D of its answer

    @isolated_from_torch_modes
    def answer(self, n: int, call: NetworkCall) -> tuple[Any, bool]:
        """What it says, and whether that is the network's own answer. Raises LookupError where nothing is known."""
        row = self.rows.get(n)
        if row is not None and row.call.equals(call):
            self.last = row, self.denoised(n, row.x, row.m)
            return row.answer(), True
        if row is not None and row.call.alike(call):
            y = common_part(call, row)
            m = row.m
            if y is not None and row.x is not None and row.m is not None and y.shape in self.beliefs:
                d = y - row.x
                m = row.m + (self.shift(n, d) - self.P(n) * d) / self.Q(n)
            self.last = row, self.denoised(n, y, m)
            return row.answer(m), False
        return self.guess(n, call), False

    def guess(self, n: int, call: NetworkCall) -> Any:
        """The answer to a row that the network has not seen."""
        if self.last is None or not same_state_shape(self.last[0].call, call):
            raise LookupError(n)
        row, D = self.last
        y = common_part(call, row)
        if D is None or y is None:
            return row.answer()
        return row.answer((D - self.P(n) * y) / self.Q(n))

    @isolated_from_torch_modes
    def heard(self, said: dict[int, KnownAnswer]) -> None:
        """New answers of the network, by row."""
        before = {n: self.rows[n] for n in said if n in self.rows and self.rows[n].call.alike(said[n].call)}
        self.rows |= said
        for x in {k.x.shape: k.x for k in said.values() if k.x is not None}.values():
            if x.shape not in self.beliefs:
                self.beliefs[x.shape] = jacobian_of(self.method, self.course.system.to(x.device, torch.float32), x)
            again = [(n, k, said[n]) for n, k in before.items() if k.x is not None and k.x.shape == x.shape]
            if again:
                n = torch.tensor([n for n, _, _ in again], device=x.device)
                dX = torch.stack([new.x - old.x for _, old, new in again])  # type: ignore[operator]
                dD = torch.stack([self.P(n) * (new.x - old.x) + self.Q(n) * (new.m - old.m) for n, old, new in again])  # type: ignore[operator]
                self.beliefs[x.shape].learn(n, dX, dD)

    def shift(self, n: int, d: Tensor) -> Tensor:
        """J[n] d, what D is believed to move by where the state (G B, ...) moves by d; 0 where nothing is."""
        return self.beliefs[d.shape].times(n, d) if d.shape in self.beliefs else torch.zeros_like(d)

    def forget(self, begin: int) -> None:
        """Drops the rows before `begin`."""
        for n in [n for n in self.rows if n < begin - 1]:
            del self.rows[n]

    def pause(self) -> None:
        """Drops all rows, for others follow that it is not told of; what it believes of the network stays."""
        self.rows, self.last = {}, None

    def denoised(self, n: int, y: Tensor | None, m: Tensor | None) -> Tensor | None:
        """D of an answer m to y."""
        return None if y is None or m is None else self.P(n) * y + self.Q(n) * m

    def P(self, n: int) -> float:
        """P[n]."""
        return float(self.course.P[n])

    def Q(self, n: int) -> float:
        """Q[n]."""
        return float(self.course.Q[n])


def common_part(call: NetworkCall, row: KnownAnswer) -> Tensor | None:
    """The part of what is shown that an answer like the row's has in common with it, float32."""
    if row.x is None or call.x is None:
        return None
    return call.x[tuple(slice(0, s) for s in row.x.shape)].float()


def same_state_shape(a: NetworkCall, b: NetworkCall) -> bool:
    """Whether two calls show states of one shape, so that the answer to one has the shape of the other's."""
    return a.x is not None and b.x is not None and a.x.shape == b.x.shape


def copy_answer(answer: Any) -> Any:
    """An answer as the network gives it, in tensors of its own, which a pipeline may change."""
    leaves, spec = tree_flatten(answer)
    own = tree_unflatten([v.clone() if isinstance(v, Tensor) else v for v in leaves], spec)
    return tree_map(lambda v: list(v.tensor.unbind(0)) if is_packed_list(v) else v, own, is_leaf=is_packed_list)


def is_packed_list(v: Any) -> bool:
    """Whether a part of an answer is a list held as one tensor."""
    return isinstance(v, RowArguments)
