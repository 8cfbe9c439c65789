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
from .handover import gives_way, is_lost
from .jacobian import TINY, LearnedJacobian, ReevaluatedNodes
from .layout import NodeLayout
from .levels import LevelScalars, level_scalars
from .measure import measure_nodes, secant_size, step_residual
from .method import Skeleton
from .nodes import KnownNodes, first
from .recurrence import Intervals, NoiseByBand
from .store import NodeStore
from .surrogate import StopStates, Surrogate

STILL = 2.0  # ulps of a state: what moved less did not move; with 1 rounding made up to twice the rounds at tolerance 0
TELLS = 8.0  # ulps of a state: what moved less teaches nothing of the Jacobian; 1e-6 in float32 as in the prototypes
FAR = 1e3  # times its usual size: a state that a first Jacobian took further is brought back before the model sees it
CLOSE = 30.0  # times the finest tolerance: above it rounding is no part of the error
ROWS = 64  # of noise that are transformed at once


class JudgedRound(NamedTuple):
    """What a round leaves to the next: the parts of the error, the surrogate, and the chain on it at the nodes."""

    parts: ErrorParts
    found: Surrogate
    way: StopStates


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
        self.learned = LearnedJacobian(self.levels, B)
        self.size = torch.zeros(N, B, dtype=torch.float64)  # of the states of nodes
        self.judged: JudgedRound | None = None
        self.stops: tuple[KnownNodes, Intervals] | None = None

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

    def run(self) -> tuple[Surrogate, StopStates]:
        """What is known by now, and the chain on it from node to node."""
        s, J, same = self.coordinates, self.learned.J, self.layout.known is self.store.known
        if not same:
            self.layout = self.laid_out()
        found = Surrogate(s, J, self.layout, self.store.left(s, J), self.x, self.z)
        if self.stops is None or not same or not torch.equal(self.stops[0].mask, self.node):
            stops = KnownNodes.of(self.node)
            self.stops = stops, found.intervals(stops)
        return found, found.run(self.stops, self.exact)

    def states(self, n: Tensor, b: Tensor) -> Tensor:
        """States (M, d) at rows n of samples b (M,)."""
        found, way = self.run() if self.judged is None else self.judged[1:]
        x, t, data = found.states(way, n, b), self.levels.system, (self.unit / self.spectrum.size).clamp(min=1.0)
        far = (FAR * (t.sigma[n] + t.alpha[n] * data[b])).to(x)[:, None]
        return x.nan_to_num(0.0, 0.0, 0.0).minimum(far).maximum(-far)

    def learn(self, n: Tensor, b: Tensor, x: Tensor, D: Tensor) -> None:
        """Rows n of samples b (M,) had states x (M, d), and the model answered D."""
        seen, answers, self.size[n, b] = reevaluated_nodes(self, n, b, x, D)
        no, bo = seen.n, seen.b
        if len(no):
            base = self.layout.known.base[no, bo]
            counts = self.layout.mass[base, bo] / self.unit[bo]
        smallest = (TELLS * self.eps + self.rounding / NETWORK_DIVISOR) * self.unit[bo]
        self.learned.learn(seen, counts if len(no) else smallest, smallest, TINY * self.tolerance)
        self.store.put(n, b, x, D)
        last = (n == len(self.levels) - 1).nonzero()[:, 0]
        self.unit[b[last]] = answers[last].clamp(min=1e-3 * self.spectrum.size)

    def judge(self) -> Surrogate:
        """Runs the chain on what is known now, and finds the parts of the error."""
        found, way = self.run()
        self.judged = JudgedRound(error_parts(self, found, way), found, way)
        return found

    def grow(self, round: int) -> Tensor:
        """New nodes, or all rows, for the next round; whether each sample is done (B,)."""
        assert self.judged is not None
        p, window = self.judged.parts, min(self.window, len(self.levels))
        new = new_nodes(self.layout, p, window)
        done = p.within & ~new.any(0)
        self.node = p.node | new
        dense = gives_way(p, self.node.sum(0), self.first, round, window, self.levels.ode) & ~done
        if bool(dense.any()):
            self.node, self.dense = self.node | dense, self.dense | dense
            self.judged = self.judged._replace(parts=replace(p, dense=self.dense))
        return done

    def part(self, keep: Tensor) -> None:
        """Goes on with some samples (M,) alone."""
        assert self.judged is not None
        there, N = keep.to(self.x.device), len(self.levels)
        self.x = self.x[there]
        self.z = self.z and self.z.kept((N * keep[:, None] + torch.arange(N)).flatten())
        for name in ("who", "first", "dense", "unit"):
            setattr(self, name, getattr(self, name)[keep])
        self.node, self.size = self.node[:, keep], self.size[:, keep]
        self.learned.part(keep)
        self.store.part(keep)
        p, found, way = self.judged
        by = {k: getattr(p, k)[:, keep] for k in ("mu", "plain", "each", "A", "known", "node")}
        p = replace(p, **by, quad=p.quad[keep], dense=p.dense[keep], residual=p.residual[keep])
        self.layout, self.stops = self.laid_out(), None
        here = self.store.row.shape[1]
        found = Surrogate(self.coordinates, self.learned.J, self.layout, found.E[there, :here], self.x, self.z)
        stops = way.stops.part(keep)
        self.judged = JudgedRound(p, found, StopStates(stops, way.u[there]))


