"""Three parts of the error of a sample, each as it can be known, and what is done about it.

    secant         mu[m]   = MARGIN caution[m] eps[m] A[m] |w[m] (x - x_seen)[m] / alpha[m]|_G      at every known node
    interpolation  quad    = max(|sum_m L[m] A[m] G|, sqrt(sum_m (A[m] |L[m]|_G)^2)),   L[m] = rho w[m] apart[m]
    growth         A[m]    in both, see `jacobian.py`

    |v|_G^2 = sum_f G[m+1,f]^2 |v_f|^2 / |D[N-1]|^2        what v at row m + 1 becomes in the sample, of its size
    w[m]      what D[m] counts for: in its own row and in the rows around it that take e from it

Nothing is accepted for good before everything is: growth that is found ahead makes early rows due again.

    done      all nodes known,  sum mu <= S,  quad <= Q           S + Q = tolerance; S alone where all rows are nodes
    due       all but the smallest mu whose sum is <= SKIP S
    hot       likewise of SKIP max(S, ETA sum mu), where A > LARGE_GROWTH: first where more are due than a round holds
    split     |A L|_G > Q sqrt(dp), mu' < MARGIN (|A L|_G + S dp) and sum of mu' up to there < |A L|_G + S,
              while quad > ENOUGH Q

mu': without caution, which need not hold up splits. dp: the part of the tolerance, by `stop.share`, up to the next
node.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import inf, sqrt

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
# Without it scenes/DDIM-200/w32 takes 42 rounds for 20.5 and mixture-1024/DDIM-200/w8 20.2 for 16.7, 1 %, seed 700.
ETA, LARGE_GROWTH = 0.02, 3.0
ENOUGH = 0.7  # of Q: what nodes are added for; each moves the chain a little, which costs evaluations


@dataclass(frozen=True)
class SampleError:
    """What a round measured of a sample, in plain numbers.

    known: its evaluated rows, V of them, in order, and for each mu, mu without caution (plain), the interpolation part
    (each) and the growth A. nodes: all its nodes; dense: they are all rows. most: the largest growth of any row.
    residual: how far a node's next state is from the step that the model gave, in std.
    """

    known: list[int]
    nodes: set[int]
    mu: list[float]
    plain: list[float]
    each: list[float]
    quad: float
    most: float
    dense: bool
    residual: float
    tolerance: float

    @cached_property
    def secant(self) -> float:
        """The secant part."""
        return sum(self.mu)

    @property
    def S(self) -> float:
        """What the secant part may be."""
        return (GIVE if self.dense else 1 - HALF) * self.tolerance

    @property
    def Q(self) -> float:
        """What the interpolation part may be: anything where nothing is interpolated."""
        return inf if self.dense else HALF * self.tolerance

    @property
    def whole(self) -> bool:
        """Whether all nodes are known."""
        return len(self.known) == len(self.nodes)

    @property
    def estimate(self) -> float:
        """The error, inf while a node was not evaluated."""
        return self.secant + (0.0 if self.dense else self.quad) if self.whole else inf

    @property
    def within(self) -> bool:
        """Whether both parts keep to their shares."""
        return self.whole and self.secant <= self.S and self.quad <= self.Q

    @cached_property
    def least(self) -> list[float]:
        """The sum of the smallest mu up to a node's, of each known node."""
        order = sorted(range(len(self.mu)), key=self.mu.__getitem__)
        found = [0.0] * len(order)
        for v, total in zip(order, accumulate(self.mu[v] for v in order), strict=True):
            found[v] = total
        return found

    def due(self, most: float) -> list[int]:
        """The known rows that must be evaluated again: all but the smallest mu whose sum is within SKIP `most`."""
        return [n for n, total in zip(self.known, self.least, strict=True) if not total <= SKIP * most]

    def line(self, nodes: set[int]) -> list[int]:
        """The rows to evaluate next, with nodes by now, those that come first before the others."""
        new = nodes.difference(self.known)
        due = self.due(self.S)
        hot = due if self.most <= LARGE_GROWTH else self.due(max(self.S, ETA * self.secant))
        first = sorted(new.union(hot))
        return first + sorted(set(due).difference(hot))

    @property
    def moved_most(self) -> list[int]:
        """The known rows with the largest mu."""
        return [n for n, mu in zip(self.known, self.mu, strict=True) if mu == max(self.mu)]


def interpolation_share(levels: LevelScalars, count: int) -> float:
    """rho of a sample with `count` known nodes: RHO, of an ODE and more, the fewer rows lie between them."""
    return RHO + (RISE if levels.ode else 0.0) * (count / len(levels)) ** 2


def new_nodes(levels: LevelScalars, p: SampleError, window: int) -> set[int]:
    """The rows that become nodes: in intervals whose ends are badly foretold, as many as there is room for."""
    if not p.quad > ENOUGH * p.Q:
        return set()
    share, known, S, Q = levels.row.share, p.known, p.S, p.Q
    parts = [max(share[hi] - share[lo], 1e-9) for lo, hi in zip(known, [*known[1:], len(levels)], strict=True)]
    wide, limit = [Q * sqrt(dp) for dp in parts], [e + S * dp for e, dp in zip(p.each, parts, strict=True)]
    of = zip(p.each, wide, p.plain, limit, accumulate(p.plain), strict=True)
    bad = [e > w and mu < MARGIN * most and upto < e + S for e, w, mu, most, upto in of]
    left = (window - len(p.line(p.nodes)), window // 4, int(window * interpolation_load(p)), 2)
    for v in [v for v, is_bad in enumerate(bad) if is_bad][max(left) // 2 :]:
        bad[v] = False
    if not any(bad) and p.whole and p.secant <= S and p.quad > Q:
        bad = [e > 0 and 0.5 * max(p.each) <= e for e in p.each]
    return split(levels.row.place, known, p.nodes, bad, [e / w for e, w in zip(p.each, wide, strict=True)])


def interpolation_load(p: SampleError) -> float:
    """The share of a round's rows that new nodes may take: what interpolation errs by, beside what secants do."""
    one, other = p.quad / p.Q * (p.quad / p.Q), p.secant / p.S * (p.secant / p.S)
    return one / (one + other) if one + other < inf else 0.0
