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

from .levels import LevelScalars
from .nodes import KnownNodes, split

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
    """What a round measured, by node: mu (N, B), plain (N, B) without caution, each (N, B) its interpolation part.

    All are 0 where a row is not known.
    quad (B,), A (N, B), known and node masks (N, B), dense (B,): all rows are nodes; residual (B,):
    how far a node's next state is from the step that the model gave, in std.
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

    def beyond(self, limit: Tensor) -> Tensor:
        """All nodes (N, B) but the smallest mu whose sum is at most a limit (B,)."""
        order = self.mu.sort(0)
        late = order.values.cumsum(0) > limit
        return torch.zeros_like(late).scatter(0, order.indices, late)

    @property
    def due(self) -> Tensor:
        """The nodes (N, B) that must be evaluated again."""
        return self.beyond(SKIP * self.S)

    @property
    def hot(self) -> Tensor:
        """Those (N, B) that come first."""
        floor = torch.where(self.A.amax(0) > FORK, ETA, 0.0) * self.secant
        return self.beyond(SKIP * self.S.maximum(floor))


def interpolation_share(levels: LevelScalars, count: Tensor) -> Tensor:
    """rho (B,) of samples with `count` (B,) known nodes: RHO, of an ODE and more, the fewer rows lie between them."""
    return RHO + (RISE if levels.ode else 0.0) * (count / len(levels)).double().square()


def node_shares(levels: LevelScalars, node: Tensor) -> Tensor:
    """dp (N, B): the part of the tolerance that lies between a node and the next."""
    N, B = node.shape
    end = torch.where(node, torch.arange(N)[:, None], N).flip(0).cummin(0).values.flip(0)
    end = torch.cat([end[1:], end.new_full((1, B), N)])
    return torch.where(node, levels.share[end] - levels.share[:N, None], 0).clamp(min=1e-9)


def new_nodes(levels: LevelScalars, known: KnownNodes, parts: ErrorParts, window: int) -> Tensor:
    """The rows (N, B) that become nodes: in intervals whose ends are badly foretold, as many as there is room for."""
    p, dp = parts, node_shares(levels, parts.node)
    Q, S, each, mu = p.Q, p.S, p.each, p.plain
    wide = Q * dp.sqrt()
    bad = (each > wide) & (mu < MARGIN * (each + S * dp)) & (mu.cumsum(0) < each + S)
    bad &= p.quad > ENOUGH * Q
    load = (p.node & (~p.known | p.due)).sum(0)
    of = (p.quad / Q).square()
    of = of / (of + (p.secant / S).square()).clamp(min=1e-30)
    room = (window - load).clamp(min=window // 4).maximum((window * of).long()).clamp(min=2)
    bad &= (2 * bad).cumsum(0) <= room
    stuck = p.whole & (p.secant <= S) & (p.quad > Q) & ~bad.any(0)
    bad |= stuck & (each > 0) & (each >= 0.5 * each.amax(0))
    return split(levels, known, p.node, bad, each / wide)
