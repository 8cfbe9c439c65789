"""Models made from models: dtypes at the border, conditions row by row, guidance, and no silent NaN."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from problems import LINEAR, seeded, start
from toy import Mixture


class Half(nn.Module):
    """A module in a dtype of its own that notes what it is given."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=dtype))
        self.given: set[torch.dtype] = set()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.given.add(x.dtype)
        return x * self.scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_stays_in_float32_and_the_floor_of_a_tolerance_is_the_networks(dtype: torch.dtype) -> None:
    model, system = Half(dtype), pd.ddpm(LINEAR, 20)
    for x in (start(system, 2, torch.float32), start(system, 2, dtype)):
        solution = pd.sample(model, system, x, window=6, tolerance=0.0, generator=seeded(1), compare=True)
        assert solution.x.dtype == torch.float32 and model.given == {dtype}
        assert solution.tolerance == torch.finfo(dtype).eps, "the finest that such numbers hold"
        assert (solution.max_error or 0) <= solution.tolerance


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("run", ["sample", "sequential"])
def test_a_model_that_says_nan_stops_by_row_timestep_and_sample(run: str, bad: float) -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        m = torch.zeros_like(x)
        m[(t == 800) & (torch.arange(len(x)) % 3 == 2), 1] = bad  # rows come sample by sample within a row
        return m

    system = pd.ddim(LINEAR, 10)
    with pytest.raises(pd.NonFiniteError, match=r"row 1 of 10 \(t = 800\), sample 2"):
        getattr(pd, run)(model, system, start(system, 3))


def test_large_but_finite_outputs_are_no_fault() -> None:
    system = pd.ddim(LINEAR, 3, prediction="x0")
    x = start(system, 2, torch.float32)
    solution = pd.sample(lambda x, t: torch.full_like(x, 3e38), system, x, window=1, tolerance=0.0)
    assert solution.rounds == 3


def test_a_model_that_changes_the_shape_is_refused() -> None:
    system = pd.ddpm(LINEAR, 5)
    with pytest.raises(ValueError, match=r"given \(\d+, 6\), it returned \(\d+, 5\)"):
        pd.sample(lambda x, t: x[:, :5], system, start(system, 3), window=32)


@pytest.mark.parametrize("window", [1, 8, "auto"])
def test_a_model_that_raises_stop_iteration_is_named(window: Any) -> None:
    def drawing(x: Tensor, t: Tensor) -> Tensor:
        return next(iter(list[Tensor]()))

    system = pd.ddpm(LINEAR, 5)
    with pytest.raises(RuntimeError, match=r"model: drawing raised StopIteration\(\)") as raised:
        pd.sample(drawing, system, start(system, 3), window=window)
    assert isinstance(raised.value.__cause__, StopIteration)


def test_conditions_follow_their_samples_through_any_window() -> None:
    def model(x: Tensor, t: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        assert shift.shape == (len(x), 1) and scale.shape == (len(x),)
        return (x - shift) * scale[:, None]

    system = pd.ddim(LINEAR, 20)
    x, shift, scale = start(system, 4), torch.arange(4.0)[:, None].double(), torch.linspace(0.2, 0.9, 4).double()
    condition = {"shift": shift, "scale": scale}
    together = pd.sample(model, system, x, window=7, tolerance=0.0, condition=condition).x
    for b in range(4):
        alone = pd.sequential(lambda x, t, b=b: (x - shift[b]) * scale[b], system, x[b : b + 1])
        assert torch.allclose(together[b : b + 1], alone)
        assert not torch.allclose(together[b - 1], alone[0], rtol=1e-2)


def test_guidance_is_the_formula_and_its_dtype_is_the_modules() -> None:
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 6, dtype=torch.bfloat16)

        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            assert x.dtype == torch.bfloat16
            return x + self.table(label)

    inner = Labelled()
    x, t, y = torch.randn(5, 6).bfloat16(), torch.arange(5), torch.tensor([0, 1, 2, 0, 1])
    guided = pd.Guided(inner, 3.0, label=3)
    m, m_null = inner(x, t, y), inner(x, t, torch.full((5,), 3))
    assert torch.equal(guided(x, t, label=y), m_null + 3.0 * (m - m_null))
    system = pd.ddim(LINEAR, 5)
    solution = pd.sample(
        guided, system, start(system, 5, torch.float32), condition={"label": y}, compare=True, window=32
    )
    assert solution.converged and solution.evaluations > 0


def test_time_in_the_model_is_counted_apart() -> None:
    system = pd.ddpm(LINEAR, 30)
    solution = pd.sample(Mixture(), system, start(system), generator=seeded(1))
    assert 0 < solution.model_seconds < solution.seconds


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_sampling_on_cuda_with_a_cpu_generator_equals_sequential_there() -> None:
    system = pd.ddpm(LINEAR, 40)
    x = start(system, 3).cuda()
    solution = pd.sample(
        Mixture(), system, x, pd.Picard(pd.Extrapolate()), tolerance=0, window=32, generator=seeded(1), compare=True
    )
    assert solution.x.is_cuda and (solution.max_error or 0) < 1e-10
