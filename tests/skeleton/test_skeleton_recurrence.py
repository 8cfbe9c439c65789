"""From node to node: what the recurrences, the weights and the choices of nodes promise, each against a plain loop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.methods.spectrum import spectrum_of
from paradigms.skeleton import measure, surrogate
from paradigms.skeleton.coordinates import coordinates_of
from paradigms.skeleton.error import interpolation_share
from paradigms.skeleton.layout import NodeLayout
from paradigms.skeleton.levels import LevelScalars, level_scalars
from paradigms.skeleton.measure import measure_nodes
from paradigms.skeleton.nodes import NodeRows, choose_nodes, first, split
from paradigms.skeleton.recurrence import NoiseByBand
from paradigms.skeleton.stops import run_blocks
from paradigms.skeleton.store import NodeStore
from paradigms.skeleton.surrogate import StopStates, Surrogate

CASES = settings(max_examples=25, deadline=None)


def a_table(N: int, K: int, noisy: bool, seed: int) -> pd.System:
    """A table of K taps with arbitrary coefficients, on the levels of DDIM."""
    g = torch.Generator().manual_seed(seed)
    system = pd.ddim(pd.linear(), N)
    b = torch.randn(N, K, generator=g, dtype=torch.float64) * 0.3
    for k in range(K):
        b[:k, k] = 0
    c = 0.2 * torch.rand(N, generator=g, dtype=torch.float64) if noisy else system.c
    return replace(system, a=torch.rand(N, generator=g, dtype=torch.float64), b=b, c=c)


def a_problem(N: int, K: int, noisy: bool, seed: int, share: float) -> tuple[Surrogate, NodeStore]:
    """A surrogate of two samples of states (2, 3, 3), its nodes at random and different for each."""
    g = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(2, 2, 3, 3, generator=g, dtype=torch.float64)
    s = coordinates_of(x)
    table = level_scalars(a_table(N, K, noisy, seed), s.spectrum, 0.5, 0.03)
    store = NodeStore(table, s.forward(x))
    mask = torch.rand(N, 2, generator=g) < share
    mask[0] = True
    for part in mask.nonzero().chunk(3):
        n, b = part[torch.randperm(len(part), generator=g)].T.tolist()
        store.put(n, b, *torch.randn(2, len(n), 18, generator=g, dtype=torch.float64))
    J = torch.rand(N, 2, len(s.slices), generator=g, dtype=torch.float64)
    z = NoiseByBand.of(torch.randn(2 * N, 18, generator=g, dtype=torch.float64), s) if noisy else None
    return Surrogate(s, J, store.layout, store.left(s, J), s.forward(x), z), store


def marked(mask: Tensor) -> NodeRows:
    """The rows of a mask (N, B)."""
    return NodeRows(len(mask), tuple(v.nonzero()[:, 0].tolist() for v in mask.T))


def mask_of(rows: NodeRows) -> Tensor:
    """The mask (N, B) of rows."""
    return torch.tensor([[n in each for each in rows.each] for n in range(rows.N)])


def every_row(N: int) -> tuple[list[int], list[int]]:
    """All rows of two samples."""
    n, b = torch.ones(N, 2).nonzero().T.tolist()
    return n, b


def row_by_row(S: Surrogate) -> Tensor:
    """Equation (1) on the surrogate, a loop over rows: states (N + 1, B, d)."""
    t, s, K = S.levels.system, S.coordinates, S.levels.system.taps
    e = sum(S.layout.weights[j][..., None] * S.nearby(j - 1) for j in range(4))
    z = None if S.z is None else S.z.all.unflatten(0, (2, -1))
    x, D = [S.x], []
    for n in range(len(t)):
        D.append(s.spread(S.J[n]) * x[n] + e[n])
        new = t.a[n] * x[n] + sum(t.b[n, k] * D[n - k] for k in range(min(K, n + 1)))
        x.append(new if z is None else new + z[:, n])
    return torch.stack(x)


CHAINS = st.integers(2, 40), st.integers(1, 3), st.booleans(), st.integers(0, 10**6), st.floats(0.05, 1.0)


@given(*CHAINS, st.booleans())
@CASES
def test_the_chain_from_node_to_node_is_the_chain_row_by_row(
    N: int, K: int, noisy: bool, seed: int, share: float, few: bool
) -> None:
    S, store = a_problem(N, K, noisy, seed, share)
    every = row_by_row(S)
    known = mask_of(store.known)
    stop = known | (torch.rand(N, 2, generator=torch.Generator().manual_seed(seed)) < 0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "FEW", 160 if few else 0)  # one product a band, or blocks
        for mask in (known, stop, torch.ones_like(stop)):
            stops = marked(mask)
            for nodes in (None, store):
                way = S.run((stops, S.intervals(stops)), nodes)
                n, b = every_row(N)  # stops, and the rows between them
                assert torch.allclose(S.states(way, n, b), every[n, b], rtol=1e-8, atol=1e-9)
                assert torch.allclose(way.end, every[N], rtol=1e-8, atol=1e-9)


@given(*CHAINS)
@CASES
def test_what_is_measured_of_nodes_is_what_their_states_say(
    N: int, K: int, noisy: bool, seed: int, share: float
) -> None:
    S, store = a_problem(N, K, noisy, seed, share)
    stops, layout, s, g = store.known, S.layout, S.coordinates, torch.Generator().manual_seed(seed)
    way = S.run((stops, S.intervals(stops)))
    counts = [torch.rand(len(rows), generator=g, dtype=torch.float64).tolist() for rows in stops.each]
    found = measure_nodes(S, way, store, counts, [1.0, 1.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "FEW", 0)  # neighbour by neighbour
        assert torch.allclose(measure_nodes(S, way, store, counts, [1.0, 1.0]).each, found.each)
    for b, rows in enumerate(stops.each):
        V, slots = len(rows), layout.slots[b]
        e, seen = S.E[b, slots], store.at[b, slots]
        moved = S.states(way, rows, [b] * V) - seen
        assert torch.allclose(s.sums(moved, moved), found.moved[b, slots], rtol=1e-6, atol=1e-9)
        e = torch.cat([torch.zeros(2, 18), e, torch.zeros(2, 18)])
        weights = torch.tensor([list(w) for w in layout.lagrange[b]], dtype=torch.float64)
        apart = sum(weights[:, j, None] * e[j : j + V] for j in range(5))
        share_of = interpolation_share(S.levels, V)
        by = share_of * torch.tensor(counts[b])[:, None] * s.spread(S.levels.G[torch.tensor(rows) + 1])
        assert torch.allclose((by * apart).norm(dim=1), found.each[b, slots], rtol=1e-6, atol=1e-6)
        assert torch.allclose((by * apart).sum(0).norm(), found.all[b], rtol=1e-6, atol=1e-6)


@given(st.integers(1, 3), st.booleans(), st.integers(0, 10**6))
@CASES
def test_a_sample_that_is_left_alone_has_the_states_it_had(K: int, noisy: bool, seed: int) -> None:
    S, store = a_problem(20, K, noisy, seed, 0.5)
    stops, rows = store.known, list(range(20))
    way = S.run((stops, S.intervals(stops)))
    before = S.states(way, rows, [1] * 20)
    store.part([1])
    z = S.z and S.z.kept(20 + torch.arange(20))
    alone = Surrogate(S.coordinates, S.J[:, [1]], store.layout, S.E[[1], : len(store.known)], S.x[[1]], z)
    way = StopStates(NodeRows(20, stops.each[1:]), way.u[[1]])
    assert torch.allclose(alone.states(way, rows, [0] * 20), before)


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 10**6))
@CASES
def test_blocks_of_steps_are_the_steps_one_by_one(V: int, K: int, seed: int) -> None:
    g, s = torch.Generator().manual_seed(seed), coordinates_of(torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    P = torch.randn(K, K, V, 2, len(s.slices), generator=g, dtype=torch.float64) / K
    R, u = (torch.randn(K, *shape, 16, generator=g, dtype=torch.float64) for shape in ((V, 2), (2,)))
    found, now = run_blocks(s, P, R, u), u
    for i in range(V):
        now = torch.stack([sum(s.spread(P[k, j, i]) * now[j] for j in range(K)) for k in range(K)]) + R[:, i]
        assert torch.allclose(found[:, i], now, rtol=1e-8, atol=1e-8 * float(now.abs().max()))


def layout_of(table: LevelScalars, seed: int, share: float = 0.3) -> NodeLayout:
    """Nodes of two samples at random, the first and the last row among them."""
    N = len(table)
    mask = torch.rand(N, 2, generator=torch.Generator().manual_seed(seed)) < share
    mask[0] = mask[-1] = True
    store = NodeStore(table, torch.zeros(2, 3))
    n, b = mask.nonzero().T.tolist()
    store.put(n, b, *torch.zeros(2, len(n), 3))
    return store.layout


@pytest.mark.parametrize(("eta", "degree"), [(0.0, 2), (1.0, 1)])
@given(seed=st.integers(0, 10**6))
@CASES
def test_what_is_a_low_polynomial_of_the_level_is_interpolated_exactly(eta: float, degree: int, seed: int) -> None:
    table = level_scalars(pd.ddim(pd.linear(), 50, eta=eta), spectrum_of(torch.zeros(1, 3)), 0.5, 0.03)
    layout, c = layout_of(table, seed), torch.randn(degree + 1, dtype=torch.float64)
    known = layout.known
    said = sum(c[k] * table.level**k for k in range(degree + 1))  # type: ignore[arg-type]
    h, base = layout.weights, known.base
    rows = known.rows.clamp(max=49)
    for b in range(2):
        place = (base[:, b] + torch.arange(-1, 3)[:, None]).clamp(0, int(known.count[b]) - 1)
        found = (h[:, :, b] * said[rows[place, b]]).sum(0)
        inside = (base[:, b] >= degree - 1) & (base[:, b] < known.count[b] - degree)  # a parabola at both ends
        assert torch.allclose(found[inside], said[inside], atol=1e-9)
    for b in range(2):
        V, apart = int(known.count[b]), torch.tensor([list(w) for w in layout.lagrange[b]], dtype=torch.float64)
        e = torch.cat([torch.zeros(2), said[known.rows[:V, b]], torch.zeros(2)])
        off = sum(apart[:, j] * e[j : j + V] for j in range(5))
        two_alone = apart[:, 0] == 0  # where a parabola is not seen through
        assert torch.allclose(off * (~two_alone if degree == 2 else 1.0), torch.zeros(V).double(), atol=1e-8)


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), min_size=1, max_size=4), st.integers(1, 6))
@CASES
def test_a_round_evaluates_what_is_wanted_and_no_more_than_its_rows(lines: list[list[int]], W: int) -> None:
    wanted = [{(n, b) for n in line} for b, line in enumerate(lines)]
    alone, pooled = (set(choose_nodes(lines, W, budget)) for budget in (None, W * len(lines)))
    assert alone <= set().union(*wanted) and pooled <= set().union(*wanted)
    assert len(pooled) == min(sum(map(len, lines)), W * len(lines))
    for line, want in zip(lines, wanted, strict=True):
        assert len(alone & want) == min(len(line), W)
        assert len(pooled & want) >= len(alone & want)  # no sample has less for it


def test_what_must_come_first_does() -> None:
    assert choose_nodes([[2, 0, 1, 3]], 2, None) == [(0, 0), (2, 0)]
    assert choose_nodes([[2, 0, 1], [5]], 1, 2) == [(2, 0), (5, 1)]


@given(st.integers(2, 60), st.floats(2, 80))
@CASES
def test_the_first_nodes_hold_both_ends_and_are_about_as_many(N: int, few: float) -> None:
    table = level_scalars(pd.ddim(pd.linear(), N), spectrum_of(torch.zeros(1, 3)), 0.5, 0.03)
    node = first(table, few)
    assert node[0] == 0 and node[-1] == N - 1
    assert node == list(range(N)) if few >= N else len(node) <= few + 2 and node == sorted(set(node))


@given(st.integers(4, 60), st.integers(0, 10**6), st.floats(1.0, 50.0))
@CASES
def test_an_interval_that_is_split_gets_nodes_inside_and_others_none(N: int, seed: int, ratio: float) -> None:
    table = level_scalars(pd.ddim(pd.linear(), N), spectrum_of(torch.zeros(1, 3)), 0.5, 0.03)
    rows = layout_of(table, seed, 0.2).known.each[0]
    g = torch.Generator().manual_seed(seed)
    bad, waiting = (torch.rand(N, generator=g) < 0.5).tolist()[: len(rows)], seed % N
    nodes = {*rows, waiting}  # one that was not evaluated, where it is not among the rows
    new = split(table.row.place, rows, nodes, bad, [ratio] * len(rows))
    assert not new & nodes
    for (lo, hi), ends in zip(pairwise(rows), pairwise(bad), strict=True):
        asked = any(ends) and hi - lo > 1 and not lo < waiting < hi
        assert any(lo < n < hi for n in new) == asked


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 10**6))
@CASES
def test_sums_of_noise_are_the_same_both_ways(lengths: list[int], seed: int) -> None:
    g, s = torch.Generator().manual_seed(seed), coordinates_of(torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    z, T = torch.randn(sum(lengths), 16, generator=g).double(), torch.rand(sum(lengths), len(s.widths)).double()
    expected = torch.stack([v.sum(0) for v in (s.spread(T) * z).split(lengths)])
    begin = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    bands = NoiseByBand(tuple(v.contiguous() for v in z.split(s.widths, 1)))  # what large states and devices take
    assert torch.allclose(bands.sums(torch.arange(len(z)), begin, T.T.contiguous()), expected)


@pytest.mark.parametrize("shape", [(3,), (2, 6, 6), (7, 4), (1, 128, 128)])
def test_coordinates_by_band_are_the_spectrums_in_another_order(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s, v = coordinates_of(x), coordinates_of(x).forward(x)
    assert torch.allclose(s.inverse(v, x), x)
    plain = s.spectrum.forward(x[None])
    assert torch.allclose(s.sums(v, v), s.spectrum.sums(plain, plain)[0])
    assert torch.allclose(v.norm(dim=1), x.flatten(1).norm(dim=1))
    J = torch.rand(2, len(s.slices), dtype=torch.float64)
    J_x = s.spectrum.inverse(s.spectrum.spread(J)[None] * plain, x[None])[0]
    assert torch.allclose(s.inverse(s.plus(0 * v, J, v), x), J_x)
    assert torch.allclose(s.spread(J) * v, s.plus(0 * v, J, v))
