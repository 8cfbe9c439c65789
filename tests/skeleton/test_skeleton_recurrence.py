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
from paradigms.skeleton.choose import choose_nodes, node_ranks, within_budget
from paradigms.skeleton.coordinates import coordinates_of
from paradigms.skeleton.layout import NodeLayout, interpolation_weights, lagrange_weights
from paradigms.skeleton.levels import level_scalars
from paradigms.skeleton.matrices import chain_matrix
from paradigms.skeleton.measure import measure_nodes
from paradigms.skeleton.nodes import KnownNodes, first, split
from paradigms.skeleton.recurrence import run_stops, segment_sums
from paradigms.skeleton.store import NodeStore
from paradigms.skeleton.surrogate import Surrogate

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
    store = NodeStore(N, K, s.forward(x))
    mask = torch.rand(N, 2, generator=g) < share
    mask[0] = True
    for n, b in (part[torch.randperm(len(part), generator=g)].unbind(1) for part in mask.nonzero().chunk(3)):
        store.put(n, b, *torch.randn(2, len(n), 18, generator=g, dtype=torch.float64))
    J = torch.rand(N, 2, len(s.slices), generator=g, dtype=torch.float64)
    z = torch.randn(2, N, 18, generator=g, dtype=torch.float64) if noisy else None
    layout = NodeLayout(table, store.known, store.slot, store.row)
    return Surrogate(s, J, layout, store.left(s, J), s.forward(x), z), store


def row_by_row(S: Surrogate) -> Tensor:
    """Equation (1) on the surrogate, a loop over rows: states (N + 1, B, d)."""
    t, s, K = S.levels.system, S.coordinates, S.levels.system.taps
    h, base = interpolation_weights(S.levels, S.known), S.known.base
    e = sum(h[j][..., None] * S.at(base + j - 1) for j in range(4))
    x, D = [S.x], []
    for n in range(len(t)):
        D.append(s.spread(S.J[n]) * x[n] + e[n])
        new = t.a[n] * x[n] + sum(t.b[n, k] * D[n - k] for k in range(min(K, n + 1)))
        x.append(new if S.z is None else new + S.z[:, n])
    return torch.stack(x)


@given(st.integers(2, 40), st.integers(1, 3), st.booleans(), st.integers(0, 10**6), st.floats(0.05, 1.0))
@CASES
def test_the_chain_from_node_to_node_is_the_chain_row_by_row(
    N: int, K: int, noisy: bool, seed: int, share: float
) -> None:
    S, store = a_problem(N, K, noisy, seed, share)
    every = row_by_row(S)
    stop = store.mask | (torch.rand(N, 2, generator=torch.Generator().manual_seed(seed)) < 0.2)
    for mask in (store.mask, stop, torch.ones_like(stop)):
        stops = KnownNodes.of(mask)
        for nodes in (None, store):
            X = S.run(mask, nodes)
            for b in range(2):
                rows = [*stops.rows[: stops.count[b], b].tolist(), N]
                assert torch.allclose(X[: len(rows), b], every[rows, b], rtol=1e-8, atol=1e-9)
                assert torch.allclose(X[-1, b], every[N, b], rtol=1e-8, atol=1e-9)
        matrix = chain_matrix(S, mask)
        assert matrix is not None
        n, b = torch.ones_like(mask).nonzero().unbind(1)  # stops, and the rows between them
        assert torch.allclose(matrix.states(n, b), every[n, b], rtol=1e-8, atol=1e-9)


