"""The noise of a row is that of stepping, whoever asks for it first and in whatever window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.noise import Noise, replica_generators
from problems import LINEAR, seeded

N, B, d = 12, 3, 4
X = torch.zeros(B, d, dtype=torch.float64)
WAYS = ["one generator", "a generator a sample", "given"]


def noise(system: pd.System, way: str) -> Noise:
    """Noise of a seed, in one of the ways that it may be asked for."""
    generator: Any = [seeded(b) for b in range(B)] if way == "a generator a sample" else seeded(7)
    z = torch.randn(len(system), B, d, generator=seeded(3), dtype=torch.float64)
    return Noise(system, X, None if way == "given" else generator, z if way == "given" else None)


def rows(begin: int, end: int) -> Tensor:
    """Row numbers (W, B)."""
    return torch.arange(begin, end)[:, None].expand(-1, B)


def whole(system: pd.System, way: str) -> Tensor:
    """z (N, B, d), row by row."""
    made = noise(system, way)
    return torch.cat([made.rows(rows(n, n + 1), n, n + 1) for n in range(len(system))])  # type: ignore[misc]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [0, 1, 5, 11])
def test_a_first_call_past_row_0_gives_the_rows_that_were_asked_for(way: str, first: int) -> None:
    """A15, of given noise too."""
    system = pd.ddpm(LINEAR, N)
    found = noise(system, way).rows(rows(first, N), first, N)
    assert found is not None and torch.equal(found, whole(system, way)[first:])


@settings(max_examples=60, deadline=None)
@given(
    way=st.sampled_from(WAYS), moves=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), min_size=1, max_size=8),
    rule=st.sampled_from([lambda: pd.ddpm(LINEAR, N), lambda: pd.ddim(LINEAR, N, eta=0.5)]),
)  # fmt: skip
def test_any_walk_forward_gives_the_rows_of_stepping(way: str, moves: list[tuple[int, int]], rule: Any) -> None:
    """A15: jumps past what was drawn, windows that grow and shrink."""
    system = rule()
    made, z, begin = noise(system, way), whole(system, way), 0
    for jump, length in moves:
        begin = min(begin + jump, N - 1)
        end = min(begin + length, N)
        found = made.rows(rows(begin, end), begin, end)
        assert found is not None and torch.equal(found, z[begin:end])


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_are_forgotten_are_refused_and_not_taken_for_others(way: str) -> None:
    made = noise(pd.ddpm(LINEAR, N), way)
    made.rows(rows(4, 8), 4, 8)
    with pytest.raises(ValueError, match="noise: given row 3; needed: 4 or later, for rows before are forgotten"):
        made.rows(rows(3, 6), 3, 6)


def test_one_samples_rows_are_found_wherever_they_begin() -> None:
    made, x = Noise(pd.ddpm(LINEAR, N), X[:1], seeded(7), None), X[:1]
    z = Noise(pd.ddpm(LINEAR, N), x, seeded(7), None).rows(torch.arange(N)[:, None], 0, N)
    found = made.rows(torch.arange(6, 8)[:, None], 5, 8)
    assert z is not None and found is not None and torch.equal(found, z[6:8])


@pytest.mark.parametrize("shared", [[0, 0, 0], [0, 1, 0], [0, 1, 2]])
def test_a_generator_that_is_given_twice_is_one_in_its_replica_too(shared: list[int]) -> None:
    """A10: `generator=[g, g], compare=True` and `verify=True` compare with the same noise."""

    def generators() -> list[torch.Generator]:
        made = [seeded(k) for k in range(3)]
        return [made[k] for k in shared]

    copies = replica_generators(generators(), torch.device("cpu"))
    assert [copies.index(g) for g in copies] == [shared.index(k) for k in shared]  # type: ignore[union-attr]
    system = pd.ddpm(LINEAR, 20)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x)

    found = pd.sample(model, system, X, window=6, tolerance=0.0, generator=generators(), compare=True, verify=True)
    assert found.max_error is not None and found.max_error <= 1e-10 and found.verification is not None
    assert float(found.verification.residual.max()) <= 1e-10
    stepped = pd.sequential(model, system, X, generator=generators())
    assert found.comparison is not None and torch.equal(found.comparison.x, stepped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_whole_blocks_drawn_at_once_are_those_drawn_one_by_one(dtype: torch.dtype) -> None:
    """Of 16 numbers or a multiple: what `BLOCK` says of torch, and a last row that is not drawn."""
    system, x = pd.ddpm(LINEAR, N), torch.zeros(2, 3, 8, dtype=dtype)
    at_once = Noise(system, x, seeded(7), None).rows(torch.arange(N)[:, None].expand(-1, 2), 0, N)
    g = seeded(7)
    each = [torch.randn(x.shape, generator=g, dtype=dtype) for _ in range(N - 1)]
    assert at_once is not None and torch.equal(at_once, torch.stack([*each, torch.zeros_like(x)]))
