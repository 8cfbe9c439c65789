"""Few samples are judged in plain numbers and many in tensors, by one rule with one result."""

from __future__ import annotations

import math

import pytest
import torch

import paradigms as pd
from paradigms.stopping import arithmetic
from paradigms.stopping.arithmetic import NUMBERS, TENSORS
from paradigms.window.controller import WindowController
from problems import LINEAR, seeded
from toy import Mixture


@pytest.mark.parametrize("method", [pd.Spectral(), pd.Picard(), pd.Parareal()], ids=repr)
@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
def test_numbers_and_tensors_judge_alike(rule: str, method: pd.AbstractMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    system = getattr(pd, rule)(LINEAR, 40)
    x, found = system.noise((3, 6), seeded(0)), []
    for few in (0, 24):
        monkeypatch.setattr(arithmetic, "FEW", few)
        g = seeded(1)
        found.append(pd.sample(Mixture(), system, x, method, window=8, tolerance=0.01, generator=g))
    many, few = found
    assert torch.equal(many.x, few.x) and torch.equal(many.sample_rounds, few.sample_rounds)
    assert many.estimate is not None and torch.allclose(many.estimate, few.estimate, rtol=1e-9)


def test_numbers_and_tensors_judge_alike_when_windows_grow_beyond_plain_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Scripted(WindowController):
        def __init__(self) -> None:
            self.plans = iter([(4, 1), (4, 1), (1, 2), (16, 1), (1, 2), (4, 1)])

        def next(self, row: int) -> tuple[int, int]:
            return next(self.plans, (8, 1))

    system = pd.ddpm(LINEAR, 60)
    x, found = system.noise((3, 6), seeded(0)), []
    for few in (0, 24, 1000):
        monkeypatch.setattr(arithmetic, "FEW", few)
        found.append(pd.sample(Mixture(), system, x, window=Scripted(), tolerance=0.01, generator=seeded(1)))
    for other in found[1:]:
        assert torch.equal(found[0].x, other.x) and torch.equal(found[0].sample_rounds, other.sample_rounds)
        assert torch.allclose(found[0].estimate, other.estimate, rtol=1e-9)


@pytest.mark.parametrize("one", [1.0, 2.0, math.nan])
@pytest.mark.parametrize("other", [1.0, math.nan])
def test_what_is_no_number_is_the_larger_of_two(one: float, other: float) -> None:
    number, tensor = NUMBERS.maximum(one, other), TENSORS.maximum(torch.tensor([one]), torch.tensor([other]))
    assert math.isnan(number) == math.isnan(one + other) == math.isnan(float(tensor))
    assert math.isnan(number) or number == max(one, other) == float(tensor)
