"""The samples of a batch that are not done: their nodes, what was learned of them, and the steps of a round.

States are kept at nodes alone, in coordinates of the spectrum. What is decided is decided on the CPU from sums by band:
two waits for the device a round, beside the model's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..stopping.final_error import MARGIN as USUAL
from ..stopping.final_error import FinalError
from ..stopping.rounding import ESTIMATE_DIVISOR, NETWORK_DIVISOR, finest_tolerance
from ..window.chain import Chain
from .choose import choose_nodes
from .coordinates import BandCoordinates, coordinates_of
from .error import MARGIN, ErrorParts, new_nodes
from .handover import gives_way
from .jacobian import TINY, LearnedJacobian, ReevaluatedNodes
from .layout import NodeLayout
from .levels import LevelScalars, level_scalars
from .matrices import ChainMatrix, chain_matrix
from .measure import measure_nodes, secant_size, step_residual
from .method import Skeleton
from .nodes import first
from .store import NodeStore
from .surrogate import Surrogate

STILL = 2.0  # ulps of a state: what moved less did not move; with 1 rounding made up to twice the rounds at tolerance 0
TELLS = 8.0  # ulps of a state: what moved less teaches nothing of the Jacobian; 1e-6 in float32 as in the prototypes
FAR = 1e3  # times its usual size: a state that a first Jacobian took further is brought back before the model sees it
CLOSE = 30.0  # times the finest tolerance: above it rounding is no part of the error
ROWS = 64  # of noise that are transformed at once


class JudgedRound(NamedTuple):
    """What a round leaves to the next: the parts of the error, the surrogate, and the chain on it at the known nodes:
    its matrix, or states (V + 1, B, d) in the order of rows. end (B, d): the states at row N."""

    parts: ErrorParts
    found: Surrogate
    way: ChainMatrix | Tensor
    end: Tensor


class ActiveSamples:
    """The samples that are not done, B of them: who (B,) they are in the batch.

    tolerance: what they are held to, unit (B,): the size of a finished one, first (B,): nodes at the beginning.
    """

    def __init__(self, chain: Chain, method: Skeleton, stop: FinalError, window: int) -> None:
        self.chain, self.method, self.stop, self.window = chain, method, stop, window
        x, system = chain.stream.x, chain.system
        self.like = x[:1]
        self.coordinates: BandCoordinates = coordinates_of(x, method.grid or stop.grid)
        self.spectrum = self.coordinates.spectrum
        self.levels: LevelScalars = level_scalars(system, self.spectrum, method.width, method.weight)
        self.rounding = 0.0
        few = method.nodes(self.levels.ode, self.tolerance) if stop.tolerance > 0 else len(system)
        N, B = len(system), len(x)
        self.budget = window * B if method.pooled else None
        self.who = torch.arange(B)
        self.x = self.coordinates.forward(x)
        self.z = scaled_noise(chain, self.coordinates)
        self.store = NodeStore(N, system.taps, self.x)
        self.layout = self.laid_out()
        self.node = first(self.levels, few)[:, None].repeat(1, B)
        self.first = self.node.sum(0)
        self.dense = torch.zeros(B, dtype=torch.bool)
        self.unit = torch.full((B,), self.spectrum.size, dtype=torch.float64)
        self.learned = LearnedJacobian.nothing(self.levels, B)
        self.mass, self.size = torch.zeros(2, N, B, dtype=torch.float64)  # size: of the states of nodes
        self.judged: JudgedRound | None = None

    @property
    def tolerance(self) -> float:
        """Of the relative error; no less than the numbers hold."""
        return max(self.stop.tolerance, finest_tolerance(self.like.dtype, self.rounding) / ESTIMATE_DIVISOR)

    @property
    def eps(self) -> float:
        """Of the states' dtype."""
        return torch.finfo(self.like.dtype).eps

    @property
    def still(self) -> float:
        """What a state may move by, relatively, and count as unmoved."""
        return STILL * self.eps + self.rounding / NETWORK_DIVISOR

    @property
    def exact(self) -> NodeStore | None:
        """The nodes, where steps between neighbours must be the model's own to the last digit."""
        return self.store if self.tolerance < CLOSE * finest_tolerance(self.like.dtype) else None

    def laid_out(self) -> NodeLayout:
        """Where the nodes are, by now."""
        return NodeLayout(self.levels, self.store.known, self.store.slot, self.store.row)

    def surrogate(self) -> Surrogate:
        """What is known by now."""
        s, J = self.coordinates, self.learned.J
        if self.layout.known is not self.store.known:
            self.layout = self.laid_out()
        return Surrogate(s, J, self.layout, self.store.left(s, J), self.x, self.z)

    def way(self, found: Surrogate, stop: Tensor) -> ChainMatrix | Tensor:
        """The chain on a surrogate at stops (N, B), by its matrix where that pays, or from stop to stop."""
        matrix = None if self.exact else chain_matrix(found, stop)
        return found.run(stop, self.exact) if matrix is None else matrix

    def chosen(self) -> tuple[Tensor, Tensor]:
        """The rows n and samples b (M,) that this round evaluates."""
        known = self.store.mask
        if self.judged is None:
            mask = choose_nodes(self.node, known, known, known, self.window, self.budget)
        else:
            p = self.judged.parts
            mask = choose_nodes(self.node, known, p.due, p.hot, self.window, self.budget)
            none = ~mask.any(0)
            if bool(none.any()):  # nothing must be evaluated, and yet it is not done: what moved most
                most = torch.where(known, p.mu, -1.0)
                mask |= none & (most == most.amax(0))
        n, b = mask.nonzero().unbind(1)
        return n, b

    def states(self, n: Tensor, b: Tensor) -> Tensor:
        """States (M, d) at rows n of samples b (M,)."""
        stop, judged = self.store.mask, self.judged
        way = None if judged is None else judged.way
        if way is None or not (isinstance(way, ChainMatrix) or bool(stop[n, b].all())):
            stop = stop.index_put((n, b), torch.tensor(True))
            stop[0] = True
            way = self.way(self.surrogate() if judged is None else judged.found, stop)
        if isinstance(way, ChainMatrix):
            x = way.states(n, b)
        else:
            x = way[(stop.cumsum(0) - 1)[n, b].to(way.device), b.to(way.device)]
        t, data = self.levels.system, (self.unit / self.spectrum.size).clamp(min=1.0)
        far = (FAR * (t.sigma[n] + t.alpha[n] * data[b])).to(x)[:, None]
        return x.nan_to_num(0.0, 0.0, 0.0).minimum(far).maximum(-far)

    def learn(self, n: Tensor, b: Tensor, x: Tensor, D: Tensor) -> None:
        """Rows n of samples b (M,) had states x (M, d), and the model answered D."""
        s, F = self.coordinates, len(self.spectrum.count)
        old = self.store.mask[n, b]
        no, bo = n[old], b[old]
        there = old.nonzero()[:, 0].to(D.device)
        at, said = self.store.get(no, bo)
        dX, dD = x[there] - at, D[there] - said
        off = s.plus(dD, -self.learned.J[no, bo], dX)
        sums = [s.sums(u, v).flatten() for u, v in ((dX, dX), (dX, dD), (off, off), (dD, dD))]
        told = torch.cat([*sums, *(torch.linalg.vector_norm(v, dim=1) for v in (D, x))]).cpu().double()  # waits
        XX, XD, defect, DD = told[: 4 * len(no) * F].view(4, len(no), F)
        smallest = (TELLS * self.eps + self.rounding / NETWORK_DIVISOR) * self.unit
        seen = ReevaluatedNodes(no, bo, XX, XD, defect, DD)
        self.learned = self.learned.after(self.levels, seen, self.mass, self.unit, smallest, TINY * self.tolerance)
        self.store.put(n, b, x, D)
        last, (size, self.size[n, b]) = n == len(self.levels) - 1, told[4 * len(no) * F :].view(2, len(n))
        self.unit[b[last]] = size[last].clamp(min=1e-3 * self.spectrum.size)

    def judge(self) -> Surrogate:
        """Runs the chain on what is known now, and finds the parts of the error."""
        found, known = self.surrogate(), self.store.known
        way = self.way(found, self.store.mask)
        self.mass, A = found.layout.mass, self.learned.growth()
        sums = measure_nodes(found, way, self.store, self.mass * A, self.unit)
        margin = MARGIN * self.stop.margin / USUAL
        mu = (
            margin
            * secant_size(self.levels, known, sums, known.picked(self.size), self.mass, self.still)
            / self.unit
            * known.picked(A)
        )
        plain = (mu * known.picked(self.learned.eps)).nan_to_num(torch.inf)
        plain = known.spread(plain)
        each = sums.each.square().sum(0).sqrt()
        quad = sums.all.maximum(each).nan_to_num(torch.inf)
        off = step_residual(self.levels, known, sums.moved, self.learned.J)
        parts = ErrorParts(
            mu=plain * self.levels.caution[:, None],
            plain=plain,
            each=known.spread(sums.each),
            quad=quad,
            A=A,
            known=self.store.mask,
            node=self.node,
            dense=self.dense,
            residual=off / self.spectrum.count.sum().item() ** 0.5,
            tolerance=self.tolerance,
        )
        self.judged = JudgedRound(parts, found, way, sums.end)
        return found

    def grow(self, round: int) -> Tensor:
        """New nodes, or all rows, for the next round; whether each sample is done (B,)."""
        assert self.judged is not None
        p, window = self.judged.parts, min(self.window, len(self.levels))
        new = new_nodes(self.levels, self.store.known, p, window)
        done = p.within & ~new.any(0)
        self.node = p.node | new
        after = replace(p, node=self.node)
        dense = gives_way(after, self.first, round, window, self.levels.ode) & ~done
        self.node, self.dense = self.node | dense, self.dense | dense
        self.judged = self.judged._replace(parts=replace(p, node=self.node, dense=self.dense))
        return done

    def part(self, keep: Tensor) -> None:
        """Goes on with some samples (M,) alone."""
        assert self.judged is not None
        there = keep.to(self.x.device)
        self.x, self.z = self.x[there], None if self.z is None else self.z[there]
        for name in ("who", "first", "dense", "unit"):
            setattr(self, name, getattr(self, name)[keep])
        for name in ("node", "mass", "size"):
            setattr(self, name, getattr(self, name)[:, keep])
        self.learned = self.learned.part(keep)
        self.store.part(keep)
        p, found, way = self.judged.parts, self.judged.found, self.judged.way
        by = {k: getattr(p, k)[:, keep] for k in ("mu", "plain", "each", "A", "known", "node")}
        p = replace(p, **by, quad=p.quad[keep], dense=p.dense[keep], residual=p.residual[keep])
        self.layout = self.laid_out()
        here = self.store.row.shape[1]
        found = Surrogate(self.coordinates, self.learned.J, self.layout, found.E[there, :here], self.x, self.z)
        V = len(self.store.known)
        way = way.part(keep, found) if isinstance(way, ChainMatrix) else torch.cat([way[:V, there], way[-1:, there]])
        self.judged = JudgedRound(p, found, way, self.judged.end[there])


def scaled_noise(chain: Chain, s: BandCoordinates) -> Tensor | None:
    """The noise of all rows as it is added, c[n] z[n], in coordinates (B, N, d); None where none is drawn."""
    system, stream = chain.system, chain.stream
    if not any(system.drawn):
        return None
    (B, *_), N, out = stream.x.shape, len(system), None
    for begin in range(0, N, ROWS):
        n = torch.arange(begin, min(begin + ROWS, N), device=stream.x.device)[:, None].expand(-1, B)
        z = stream.rows(n, begin, begin + len(n))
        assert z is not None
        v = s.forward(z.flatten(0, 1)).unflatten(0, n.shape) * system.c[n[:, 0]][:, None, None]
        out = v.new_empty(B, N, v.shape[2]) if out is None else out
        out[:, begin : begin + len(n)] = v.transpose(0, 1)
    return out
