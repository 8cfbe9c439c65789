"""Three parts of the error of a sample, each as it can be known, and what is done about it.

    secant         mu[m]   = MARGIN caution[m] eps[m] A[m] |w[m] (x - x_seen)[m] / alpha[m]|_G      at every known node
    interpolation  quad    = max(|sum_m L[m] A[m] G|, sqrt(sum_m (A[m] |L[m]|_G)^2)),   L[m] = rho w[m] apart[m]
    growth         A[m]    in both, see `jacobian.py`

    |v|_G^2 = sum_f G[m+1,f]^2 |v_f|^2 / |D[N-1]|^2        what v at row m + 1 becomes in the sample, of its size
    w[m]      what D[m] counts for: in its own row and in the rows around it that take e from it

Nothing is accepted for good before everything is: growth that is found ahead makes early rows due again.

    done      all nodes known,  sum mu <= S,  quad <= Q           S + Q = tolerance; S alone where all rows are nodes
    due       all but the smallest mu whose sum is <= SKIP S
    hot       likewise of SKIP max(S, ETA sum mu), where A > FORK: asked first where more are due than a round holds
    split     |A L|_G > Q sqrt(dp), mu' < MARGIN (|A L|_G + S dp) and sum of mu' up to there < |A L|_G + S,
              while quad > ENOUGH Q

mu': without caution, which need not hold up splits. dp: the part of the tolerance, by `stop.share`, up to the next
node.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .layout import NodeLayout
from .levels import LevelScalars
from .nodes import split

# Of the second and third prototype: tuned on mixture-64, mixture-1024, digits and scenes, seeds below 1000.
MARGIN, SKIP = 1.5, 0.5
# What interpolation leaves of how far a node is from its neighbours' say, which lie twice as far from it as rows do
# from theirs: of an ODE, and with noise. From true states of mixture-64, mixture-1024, two Gaussians and digits, seeds
# 4300 to 4302, DDIM-200, DDPM-1000 and -250, 24 to 300 nodes: 0.5 foretold 1.9 to 85 times what was left of an ODE, and
# 2.6 to 36 times with noise. Of flow-40 with 24 nodes it was a tenth: short chains begin with all rows, see START.
# With 0.15 for an ODE 2 of 12 samples of digits at 0.3 % and 7 of 200 of flow-40 at 1 % were up to 1.5 times beyond it,
# where nodes were a third and half of the rows.
RHO, RISE = 0.25, 0.6
HALF, GIVE = 0.5, 0.7  # of the tolerance: Q and S each; S where all rows are nodes
ETA, FORK = 0.02, 3.0
ENOUGH = 0.7  # of Q: what nodes are added for; each moves the chain a little, which costs evaluations


@dataclass(frozen=True)
class ErrorParts:
    """What a round measured.

    mu and each (N, B): a node's secant part and its interpolation part; 0 where a row is not known. plain (V, B): mu
    without caution, of the known nodes in order. quad (B,), A (N, B), known and node masks (N, B), dense (B,): all rows
    are nodes; residual (B,): how far a node's next state is from the step that the model gave, in std.
    """

    mu: Tensor
    plain: Tensor
    each: Tensor
    quad: Tensor
    A: Tensor
    known: Tensor
    node: Tensor
    dense: Tensor
    residual: Tensor
    tolerance: float

    @cached_property
    def secant(self) -> Tensor:
        """The secant part (B,)."""
        return self.mu.sum(0)

    @cached_property
    def S(self) -> Tensor:
        """What the secant part may be (B,)."""
        return torch.where(self.dense, GIVE, 1 - HALF).double() * self.tolerance

    @cached_property
    def Q(self) -> Tensor:
        """What the interpolation part may be (B,): anything where nothing is interpolated."""
        return torch.where(self.dense, torch.inf, HALF * self.tolerance).double()

    @cached_property
    def whole(self) -> Tensor:
        """Whether all nodes are known (B,)."""
        return (self.known | ~self.node).all(0)

    @property
    def estimate(self) -> Tensor:
        """The error (B,), inf while a node was not evaluated."""
        return torch.where(self.whole, self.secant + torch.where(self.dense, 0.0, self.quad), torch.inf)

    @property
    def within(self) -> Tensor:
        """Whether both parts keep to their shares (B,)."""
        return self.whole & (self.secant <= self.S) & (self.quad <= self.Q)

    @cached_property
    def least(self) -> Tensor:
        """The sum (N, B) of the smallest mu up to a row's."""
        mu, rows = self.mu.sort(0)
        return torch.empty_like(mu).scatter_(0, rows, mu.cumsum(0))

    @cached_property
    def due(self) -> Tensor:
        """The nodes (N, B) that must be evaluated again: all but the smallest mu whose sum is within SKIP S."""
        return self.least > SKIP * self.S

    @property
    def hot(self) -> Tensor:
        """Those (N, B) that come first."""
        forked = self.A.amax(0) > FORK
        if not bool(forked.any()):
            return self.due
        return self.least > SKIP * self.S.maximum(torch.where(forked, ETA, 0.0) * self.secant)


def interpolation_share(levels: LevelScalars, count: Tensor) -> Tensor:
    """rho (B,) of samples with `count` (B,) known nodes: RHO, of an ODE and more, the fewer rows lie between them."""
    return RHO + (RISE if levels.ode else 0.0) * (count / len(levels)).double().square()


def new_nodes(layout: NodeLayout, parts: ErrorParts, window: int) -> Tensor:
    """The rows (N, B) that become nodes: in intervals whose ends are badly foretold, as many as there is room for."""
    p, share, N, erring = parts, layout.levels.share, len(layout.levels), parts.quad > ENOUGH * parts.Q
    if not bool(erring.any()):
        return torch.zeros_like(p.node)
    Q, S, mu, each = p.Q, p.S, p.plain, p.each.gather(0, layout.at)
    after = torch.nn.functional.pad(layout.known.rows[1:], (0, 0, 0, 1), value=N)
    dp = (share[after] - share[layout.at]).clamp_(min=1e-9)
    wide, limit = Q * dp.sqrt(), each + S * dp
    bad = (each > wide) & (mu < MARGIN * limit) & (mu.cumsum(0) < each + S) & erring
    load = (p.node & (~p.known | p.due)).sum(0)
    of = (p.quad / Q).square()
    of = of / (of + (p.secant / S).square()).clamp(min=1e-30)
    room = (window - load).clamp(min=window // 4).maximum((window * of).long()).clamp(min=2)
    bad &= bad.cumsum(0) * 2 <= room
    stuck = p.whole & (p.secant <= S) & (p.quad > Q) & ~bad.any(0)
    bad |= stuck & (each > 0) & (each >= 0.5 * each.amax(0))
    return split(layout, p.node, bad, each / wide) if bool(bad.any()) else torch.zeros_like(p.node)
