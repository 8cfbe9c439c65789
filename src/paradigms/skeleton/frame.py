"""One round of skeleton sampling as it ended: a sample's rows are accepted all at once, so `begin` is 0 till then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from ..window.trace import FrameRecord
from .error import SampleError
from .nodes import NodeRows
from .surrogate import Surrogate


@dataclass(frozen=True)
class NodeRound:
    """A `Frame`: B samples, of which `who` (M) took part, N rows.

    starts, strides (B): 0 and 0 until a sample is done, then 0 and N, then N and 0. ends (B, d): the samples as they
    would be by now, in coordinates; like (1, ...): a state. errors (B): their estimates, inf while a node was not
    evaluated. surrogate, parts: of the M samples. evaluations: by the end of the round.
    """

    round: int
    window: int
    starts: list[int]
    strides: list[int]
    who: list[int]
    surrogate: Surrogate
    parts: list[SampleError]
    ends: Tensor
    like: Tensor
    evaluate: Evaluator
    errors: list[float]
    evaluations: int
    single: int = 0

    @cached_property
    def begin(self) -> Tensor:
        """0 (B,), N of samples that were done before."""
        return torch.tensor(self.starts)

    @cached_property
    def stride(self) -> Tensor:
        """N (B,) of samples that are done now, else 0."""
        return torch.tensor(self.strides)

    @cached_property
    def estimate(self) -> Tensor:
        """Of the relative errors (B,), where the states are."""
        return torch.tensor(self.errors, dtype=torch.float64, device=self.ends.device)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.surrogate.levels)

    @property
    def end(self) -> Tensor:
        """The rows (B,) after the last node."""
        return torch.full_like(self.begin, self.rows)

    @cached_property
    def last(self) -> Tensor:
        """The samples (B, ...) as they would be by now."""
        return self.surrogate.coordinates.inverse(self.ends, self.like)

    @cached_property
    def coordinates(self) -> Tensor:
        """The chain on the surrogate (N + 1, M, d), made when asked for."""
        every = NodeRows(self.rows, tuple(list(range(self.rows)) for _ in self.who))
        return self.surrogate.run((every, self.surrogate.intervals(every))).u[:, :, 0].transpose(0, 1)

    @cached_property
    def x(self) -> Tensor:
        """The states (N + 1, B, ...); of a sample that was done before this round, the sample in all rows."""
        s, who = self.surrogate.coordinates, self.who
        x = self.last.expand(len(self.coordinates), *self.last.shape).clone()
        x[:, who] = s.inverse(self.coordinates.flatten(0, 1), self.like).unflatten(0, (len(x), len(who)))
        return x

    @cached_property
    def D(self) -> Tensor:
        """What the surrogate says (N, B, ...) of them; 0 of a sample that was done before."""
        S, who, s = self.surrogate, self.who, self.surrogate.coordinates
        e = torch.zeros_like(self.coordinates[:-1])
        for j, h in zip((-1, 0, 1, 2), S.layout.weights.unbind(), strict=True):
            e += h[..., None].to(e) * self.surrogate.nearby(j)
        D = self.last.new_zeros(len(e), *self.last.shape)
        said = s.plus(e, S.J, self.coordinates[:-1])
        D[:, who] = s.inverse(said.flatten(0, 1), self.like).unflatten(0, (len(e), len(who)))
        return D

    @cached_property
    def size(self) -> Tensor:
        """How far each node is from settled (N, B), 1 being the limit; 0 of rows between them, inf of unknown nodes."""
        size = torch.zeros(self.rows, len(self.starts))
        for b, p in zip(self.who, self.parts, strict=True):
            size[sorted(p.nodes), b] = torch.inf
            size[p.known, b] = torch.tensor([max(mu / p.S, e / p.Q) for mu, e in zip(p.mu, p.each, strict=True)])
        return size

    @property
    def residual(self) -> Tensor:
        """How far a node's next state is from the step that the model gave (B,), in std, at most.

        Of rows between nodes it is not known; 0 of samples that were done before.
        """
        return torch.tensor(self.residuals)

    @property
    def residuals(self) -> list[float]:
        """The same, as plain numbers."""
        found = dict(zip(self.who, self.parts, strict=True))
        return [found[b].residual if b in found else 0.0 for b in range(len(self.starts))]

    @property
    def record(self) -> FrameRecord:
        """What is kept of it."""
        off = [r if k else 0.0 for r, k in zip(self.residuals, self.strides, strict=True)]
        return FrameRecord(self.starts, self.strides, off, self.rows, self.evaluations, self.window, 0, list(self.who))