@given(st.integers(2, 40), st.integers(1, 3), st.booleans(), st.integers(0, 10**6), st.floats(0.05, 1.0))
@CASES
def test_a_matrix_measures_what_the_chain_from_node_to_node_does(
    N: int, K: int, noisy: bool, seed: int, share: float
) -> None:
    S, store = a_problem(N, K, noisy, seed, share)
    matrix, counts = chain_matrix(S, store.mask), torch.rand(N, 2, dtype=torch.float64)
    assert matrix is not None
    found, expected = (
        measure_nodes(S, way, store, counts, torch.ones(2).double()) for way in (matrix, S.run(store.mask))
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)
    keep = torch.tensor([1])
    store.part(keep)
    layout = NodeLayout(S.levels, store.known, store.slot, store.row)
    E, z = S.E[keep, : store.row.shape[1]], None if S.z is None else S.z[keep]
    alone = matrix.part(keep, Surrogate(S.coordinates, S.J[:, keep], layout, E, S.x[keep], z))
    n = layout.known.rows[:, 0]
    assert torch.allclose(alone.states(n, 0 * n), matrix.states(n, 0 * n + 1))


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 10**6))
@CASES
def test_blocks_of_steps_are_the_steps_one_by_one(V: int, K: int, seed: int) -> None:
    g, s = torch.Generator().manual_seed(seed), coordinates_of(torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    P = torch.randn(K, K, V, 2, len(s.slices), generator=g, dtype=torch.float64) / K
    R, u = (torch.randn(K, *shape, 16, generator=g, dtype=torch.float64) for shape in ((V, 2), (2,)))
    found, now = run_stops(s, P, R, u), u
    for i in range(V):
        now = torch.stack([sum(s.spread(P[k, j, i]) * now[j] for j in range(K)) for k in range(K)]) + R[:, i]
        assert torch.allclose(found[:, i], now, rtol=1e-8, atol=1e-8 * float(now.abs().max()))


def nodes_of(N: int, seed: int, share: float = 0.3) -> KnownNodes:
    """Nodes of two samples at random, the first and the last row among them."""
    mask = torch.rand(N, 2, generator=torch.Generator().manual_seed(seed)) < share
    mask[0] = mask[-1] = True
    return KnownNodes.of(mask)


@pytest.mark.parametrize(("eta", "degree"), [(0.0, 2), (1.0, 1)])
@given(seed=st.integers(0, 10**6))
@CASES
def test_what_is_a_low_polynomial_of_the_level_is_interpolated_exactly(eta: float, degree: int, seed: int) -> None:
    table = level_scalars(pd.ddim(pd.linear(), 50, eta=eta), spectrum_of(torch.zeros(1, 3)), 0.5, 0.03)
    known, c = nodes_of(50, seed), torch.randn(degree + 1, dtype=torch.float64)
    said = sum(c[k] * table.level**k for k in range(degree + 1))  # type: ignore[arg-type]
    h, base = interpolation_weights(table, known), known.base
    rows = known.rows.clamp(max=49)
    for b in range(2):
        place = (base[:, b] + torch.arange(-1, 3)[:, None]).clamp(0, int(known.count[b]) - 1)
        found = (h[:, :, b] * said[rows[place, b]]).sum(0)
        inside = (base[:, b] >= degree - 1) & (base[:, b] < known.count[b] - degree)  # a parabola at both ends
        assert torch.allclose(found[inside], said[inside], atol=1e-9)
    apart = lagrange_weights(table, known)
    for b in range(2):
        V = int(known.count[b])
        e = torch.cat([torch.zeros(2), said[known.rows[:V, b]], torch.zeros(2)])
        off = sum(apart[j, :V, b] * e[j : j + V] for j in range(5))
        two_alone = apart[0, :V, b] == 0  # where a parabola is not seen through
        assert torch.allclose(off * (~two_alone if degree == 2 else 1.0), torch.zeros(V).double(), atol=1e-8)


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10**6))
@CASES
def test_a_round_evaluates_what_is_wanted_and_no_more_than_its_rows(N: int, B: int, W: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    node, known, due, hot = (torch.rand(N, B, generator=g) < 0.5 for _ in range(4))
    want = node & (~known | due)
    alone, pooled = (choose_nodes(node, known, due, hot, W, budget) for budget in (None, W * B))
    assert bool((alone <= want).all()) and bool((pooled <= want).all())
    assert bool((alone.sum(0) == want.sum(0).clamp(max=W)).all())
    assert int(pooled.sum()) == min(int(want.sum()), W * B)
    assert bool((pooled.sum(0) >= alone.sum(0)).all())  # no sample has less for it


def test_what_must_come_first_does() -> None:
    want, must = torch.ones(4, 1, dtype=torch.bool), torch.tensor([[False], [False], [True], [False]])
    assert node_ranks(want, must)[:, 0].tolist() == [1, 2, 0, 3]
    assert within_budget(node_ranks(want, must), 2)[:, 0].tolist() == [True, False, True, False]


@given(st.integers(2, 60), st.floats(2, 80))
@CASES
def test_the_first_nodes_hold_both_ends_and_are_about_as_many(N: int, few: float) -> None:
    table = level_scalars(pd.ddim(pd.linear(), N), spectrum_of(torch.zeros(1, 3)), 0.5, 0.03)
    node = first(table, few)
    assert bool(node[0]) and bool(node[-1])
    assert bool(node.all()) if few >= N else int(node.sum()) <= few + 2


@given(st.integers(4, 60), st.integers(0, 10**6), st.floats(1.0, 50.0))
@CASES
def test_an_interval_that_is_split_gets_nodes_inside_and_others_none(N: int, seed: int, ratio: float) -> None:
    table = level_scalars(pd.ddim(pd.linear(), N), spectrum_of(torch.zeros(1, 3)), 0.5, 0.03)
    known = nodes_of(N, seed, 0.2)
    node = known.spread(torch.ones_like(known.rows, dtype=torch.bool), False)
    bad = node & (torch.rand(N, 2, generator=torch.Generator().manual_seed(seed)) < 0.5)
    new = split(table, known, node, bad, torch.full((N, 2), ratio, dtype=torch.float64))
    assert not bool((new & node).any())
    for b in range(2):
        rows = known.rows[: known.count[b], b].tolist()
        for lo, hi in pairwise(rows):
            asked = bool(bad[lo, b] or bad[hi, b]) and hi - lo > 1
            assert bool(new[lo + 1 : hi, b].any()) == asked


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 10**6))
@CASES
def test_sums_over_segments_are_the_same_both_ways(lengths: list[int], seed: int) -> None:
    v = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    length = torch.tensor(lengths)
    expected = torch.stack([part.sum(0) for part in v.split(lengths)])
    into = torch.repeat_interleave(torch.arange(len(lengths)), length)
    assert torch.allclose(segment_sums(v, into, len(lengths)), expected)
    if len(v):
        reduced = torch.segment_reduce(v, "sum", lengths=length, axis=0, unsafe=True)  # what other devices take
        assert torch.allclose(reduced, expected)


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
