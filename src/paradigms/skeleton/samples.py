"""The samples of a batch that are not done: their nodes, what was learned of them, and the steps of a round.

States are kept at nodes alone, in coordinates of the spectrum. What is decided is decided on the CPU, in plain numbers,
from sums by band: two waits for the device a round, beside the model's own.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..stopping.final_error import MARGIN as USUAL
from ..stopping.final_error import FinalError
from ..stopping.rounding import ESTIMATE_DIVISOR, NETWORK_DIVISOR, finest_tolerance
from ..window.chain import Chain
from .coordinates import BandCoordinates, coordinates_of
from .error import MARGIN, SampleError, new_nodes
from .handover import gives_way, is_lost
from .jacobian import TINY, LearnedJacobian, ReevaluatedNodes
from .levels import LevelScalars, level_scalars
from .measure import NodeSums, measure_nodes
from .method import Skeleton
from .nodes import NodeRows, choose_nodes, first
from .recurrence import Intervals, NoiseByBand
from .store import NodeStore
from .surrogate import StopStates, Surrogate

STILL = 2.0  # ulps of a state: what moved less did not move; with 1 rounding made up to twice the rounds at tolerance 0
TELLS = 8.0  # ulps of a state: what moved less teaches nothing of the Jacobian; 1e-6 in float32 as in the prototypes
FAR = 1e3  # times its usual size: a state that a first Jacobian took further is brought back before the model sees it
CLOSE = 30.0  # times the finest tolerance: above it rounding is no part of the error
ROWS = 64  # of noise that are transformed at once


class JudgedRound(NamedTuple):
    """What a round leaves to the next: of each sample the error, the surrogate, and the chain on it at the nodes."""

    parts: list[SampleError]
    found: Surrogate
    way: StopStates


class ActiveSamples:
    """The samples that are not done, B of them: who they are in the batch, and of each its nodes.

    unit: the size of a finished one; first: nodes at the beginning; dense: whether all rows are nodes; size: of the
    states of nodes, by row.
    """

    def __init__(self, chain: Chain, method: Skeleton, stop: FinalError, window: int) -> None:
        self.chain, self.method, self.stop, self.window = chain, method, stop, window
        x, system = chain.stream.x, chain.system
        self.like = x[:1]
        self.coordinates: BandCoordinates = coordinates_of(x, method.grid or stop.grid)
        self.spectrum = self.coordinates.spectrum
        s, by = self.spectrum, (method.width, method.weight)
        what = "levels of nodes", s.shape, s.places, by
        self.levels: LevelScalars = system.once(what, lambda: level_scalars(system, s, *by))
        self.rounding = 0.0
        few = method.nodes(self.levels.ode, self.tolerance) if stop.tolerance > 0 else len(system)
        B, nodes = len(x), first(self.levels, few)
        self.budget = window * B if method.pooled else None
        self.who = list(range(B))
        self.x = self.coordinates.forward(x)
        self.z = scaled_noise(chain, self.coordinates)
        self.store = NodeStore(self.levels, self.x)
        self.nodes = [set(nodes) for _ in range(B)]
        self.first = [len(nodes)] * B
        self.dense = [False] * B
        self.unit = [self.spectrum.size] * B
        self.learned = LearnedJacobian(self.levels, B)
        self.size: list[dict[int, float]] = [{} for _ in range(B)]
        self.judged: JudgedRound | None = None
        self.stops: tuple[NodeRows, Intervals] | None = None

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

    def run(self) -> tuple[Surrogate, StopStates]:
        """What is known by now, and the chain on it from node to node."""
        s, J, layout = self.coordinates, self.learned.J, self.store.layout
        found = Surrogate(s, J, layout, self.store.left(s, J), self.x, self.z)
        nodes = tuple(sorted(each) for each in self.nodes)
        if self.stops is None or self.stops[1].layout is not layout or self.stops[0].each != nodes:
            stops = NodeRows(len(self.levels), nodes)
            self.stops = stops, found.intervals(stops)
        return found, found.run(self.stops, self.exact)

    def states(self, n: list[int], b: list[int]) -> Tensor:
        """States (M, d) at rows n of samples b (M)."""
        found, way = self.run() if self.judged is None else self.judged[1:]
        x, row = found.states(way, n, b), self.levels.row
        data = [max(unit / self.spectrum.size, 1.0) for unit in self.unit]
        far = [FAR * (row.sigma[r] + row.alpha[r] * data[s]) for r, s in zip(n, b, strict=True)]
        most = torch.tensor(far, dtype=x.dtype, device=x.device)[:, None]
        return x.nan_to_num_(0.0, 0.0, 0.0).clamp_(-most, most)

    def learn(self, n: list[int], b: list[int], x: Tensor, D: Tensor) -> None:
        """Rows n of samples b (M) had states x (M, d), and the model answered D."""
        seen, answers, sizes = reevaluated_nodes(self, n, b, x, D)
        known, mass = self.store.known, self.store.layout.mass if seen.n else []
        counts = [mass[s][known.place(r, s)] / self.unit[s] for r, s in zip(seen.n, seen.b, strict=True)]
        smallest = [(TELLS * self.eps + self.rounding / NETWORK_DIVISOR) * unit for unit in self.unit]
        self.learned.learn(seen, counts, smallest, TINY * self.tolerance)
        self.store.put(n, b, x, D)
        for r, s, answer, size in zip(n, b, answers, sizes, strict=True):
            self.size[s][r] = size
            if r == len(self.levels) - 1:
                self.unit[s] = max(answer, 1e-3 * self.spectrum.size)

    def judge(self) -> Surrogate:
        """Runs the chain on what is known now, and finds the parts of the error."""
        found, way = self.run()
        self.judged = JudgedRound(sample_errors(self, found, way), found, way)
        return found

    def grow(self, round: int) -> list[bool]:
        """New nodes, or all rows, for the next round; whether each sample is done."""
        assert self.judged is not None
        N, done = len(self.levels), list[bool]()
        for b, p in enumerate(self.judged.parts):
            new = new_nodes(self.levels, p, min(self.window, N))
            done.append(p.within and not new)
            if new:
                self.nodes[b] = p.nodes | new
            if not done[b] and gives_way(p, len(self.nodes[b]), self.first[b], self.levels, round, self.window):
                self.nodes[b], self.dense[b] = set(range(N)), True
                # What is due is judged as of all rows from here on.
                self.judged.parts[b] = replace(p, dense=True)
        return done

    def part(self, keep: list[int]) -> None:
        """Goes on with some samples alone."""
        assert self.judged is not None
        N = len(self.levels)
        self.x = self.x[keep]
        self.z = self.z and self.z.kept(torch.tensor([[N * b + n for n in range(N)] for b in keep]).flatten())
        for name in ("who", "first", "dense", "unit", "nodes", "size"):
            setattr(self, name, [getattr(self, name)[b] for b in keep])
        self.learned.part(keep)
        self.store.part(keep)
        parts, found, way = self.judged
        self.stops, layout = None, self.store.layout
        E = found.E[keep, : len(layout.known)]
        found = Surrogate(self.coordinates, self.learned.J, layout, E, self.x, self.z)
        V = way.u.shape[1] - 1
        stops = NodeRows(N, tuple(way.stops.each[b] for b in keep))
        u = way.u[keep]
        way = StopStates(stops, torch.cat([u[:, : len(stops)], u[:, V:]], 1))
        self.judged = JudgedRound([parts[b] for b in keep], found, way)


def rows_to_evaluate(samples: ActiveSamples) -> tuple[list[int], list[int]]:
    """The rows n and samples b (M) that the next round evaluates, by row."""
    if samples.judged is None:
        lines = [sorted(nodes) for nodes in samples.nodes]
    else:
        of = zip(samples.judged.parts, samples.nodes, strict=True)
        # Where nothing must be evaluated, and yet it is not done: what moved most.
        lines = [p.line(nodes) or p.moved_most for p, nodes in of]
    chosen = choose_nodes(lines, samples.window, samples.budget)
    return [n for n, _ in chosen], [b for _, b in chosen]


def reevaluated_nodes(
    samples: ActiveSamples, n: list[int], b: list[int], x: Tensor, D: Tensor
) -> tuple[ReevaluatedNodes, list[float], list[float]]:
    """The nodes that had been evaluated before, and the sizes of all answers D and states x (M, d)."""
    s, F, slot = samples.coordinates, len(samples.spectrum.count), samples.store.slot
    again = [m for m, (r, j) in enumerate(zip(n, b, strict=True)) if r in slot[j]]
    no, bo = [n[m] for m in again], [b[m] for m in again]
    sums = []
    if again:
        there = samples.store.places(no, bo)
        newer, newly = (x, D) if len(again) == len(n) else (v[again] for v in (x, D))
        dX, dD = newer - samples.store.at[there], newly - samples.store.D[there]
        sums = [s.sums(u, v).flatten() for u, v in ((dX, dX), (dX, dD), (dD, dD))]
    doubts = samples.chain.evaluate.doubts
    sums += [torch.linalg.vector_norm(v, dim=1) for v in (D, x)]
    told = torch.cat([*sums, *(doubt.total.to(x).reshape(1) for doubt in doubts)]).cpu().double()  # waits
    samples.chain.evaluate.look(told[len(told) - len(doubts) :].tolist())
    each, rest = told[: 3 * len(no) * F].view(3, len(no), F), told[3 * len(no) * F :].tolist()
    return ReevaluatedNodes(no, bo, each, each.sum(2).tolist()), rest[: len(n)], rest[len(n) : 2 * len(n)]


def sample_errors(samples: ActiveSamples, found: Surrogate, way: StopStates) -> list[SampleError]:
    """The parts of each sample's error, of the chain on what is known."""
    layout, learned = found.layout, samples.learned
    grown = [learned.growth(b, rows) for b, rows in enumerate(layout.known.each)]
    counts = [[w * a for w, a in zip(mass, A, strict=True)] for mass, (A, _) in zip(layout.mass, grown, strict=True)]
    sums = measure_nodes(found, way, samples.store, counts, samples.unit)
    d, by, still = sqrt(samples.x.shape[1]), MARGIN * samples.stop.margin / USUAL, samples.still
    row, parts, every = samples.levels.row, list[SampleError](), sums.all.tolist()
    for b, numbers in enumerate(node_numbers(found, sums, learned)):
        known, size, unit = layout.known.each[b], samples.size[b], samples.unit[b]
        becomes, moved, off, eps, each = ([v[slot] for slot in layout.slots[b]] for v in numbers)
        plain = [
            0.0 if m <= still * size[n] else number(g * row.per[n] * w * e * by / unit)
            for n, m, g, w, e in zip(known, moved, becomes, counts[b], eps, strict=True)
        ]
        parts.append(
            SampleError(
                known=known,
                nodes=samples.nodes[b],
                mu=[row.caution[n] * mu for n, mu in zip(known, plain, strict=True)],
                plain=plain,
                each=each,
                quad=max(number(every[b]), number(sqrt(sum(v * v for v in each)))),
                most=grown[b][1],
                dense=samples.dense[b],
                residual=max(number(o) / row.std[n] for n, o in zip(known, off, strict=True)) / d,
                tolerance=samples.tolerance,
            )
        )
    return parts


def node_numbers(found: Surrogate, sums: NodeSums, learned: LearnedJacobian) -> list[list[list[float]]]:
    """Of each sample and slot: |x - x_seen|_G, |x - x_seen|, how far the next state is from the step that the model
    gave, eps, and the interpolation part."""
    layout = found.layout
    step = found.carry[layout.row, layout.samples, :, 0, 0].square()
    weights = torch.stack([layout.squares, torch.ones_like(step), step], 1)  # (B, 3, n, F)
    sizes = (weights * sums.moved[:, None]).sum(3).sqrt_()
    rest = torch.stack([learned.eps[layout.row, layout.samples], sums.each], 1)
    return torch.cat([sizes, rest], 1).tolist()  # type: ignore[no-any-return]


def number(v: float) -> float:
    """A number, inf where it is none."""
    return v if v == v else inf


def is_lost_now(samples: ActiveSamples, b: int, round: int) -> bool:
    """Whether a sample is better given to windows."""
    assert samples.judged is not None
    lost = is_lost(samples.judged.parts[b], len(samples.levels), round, samples.window)
    return lost and not samples.method.always


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
