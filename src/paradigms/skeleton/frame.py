"""One round of skeleton sampling as it ended: a sample's rows are accepted all at once, so `begin` is 0 till then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..window.trace import FrameRecord
from .error import ErrorParts
from .nodes import KnownNodes
from .surrogate import Surrogate


@dataclass(frozen=True)
class NodeRound:
    """A `Frame`: B samples, of which `who` (M,) took part, N rows.

    begin, stride (B,): 0 and 0 until a sample is done, then 0 and N, then N and 0. ends (B, d): the samples as they
    would be by now, in coordinates; like (1, ...): a state. estimate (B,): of their relative errors, inf while a node
    was not evaluated. surrogate, parts: of the M samples. evaluations: by the end of the round.
    """

    round: int
    window: int
    begin: Tensor
    stride: Tensor
    who: Tensor
    surrogate: Surrogate
    parts: ErrorParts
    ends: Tensor
    like: Tensor
    evaluate: Evaluator
    estimate: Tensor
    evaluations: int
    single: int = 0

    @property
    def end(self) -> Tensor:
        """The rows (B,) after the last node."""
        return torch.full_like(self.begin, len(self.parts.node))

    @cached_property
    def last(self) -> Tensor:
        """The samples (B, ...) as they would be by now."""
        return self.surrogate.coordinates.inverse(self.ends, self.like)

    @cached_property
    def coordinates(self) -> Tensor:
        """The chain on the surrogate (N + 1, M, d), made when asked for."""
        every = KnownNodes.of(torch.ones_like(self.parts.node))
        return self.surrogate.run((every, self.surrogate.intervals(every))).u[:, :, 0].transpose(0, 1)

    @cached_property
    def x(self) -> Tensor:
        """The states (N + 1, B, ...); of a sample that was done before this round, the sample in all rows."""
        s, who = self.surrogate.coordinates, self.who.to(self.last.device)
        x = self.last.expand(len(self.coordinates), *self.last.shape).clone()
        x[:, who] = s.inverse(self.coordinates.flatten(0, 1), self.like).unflatten(0, (len(x), len(who)))
        return x

    @cached_property
    def D(self) -> Tensor:
        """What the surrogate says (N, B, ...) of them; 0 of a sample that was done before."""
        S, who, s = self.surrogate, self.who.to(self.last.device), self.surrogate.coordinates
        e = torch.zeros_like(self.coordinates[:-1])
        for j, h in zip((-1, 0, 1, 2), S.layout.weights.unbind(), strict=True):
            e += h[..., None].to(e) * S.at(S.known.base + j)
        D = self.last.new_zeros(len(e), *self.last.shape)
        said = s.plus(e, S.J, self.coordinates[:-1])
        D[:, who] = s.inverse(said.flatten(0, 1), self.like).unflatten(0, (len(e), len(who)))
        return D

    @cached_property
    def size(self) -> Tensor:
        """How far each node is from settled (N, B), 1 being the limit; 0 of rows between them, inf of unknown nodes."""
        p, size = self.parts, torch.zeros(len(self.parts.node), len(self.begin))
        each = (p.mu / p.S).maximum(p.each / p.Q)
        size[:, self.who] = torch.where(p.node & ~p.known, torch.inf, each).float()
        return size

    @property
    def residual(self) -> Tensor:
        """How far a node's next state is from the step that the model gave (B,), in std, at most.

        Of rows between nodes it is not known; 0 of samples that were done before.
        """
        return torch.zeros(len(self.begin)).index_copy(0, self.who, self.parts.residual.float())

    @property
    def record(self) -> FrameRecord:
        """What is kept of it."""
        N, taking = len(self.parts.node), self.who.tolist()
        each = self.begin.tolist(), self.stride.tolist(), torch.where(self.stride > 0, self.residual, 0).tolist()
        return FrameRecord(*each, N, self.evaluations, self.window, 0, taking)
