"""Samples in doubt are made again, at no more rounds than tolerance 0 takes, and the solution says what happened."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import paradigms as pd
from problems import RULES, gaussians, seeded

KINDS = {"ddim": 40, "ddpm": 30, "dpmsolver": 20, "flow": 24}
MODELS = {
    "near modes": (16, gaussians(0.5, 0.3, 16, 5)),
    "modes": (16, gaussians(1.0, 0.3, 16, 3)),
    "far modes": (16, gaussians(3.0, 0.3, 16, 7)),
}


def made(rule: str, modes: str, dtype: torch.dtype, tolerance: float, **how: Any) -> pd.Solution:
    """Two samples beside the sequential ones."""
    (d, model), system = MODELS[modes], RULES[rule](KINDS[rule])
    x = system.noise((2, d), seeded(11), dtype=dtype)
    how = {"window": 12, "generator": seeded(2), "compare": True} | how
    return pd.sample(model, system, x, tolerance=tolerance, **how)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tolerance_takes_more_rounds_than_zero(dtype: torch.dtype) -> None:
    """At 1e-4 in float32 chains of these kinds took 1.3 times the rounds of tolerance 0."""
    chains = [(rule, modes) for rule in KINDS for modes in MODELS]
    exact = sum(made(*chain, dtype, 0.0).rounds for chain in chains)
    for tolerance in (1e-4, 3e-4, 3e-3):
        runs = [made(*chain, dtype, tolerance) for chain in chains]
        assert sum(run.rounds for run in runs) <= 1.1 * exact, (tolerance, exact)
        assert all(run.converged and (run.max_error or 0) <= tolerance for run in runs), tolerance


def test_the_last_attempt_is_windows_of_exact_rows() -> None:
    run = made("ddim", "far modes", torch.float32, 1e-3)
    (again,) = run.retries
    assert again.samples == (0,) and again.tolerance == 0 and max(each.window for each in again.records) == 12
    assert run.rounds == sum(max(each.single, 1) for each in run.records) + len(again.records) < len(run.trace) + 1
    assert run.status == ("converged",) * 2 and "1 sample made again" in repr(run)
    assert run.estimate is not None and 0 < float(run.estimate[0]) <= 2.5e-3


def test_a_growth_beyond_rounding_is_stepped_through() -> None:
    """A clipped chain multiplies a unit in the last place by ten thousand: windows of exact rows are not enough."""
    d, model = MODELS["far modes"]
    system = RULES["ddim, clipped"](50)
    x = system.noise((4, d), seeded(11))
    run = pd.sample(model, system, x, window=16, tolerance=3e-4, compare=True)
    assert run.retries[-1].tolerance == 0 and {each.window for each in run.retries[-1].records} == {1}
    made_so = list(run.retries[-1].samples)
    assert run.error is not None and float(run.error[made_so].max()) < 1e-6
