"""Few samples are judged in plain numbers and many in tensors, by one rule with one result."""

from __future__ import annotations

import math

import pytest
import torch

import paradigms as pd
from paradigms.stopping import arithmetic
from paradigms.stopping.arithmetic import NUMBERS, TENSORS
from problems import LINEAR, seeded
from toy import Mixture


@pytest.mark.parametrize("method", [pd.Spectral(), pd.Picard(), pd.Parareal()], ids=repr)
@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
def test_numbers_and_tensors_judge_alike(rule: str, method: pd.AbstractMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    system = getattr(pd, rule)(LINEAR, 40)
    x, found = system.noise((3, 6), seeded(0)), []
    for few in (0, 3):
        monkeypatch.setattr(arithmetic, "FEW", few)
        g = seeded(1)
        found.append(pd.sample(Mixture(), system, x, method, window=8, tolerance=0.01, generator=g))
    many, few = found
    assert torch.equal(many.x, few.x) and torch.equal(many.sample_rounds, few.sample_rounds)
    assert many.estimate is not None and torch.allclose(many.estimate, few.estimate, rtol=1e-9)


@pytest.mark.parametrize("one", [1.0, 2.0, math.nan])
@pytest.mark.parametrize("other", [1.0, math.nan])
def test_what_is_no_number_is_the_larger_of_two(one: float, other: float) -> None:
    number, tensor = NUMBERS.maximum(one, other), TENSORS.maximum(torch.tensor([one]), torch.tensor([other]))
    assert math.isnan(number) == math.isnan(one + other) == math.isnan(float(tensor))
    assert math.isnan(number) or number == max(one, other) == float(tensor)