def rows_to_evaluate(samples: ActiveSamples) -> tuple[Tensor, Tensor]:
    """The rows n and samples b (M,) that the next round evaluates."""
    known = samples.store.mask
    if samples.judged is None:
        mask = choose_nodes(samples.node, known, known, known, samples.window, samples.budget)
    else:
        p = samples.judged.parts
        mask = choose_nodes(samples.node, known, p.due, p.hot, samples.window, samples.budget)
        none = ~mask.any(0)
        if bool(none.any()):  # nothing must be evaluated, and yet it is not done: what moved most
            most = torch.where(known, p.mu, -1.0)
            mask |= none & (most == most.amax(0))
    n, b = mask.nonzero().unbind(1)
    return n, b


def reevaluated_nodes(
    samples: ActiveSamples, n: Tensor, b: Tensor, x: Tensor, D: Tensor
) -> tuple[ReevaluatedNodes, Tensor, Tensor]:
    """The nodes that had been evaluated before, and the sizes of all answers D and states x (M, d)."""
    s, F = samples.coordinates, len(samples.spectrum.count)
    again = samples.store.mask[n, b].nonzero()[:, 0]
    no, bo, there = n[again], b[again], again.to(D.device)
    at, said = samples.store.get(no, bo)
    dX, dD = x[there] - at, D[there] - said
    sums = [s.sums(u, v).flatten() for u, v in ((dX, dX), (dX, dD), (dD, dD))]
    sizes, doubts = [torch.linalg.vector_norm(v, dim=1) for v in (D, x)], samples.chain.evaluate.doubts
    told = torch.cat([*sums, *sizes, *(doubt.total.to(x).reshape(1) for doubt in doubts)]).cpu().double()  # waits
    samples.chain.evaluate.look(told[len(told) - len(doubts) :].tolist())
    each, told = told[: 3 * len(no) * F].view(3, -1, F), told[3 * len(no) * F :]
    return ReevaluatedNodes(no, bo, *each.unbind()), told[: len(n)], told[len(n) : 2 * len(n)]


def error_parts(samples: ActiveSamples, found: Surrogate, way: StopStates) -> ErrorParts:
    """The parts of the error, of the chain on what is known."""
    layout, levels, B = found.layout, samples.levels, len(samples.who)
    known, here = layout.known, (layout.at, torch.arange(B))
    A = samples.learned.growth()
    sums = measure_nodes(found, way, samples.store, layout.mass * A[here], samples.unit)
    by = A[here] * samples.learned.eps[here] * (MARGIN * samples.stop.margin / USUAL / samples.unit)
    mu = (secant_size(layout, sums.moved, samples.size[here], samples.still) * by).nan_to_num_(torch.inf)
    quad = sums.all.maximum(sums.each.square().sum(0).sqrt()).nan_to_num(torch.inf)
    off = step_residual(layout, sums.moved, samples.learned.J)
    all_mu, each = known.spread(torch.stack([mu, sums.each])).unbind()
    return ErrorParts(
        mu=all_mu * levels.caution[:, None],
        plain=mu,
        each=each,
        quad=quad,
        A=A,
        known=samples.store.mask,
        node=samples.node,
        dense=samples.dense,
        residual=off / samples.spectrum.count.sum().item() ** 0.5,
        tolerance=samples.tolerance,
    )


def lost_samples(samples: ActiveSamples, round: int) -> Tensor:
    """The samples (B,) that are better given to windows."""
    assert samples.judged is not None
    return is_lost(samples.judged.parts, round, samples.window) & torch.tensor(not samples.method.always)


def scaled_noise(chain: Chain, s: BandCoordinates) -> NoiseByBand | None:
    """The noise of all rows as it is added, c[n] z[n], in coordinates; None where none is drawn."""
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
    assert out is not None
    return NoiseByBand.of(out.flatten(0, 1), s)
