"""The rounding of what a network answers, whatever dtype a function around it gives it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import paradigms as pd
from paradigms.execution.model_output import grain
from problems import LINEAR, seeded, start
from toy import Mixture

HALVES = [torch.bfloat16, torch.float16, torch.float32]


@given(
    dtype=st.sampled_from(HALVES), scale=st.sampled_from([1e-4, 1.0, 37.0]), d=st.integers(64, 200), seed=st.integers()
)
def test_answers_of_a_coarser_dtype_are_known_by_their_numbers(
    dtype: torch.dtype, scale: float, d: int, seed: int
) -> None:
    m = scale * torch.randn(d, generator=seeded(seed % 2**63), dtype=torch.float64).to(dtype).double()
    m = m.to(dtype).double()
    assert grain(m) == torch.finfo(dtype).eps
    assert grain(m + 1e-9 * m.roll(1)) == 0 and grain(m.to(dtype)) == 0


@pytest.mark.parametrize("dtype", HALVES[:2])
@pytest.mark.parametrize("of", [torch.float32, torch.float64])
def test_a_coarse_answer_that_a_factor_was_put_on_is_known_by_how_few_numbers_it_has(
    dtype: torch.dtype, of: torch.dtype
) -> None:
    """As guidance's rescaling or a latent's factor do after the network; few different numbers alone say nothing."""
    m = torch.randn(4, 4096, generator=seeded(0)).to(dtype).to(of)
    assert grain(0.37 * m) == torch.finfo(dtype).eps
    fine = torch.randn(4, 4096, generator=seeded(0), dtype=of)
    usual = 0.0 if of == torch.float32 else grain(fine)
    for said in (fine, 0.37 * fine, (20 * fine).round() / 20, 0.3 * fine.sign(), torch.full_like(fine, 0.3)):
        assert grain(said) == usual


def test_copies_of_a_state_are_no_coarse_answers() -> None:
    """As in a window that `Copy` filled: 128 numbers, as many as bfloat16 has mantissas, each eight times."""
    fine = torch.randn(8, 16, generator=seeded(0), dtype=torch.float64).repeat(8, 1)
    assert len(fine.frexp().mantissa.abs().unique()) == 128 and grain(fine) == 0


@pytest.mark.parametrize("said", [torch.zeros, torch.ones, lambda *shape: torch.arange(float(shape[1])).expand(shape)])
def test_whole_numbers_are_no_rounding(said: Callable[..., Tensor]) -> None:
    assert grain(said(4, 100).double()) is None
    assert grain(torch.randn(4, 100, generator=seeded(0)).sign().double()) is None


@pytest.mark.parametrize("rule", ["ddim", "ddpm"])
@pytest.mark.parametrize("dtype", HALVES)
def test_a_network_in_a_function_sets_the_floor_of_a_tolerance(dtype: torch.dtype, rule: str) -> None:
    """At tolerance 0, where rows moved by the network's rounding for ever; 1e-12 was the floor."""
    system, exact = getattr(pd, rule)(LINEAR, 50), Mixture()
    x = start(system, 4, torch.float64)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return exact(x.to(dtype).double(), t).to(dtype).to(x.dtype)

    solution = pd.sample(model, system, x, window=50, tolerance=0.0, generator=seeded(1), compare=True)
    eps = torch.finfo(dtype).eps
    assert solution.tolerance == eps and solution.rounds <= 25
    assert solution.max_error is not None and solution.max_error <= 5 * eps


def test_a_network_in_float32_whose_answer_is_scaled_afterwards_is_known_by_its_weights() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 6))
    system = pd.ddim(LINEAR, 50)
    models: list[Any] = [lambda x, t: 1.1 * net(x.float()).double() + 0.3 * x, lambda x, t: net.double()(x)]
    for model, floor in zip(models, (torch.finfo(torch.float32).eps, 1e-12), strict=True):
        assert pd.sample(model, system, start(system), window=50, tolerance=0.0).tolerance == floor


@pytest.mark.parametrize("said", [torch.sign, torch.zeros_like, torch.round])
def test_answers_of_few_places_raise_no_floor(said: Callable[[Tensor], Tensor]) -> None:
    system = pd.ddim(LINEAR, 20, prediction="x0")
    solution = pd.sample(lambda x, t: said(x), system, start(system), window=8, tolerance=0.0, compare=True)
    assert solution.tolerance == 1e-12 and (solution.max_error or 0) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_numbers_many_times_are_no_half_precision(dtype: torch.dtype) -> None:
    """Equal samples, and samples of which most are 0: as many different numbers as bfloat16 has mantissas."""
    few = torch.randn(1, 124, generator=seeded(0), dtype=dtype)
    for said in (few.expand(16, -1), torch.cat([few, torch.zeros(15, 124, dtype=dtype)])):
        assert grain(said) == 0
