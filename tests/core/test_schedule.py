"""Noise schedules against diffusers' tables and against algebra."""

from __future__ import annotations

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import paradigms as pd
from paradigms.schedule import SPACINGS, karras_ratios, timesteps
from toy import Mixture

TABLES = {
    "linear": (pd.linear(), {"beta_schedule": "linear"}),
    "scaled_linear": (
        pd.scaled_linear(),
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    "cosine": (pd.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
    "zero terminal SNR": (
        pd.zero_terminal_snr(pd.linear()),
        {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_schedules_are_those_of_diffusers(name: str) -> None:
    schedule, config = TABLES[name]
    theirs = diffusers.DDIMScheduler(**config).alphas_cumprod.double()
    assert torch.allclose(schedule.alpha**2, theirs, rtol=2e-4, atol=1e-9)
    assert torch.allclose(schedule.alpha**2 + schedule.sigma**2, torch.ones(1000).double())


@given(N=st.integers(1, 1000), spacing=st.sampled_from(SPACINGS))
def test_timesteps_are_descending_and_those_of_diffusers(N: int, spacing: str) -> None:
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(N)
    ours, theirs = timesteps(1000, N, spacing), scheduler.timesteps
    if len(theirs) == N:  # rounding gives diffusers a step too many in 11 of the 1000 trailing cases, as at 61
        assert torch.equal(ours, theirs)
    assert bool((ours.diff() < 0).all())


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_time_at_inverts_the_ratio(name: str) -> None:
    schedule = TABLES[name][0]
    assert torch.allclose(schedule.time_at(schedule.ratio), torch.arange(1000).double(), atol=1e-6)


def test_karras_ratios_are_even_in_the_seventh_root() -> None:
    root = karras_ratios(0.002, 80.0, 18) ** (1 / 7)
    assert torch.allclose(root.diff(), root.diff()[:1]) and float(root[0]) == pytest.approx(80 ** (1 / 7))


@pytest.mark.parametrize("rule", [pd.ddpm, pd.ddim, pd.dpmsolver, pd.heun])
def test_a_model_can_be_sampled_on_another_schedule_than_its_own(rule: type) -> None:
    """Told its own timesteps for the levels, a model of the linear schedule answers as one of the scaled-linear."""
    other = pd.scaled_linear()
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    native, foreign = rule(other, 40), rule(other.retimed(pd.linear()), 40)
    x = x * native.start
    how = [torch.Generator().manual_seed(1) for _ in range(2)]
    a = pd.sequential(Mixture(schedule=other), native, x, generator=how[0])
    b = pd.sequential(Mixture(schedule=pd.linear()), foreign, x, generator=how[1])
    assert float((a - b).norm() / a.norm()) < 2e-3, "times between rows are interpolated, so this is not exact"
