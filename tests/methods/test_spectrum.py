"""The cosine transform and its bands: against the sum as it is written in books, and against known pictures."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.methods.scan import carried_on, recur_rows
from paradigms.methods.spectrum import Spectrum, cosine_matrix, spectrum_of
from problems import LINEAR, seeded, start
from toy import Mixture

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...] | None, int]] = [  # of a state, its grid, and the places S
    ((6,), None, 1),
    ((5, 3), None, 5),
    ((2, 8, 8), None, 64),
    ((1, 7, 5), None, 35),
    ((2, 3, 4, 6), None, 72),
    ((12, 3), (3, 4), 12),
    ((12, 3), (2, 3, 2), 12),
]
each_shape = pytest.mark.parametrize(("shape", "grid", "places"), SHAPES)


def states(shape: tuple[int, ...], W: int = 3, B: int = 2, seed: int = 0) -> Tensor:
    """Float64 states (W, B, *shape)."""
    return torch.randn(W, B, *shape, generator=seeded(seed), dtype=torch.float64)


def frequency(s: Spectrum) -> list[float]:
    """|k / L| max L of each place, in the order of the coordinates."""
    lengths = [s.shape[axis] for axis in s.places]
    at = itertools.product(*(range(L) for L in lengths))
    return [math.hypot(*(k * max(lengths) / L for k, L in zip(ks, lengths, strict=True))) for ks in at]


@each_shape
def test_the_transform_turns_and_does_not_stretch(
    shape: tuple[int, ...], grid: tuple[int, ...] | None, places: int
) -> None:
    x = states(shape)
    s = spectrum_of(x[0], grid)
    v = s.forward(x)
    assert v.shape == (3, 2, math.prod(shape) // places, places)
    torch.testing.assert_close(s.inverse(v, x), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(v.flatten(2).norm(dim=2), x.flatten(2).norm(dim=2))
    torch.testing.assert_close(s.forward(s.inverse(v.flip(3), x)), v.flip(3), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4)])
def test_coordinates_are_the_cosine_sums_of_the_books(shape: tuple[int, ...]) -> None:
    """The type-II cosine transform, written out: no matrix, no movement of axes."""
    x = states(shape, 1, 1)
    v = spectrum_of(x[0]).forward(x)[0, 0]
    places = list(itertools.product(*(range(L) for L in shape[1:])))
    for c in range(shape[0]):
        for s, ks in enumerate(places):
            total = 0.0
            for at in places:
                term = float(x[0, 0][(c, *at)])
                for i, k, L in zip(at, ks, shape[1:], strict=True):
                    term *= math.cos(math.pi * (2 * i + 1) * k / (2 * L)) * math.sqrt((2 if k else 1) / L)
                total += term
            assert float(v[c, s]) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 64, 96), (1, 96, 5), (1, 5, 64), (1, 64, 3, 2)])
def test_a_long_axis_is_transformed_to_the_same_sums(shape: tuple[int, ...]) -> None:
    x = states(shape)
    s, found = spectrum_of(x[0]), x
    for axis, L in enumerate(shape[1:], 3):
        found = (found.movedim(axis, -1) @ cosine_matrix(L).T).movedim(-1, axis)
    torch.testing.assert_close(s.forward(x), found.flatten(3), atol=1e-12, rtol=0)
    torch.testing.assert_close(s.inverse(s.forward(x), x), x, atol=1e-12, rtol=0)


def test_a_row_of_actions_is_transformed_along_time_alone() -> None:
    x = states((5, 3), 1, 1)
    torch.testing.assert_close(spectrum_of(x[0]).forward(x)[0, 0], x[0, 0].T @ cosine_matrix(5).T)


def test_a_vector_is_left_as_it_is_in_one_band() -> None:
    x = states((6,))
    s = spectrum_of(x[0])
    assert torch.equal(s.forward(x)[..., 0], x)
    assert s.count.tolist() == [6] and s.prior.tolist() == [0.5]


@each_shape
def test_a_constant_picture_lives_in_band_0_alone_and_nothing_else_does(
    shape: tuple[int, ...], grid: tuple[int, ...] | None, places: int
) -> None:
    x = states(shape)
    s = spectrum_of(x[0], grid)
    flat = torch.full_like(x, 1.7)
    power = s.sums(s.forward(flat), s.forward(flat))
    torch.testing.assert_close(power[..., 0], flat.square().flatten(2).sum(2))
    assert float(power[..., 1:].abs().sum()) < 1e-20
    assert s.bands[0].sum() == 1 and s.bands[0, 0] == 1


@each_shape
def test_bands_part_the_places_by_half_octaves(
    shape: tuple[int, ...], grid: tuple[int, ...] | None, places: int
) -> None:
    s = spectrum_of(states(shape)[0], grid)
    assert s.bands.shape[1] == places and bool((s.bands.sum(0) == 1).all()) and bool((s.bands.sum(1) > 0).all())
    torch.testing.assert_close(s.count, s.bands.sum(1) * math.prod(shape) / places)
    f = torch.tensor(frequency(s), dtype=torch.float64)
    edges = []
    for band in s.bands[1:]:
        low, high = float(f[band == 1].min()), float(f[band == 1].max())
        j = math.floor(2 * math.log2(low) + 1e-9)
        assert high < 2 ** ((j + 1) / 2) - 1e-12, "half an octave, closed below and open above"
        edges.append(j)
    assert edges == sorted(set(edges)), "one band an interval, the low ones first"


@each_shape
def test_before_data_are_known_the_variance_is_a_half_in_the_mean_and_falls_as_in_pictures(
    shape: tuple[int, ...], grid: tuple[int, ...] | None, places: int
) -> None:
    s = spectrum_of(states(shape)[0], grid)
    assert float((s.count * s.prior).sum()) == pytest.approx(math.prod(shape) / 2)
    law = torch.tensor([1 / (1 + f**2) for f in frequency(s)], dtype=torch.float64)
    mean = torch.stack([law[band == 1].mean() for band in s.bands])
    torch.testing.assert_close(s.prior / s.prior[0], mean / mean[0])


@each_shape
def test_sums_and_spread_are_loops_over_the_bands(
    shape: tuple[int, ...], grid: tuple[int, ...] | None, places: int
) -> None:
    x, y = states(shape), states(shape, seed=1)
    s = spectrum_of(x[0], grid)
    u, v = s.forward(x), s.forward(y)
    found = s.sums(u, v)
    wide = s.spread(found)
    of = [next(f for f in range(len(s.bands)) if s.bands[f, k]) for k in range(places)]
    loop = torch.zeros_like(found)
    for k in range(places):
        loop[:, :, of[k]] += (u[..., k] * v[..., k]).sum(2)
        assert torch.equal(wide[:, :, 0, k], found[:, :, of[k]])
    torch.testing.assert_close(found, loop)


def test_tokens_on_their_grid_are_the_picture_they_were_cut_from() -> None:
    picture = states((3, 4, 6))
    tokens = picture.flatten(3).mT  # (W, B, 24, 3)
    one, two = spectrum_of(picture[0]), spectrum_of(tokens[0], (4, 6))
    torch.testing.assert_close(one.forward(picture), two.forward(tokens), atol=1e-13, rtol=0)
    assert torch.equal(one.bands, two.bands) and torch.equal(one.prior, two.prior)
    torch.testing.assert_close(two.inverse(two.forward(tokens), tokens), tokens, atol=1e-12, rtol=0)


@pytest.mark.parametrize("where", ["spectrum", "Spectral", "FinalError"])
def test_a_grid_that_does_not_hold_the_tokens_is_refused_with_the_number_needed(where: str) -> None:
    x, model = start(pd.ddim(LINEAR, 5), 2, d=12 * 3).unflatten(1, (12, 3)), Mixture()
    with pytest.raises(ValueError, match=r"grid: given \(3, 5\), 15 places; needed: 12"):
        if where == "spectrum":
            spectrum_of(x, (3, 5))
        elif where == "Spectral":
            pd.sample(model, pd.ddim(LINEAR, 5), x, pd.Spectral(grid=(3, 5)))
        else:
            pd.sample(model, pd.ddim(LINEAR, 5), x, tolerance=pd.FinalError(0.1, grid=(3, 5)))
    assert model.rows == 0, "before any work"


@settings(max_examples=40, deadline=None)
@given(W=st.integers(1, 33), B=st.integers(1, 3), K=st.integers(1, 3), at=st.integers(0, 6), seed=st.integers(0, 99))
def test_a_carry_in_bands_is_the_loop_it_replaces(W: int, B: int, K: int, at: int, seed: int) -> None:
    """d[n] = sum_k p[k,n] d[n-1-k] + r[n] row by row, each coordinate with the number of its band."""
    shape, grid, _ = SHAPES[at]
    r = states(shape, W, B, seed)
    s = spectrum_of(r[0], grid)
    r = s.forward(r)
    p = torch.randn(K, W, B, len(s.bands), generator=seeded(seed + 1), dtype=torch.float64) / K
    wide, d = p[..., None, :] @ s.bands, torch.zeros_like(r)
    for n in range(W):
        d[n] = r[n]
        for k in range(min(K, n)):
            d[n] += wide[k, n] * d[n - 1 - k]
    close = 1e-9 * max(1.0, float(d.abs().max()))
    torch.testing.assert_close(recur_rows(r, s.spread(p)), d, atol=close, rtol=0)
    torch.testing.assert_close(carried_on(recur_rows(r, s.spread(p)), s.spread(p)), d - r, atol=close, rtol=0)
