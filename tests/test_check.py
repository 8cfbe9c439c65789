"""Bad input is refused before any work, by a message that says what was given and what is needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from problems import LINEAR


def untouched(x: Tensor, t: Tensor) -> Tensor:
    """A model that must never be reached."""
    raise AssertionError("the model was called before the input was checked")


SYSTEM = pd.ddpm(LINEAR, 10)
X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"tolerance": -0.1}, "tolerance: given -0.1; needed: a finite number, 0"),
        ({"tolerance": math.nan}, "tolerance: given nan"),
        ({"tolerance": math.inf}, "tolerance: given inf"),
        ({"tolerance": "tight"}, "tolerance: given 'tight'"),
        ({"window": 0}, "window: given 0; needed: a whole number of rows, at least 1"),
        ({"window": 2.5}, "window: given 2.5"),
        ({"window": True}, "window: given True"),
        ({"max_rounds": 0}, "max_rounds: given 0"),
        ({"noise": torch.zeros(9, 2, 3)}, r"noise: given \(9, 2, 3\); needed: \(10, 2, 3\)"),
        ({"noise": torch.full((10, 2, 3), math.nan)}, r"noise: not finite at index \(0, 0, 0\)"),
        ({"generator": [torch.Generator()]}, "generator: given 1; needed: one, or one for each of the 2 samples"),
        ({"condition": {"label": torch.zeros(3)}}, r"condition 'label': given \(3,\); needed: a tensor with 2 rows"),
        ({"condition": {"label": 3}}, "condition 'label': given int"),
    ],
)
def test_bad_arguments(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pd.sample(untouched, SYSTEM, X, **how)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (torch.zeros(3), r"x: given \(3,\); needed: a floating-point tensor \(batch, ...\)"),
        (torch.zeros(0, 3), r"x: given \(0, 3\)"),
        (torch.zeros(2, 3, dtype=torch.long), r"x: given \(2, 3\); needed: a floating-point"),
        ([[0.0]], "x: given list"),
        (torch.tensor([[0.0, math.inf]]), r"x: not finite at index \(0, 1\)"),
    ],
)
def test_bad_starting_noise(x: Any, says: str) -> None:
    for run in (pd.sample, pd.iterate, pd.sequential):
        with pytest.raises(ValueError, match=says):
            run(untouched, SYSTEM, x)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.ddpm(LINEAR, 1001), "steps: given 1001; needed: a whole number from 1 to 1000"),
        (lambda: pd.ddim(LINEAR, 0), "steps: given 0"),
        (lambda: pd.heun(LINEAR, -3), "steps: given -3"),
        (lambda: pd.flow(10.0), "steps: given 10.0"),  # type: ignore[arg-type]
        (lambda: pd.dpmsolver(LINEAR, 1000, spacing="leading"), "needed: fewer than 1000 with leading spacing"),
        (
            lambda: pd.ddpm(LINEAR, 10, spacing="even"),
            "spacing: given 'even'; needed: one of leading, trailing, linspace",
        ),
        (lambda: pd.ddpm(LINEAR, 10, offset=200), "offset: given 200"),
        (lambda: pd.ddpm(LINEAR, 10, variance="learned"), "variance: given 'learned'"),
        (lambda: pd.ddim(LINEAR, 10, eta=1.5), "eta: given 1.5"),
        (
            lambda: pd.ddim(LINEAR, 10, prediction="noise"),
            "prediction: given 'noise'; needed: one of epsilon, v, flow, x0",
        ),
        (lambda: pd.ddim(LINEAR, 10, clip=0.0), "clip: given 0.0"),
        (lambda: pd.ddim(LINEAR, 10, threshold=(2.0, 1.0)), "threshold: given"),
        (lambda: pd.flow(10, shift=0.0), "shift: given 0.0"),
        (lambda: pd.ddim(pd.rectified_flow(), 10), "for a flow-matching model use flow"),
        (lambda: pd.from_betas(torch.tensor([0.1, -0.1])), "betas: given shape"),
        (
            lambda: pd.ddim(pd.zero_terminal_snr(LINEAR), 10, spacing="trailing"),
            "at zero SNR noise says nothing of the data: use 'v' or 'x0'",
        ),
    ],
)
def test_bad_rules(make: Callable[[], pd.System], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_table_that_is_none_is_refused_when_built() -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="b needs"):
        replace(SYSTEM, b=SYSTEM.b[:5])
    with pytest.raises(ValueError, match="c is not finite"):
        replace(SYSTEM, c=SYSTEM.c * math.nan)
    with pytest.raises(ValueError, match="std must be positive"):
        replace(SYSTEM, std=SYSTEM.std * 0)
    with pytest.raises(ValueError, match="further back than the first row"):
        replace(SYSTEM, b=torch.ones(10, 2))
