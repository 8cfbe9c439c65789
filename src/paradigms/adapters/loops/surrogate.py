"""The surrogate of one call of the model within a user's step: what is answered before the model is evaluated:

    S(y) = m + (J d - P d) / Q,    d = y - x       where it was shown x and said m
    S(y) = (D - P y) / Q                           where it was not: D of the last answer before
    D    = P x + Q m                               the denoised estimate, as the system reads answers

At y = x, everything else that it was told being equal too, the answer is m itself, bit for bit. An answer may be longer
than what was shown (a gradient beside the estimate): J is of what both have in common, from the first element of each
axis on; the rest is held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...methods.base import AbstractMethod
from ...system import System
from ...validate import in_words, refusal
from ..pipelines.networks.jacobian import AssumedJacobian, jacobian_of


@dataclass(frozen=True)
class Call:
    """One call of a model: x (M, ...), t (M,), and tensors (M, ...) by name."""

    x: Tensor
    t: Tensor
    condition: dict[str, Tensor]

    @classmethod
    def of(cls, x: Any, t: Any, condition: dict[str, Any]) -> Call:
        """A call as a step makes it, with copies of its own; raises ValueError for what is none."""
        if not isinstance(x, Tensor) or x.ndim < 2 or not x.is_floating_point():
            raise refusal("step", f"the model was called with x = {in_words(x)}", "a floating tensor (batch, ...)")
        told = torch.as_tensor(t, device=x.device) if not isinstance(t, float) else x.new_tensor(t)
        if told.ndim > 1 or (told.ndim == 1 and len(told) not in (1, len(x))):
            raise refusal("step", f"the model was told t = {in_words(t)}", f"a number, or a tensor ({len(x)},)")
        for name, v in condition.items():
            if not isinstance(v, Tensor) or v.ndim < 1 or len(v) != len(x):
                needed = f"a tensor with {len(x)} rows; what is the same for all belongs into the model"
                raise refusal(f"step: {name} of the model's call", in_words(v), needed)
        own = {name: v.detach().clone() for name, v in condition.items()}
        return cls(x.detach().clone(), told.expand(len(x)).clone(), own)

    @property
    def form(self) -> tuple[Any, ...]:
        """Calls of one form can be parts of one batch."""
        tensors = [self.x, self.t, *self.condition.values()]
        return tuple(self.condition), tuple((v.shape[1:], v.dtype, v.device) for v in tensors)

    def alike(self, other: Call) -> bool:
        """Whether one may be the other moved."""
        return self.form == other.form and len(self.x) == len(other.x)

    def equals(self, other: Call) -> bool:
        """Whether the model is told the same, bit for bit."""
        return self.alike(other) and all(map(torch.equal, self.tensors, other.tensors))

    @property
    def tensors(self) -> list[Tensor]:
        """All that the model is told."""
        return [self.x, self.t, *self.condition.values()]


class CallSurrogate:
    """Answers to one of the calls that each step makes, by what the model said to it and to its neighbours."""

    def __init__(self, method: AbstractMethod, system: System) -> None:
        self.method, self.system = method, system
        self.rows: dict[int, tuple[Call, Tensor]] = {}
        self.jacobians: dict[torch.Size, AssumedJacobian] = {}
        self.last: tuple[Call, Tensor] | None = None  # the last row's that was asked for

    def answer(self, n: int, call: Call, D: Tensor | None) -> tuple[Tensor, bool] | None:
        """m (M, ...) and whether it is the model's own; None where nothing is known. D: of the last answer before."""
        known = self.rows.get(n)
        if known is None or not known[0].alike(call):
            guess = self.guess(n, call, D)
            return None if guess is None else (guess, False)
        asked, m = known
        if asked.equals(call):
            return m.clone(), True
        y, x = common(call.x, m), common(asked.x, m)
        if y is None or x is None or y.shape not in self.jacobians:
            return m.clone(), False
        d, m = y - x, m.clone()
        within(m, y.shape).add_((self.times(n, d) - self.P(n) * d) / self.Q(n))
        return m, False

    def guess(self, n: int, call: Call, D: Tensor | None) -> Tensor | None:
        """The answer to a row that the model was not asked for: the last one, and D in the part that is of x."""
        if self.last is None or not self.last[0].alike(call):
            return None
        m = self.last[1].clone()
        y = common(call.x, m)
        if y is not None and D is not None and y.shape == D.shape:
            within(m, y.shape).copy_((D - self.P(n) * y) / self.Q(n))
        return m

    def heard(self, said: dict[int, tuple[Call, Tensor]]) -> None:
        """New answers of the model, by row."""
        again = {n: self.rows[n] for n in said if n in self.rows and self.rows[n][0].alike(said[n][0])}
        self.rows |= said
        self.last = said[max(said)] if said else self.last
        moved: dict[torch.Size, list[tuple[int, Tensor, Tensor]]] = {}
        for n, (call, m) in said.items():
            if (x := common(call.x, m)) is None:
                continue
            if x.shape not in self.jacobians:
                self.jacobians[x.shape] = jacobian_of(self.method, self.system, x)
            if n in again:
                was, said_then = again[n]
                dx, dm = x - within(was.x, x.shape), within(m, x.shape) - within(said_then, x.shape)
                moved.setdefault(x.shape, []).append((n, dx / self.into(n), self.P(n) * dx + self.Q(n) * dm))
        for shape, of in moved.items():
            rows = torch.tensor([n for n, _, _ in of], device=of[0][1].device)
            self.jacobians[shape].learn(rows, torch.stack([dX for _, dX, _ in of]), torch.stack([dD for *_, dD in of]))

    def times(self, n: int, d: Tensor) -> Tensor:
        """J[n] d, what D moves by where what is shown moves by d (M, ...)."""
        return self.jacobians[d.shape].times(n, d / self.into(n))

    def denoised(self, n: int, call: Call, m: Tensor) -> Tensor | None:
        """D (M, ...) of an answer."""
        x = common(call.x, m)
        return None if x is None else self.P(n) * x + self.Q(n) * within(m, x.shape)

    def forget(self, begin: int) -> None:
        """Drops the rows before `begin`."""
        for n in [n for n in self.rows if n < begin]:
            del self.rows[n]

    def P(self, n: int) -> float:
        """P[n]."""
        return float(self.system.denoiser.p[n])

    def Q(self, n: int) -> float:
        """Q[n]."""
        return float(self.system.denoiser.q[n])

    def into(self, n: int) -> float:
        """What the state is multiplied by before the model is shown it."""
        return float(self.system.denoiser.into[n])


def common(x: Tensor, m: Tensor | None) -> Tensor | None:
    """The part of x (M, ...) that an answer has, too; None where they have nothing in common."""
    if m is None or x.ndim != m.ndim or len(x) != len(m):
        return None
    return within(x, torch.Size(map(min, x.shape, m.shape)))


def within(v: Tensor, shape: torch.Size) -> Tensor:
    """The first part of v that has so many elements along each axis."""
    return v[tuple(slice(0, s) for s in shape)]
