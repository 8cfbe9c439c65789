"""Flow's grid is what its docstring says, and a model of any noise levels is shown states of its own scale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import paradigms as pd
from problems import seeded

SIGMAS = torch.logspace(-2, 1.5, 60, dtype=torch.float64)  # noise to signal
SPACES: dict[str, Callable[[Tensor], Tensor]] = {  # alpha of a noise-to-signal ratio
    "preserving": lambda r: (1 + r**2).rsqrt(),
    "exploding": torch.ones_like,
    "flow": lambda r: 1 / (1 + r),
}


def schedule(space: str) -> pd.Schedule:
    """The same ratios in each space, a model being given the log of a ratio."""
    alpha = SPACES[space](SIGMAS)
    return pd.Schedule(SIGMAS.log(), alpha, alpha * SIGMAS)


def denoised(space: str) -> Callable[[Tensor, Tensor], Tensor]:
    """E[data | x] of data that are the Gaussian N(0.5, 0.4^2), x in a space."""

    def model(x: Tensor, t: Tensor) -> Tensor:
        ratio = t.exp()[:, None]
        seen = x / SPACES[space](ratio)  # data + ratio noise
        return (0.16 * seen + ratio**2 * 0.5) / (0.16 + ratio**2)

    return model


@pytest.mark.parametrize("make", [pd.flow, pd.flow_heun])
@pytest.mark.parametrize("space", SPACES)
def test_a_model_of_any_levels_is_sampled_alike_by_flow(space: str, make: Callable[..., pd.System]) -> None:
    """B12: variance exploding levels and flows were shown states of another scale, without a word."""
    x = torch.randn(4, 3, generator=seeded(0), dtype=torch.float64)
    found = [
        pd.sequential(denoised(s), make(40, schedule=schedule(s), prediction="x0"), x) for s in ("preserving", space)
    ]
    assert torch.allclose(*found, rtol=1e-9)
    ratio = float(SIGMAS[-1])
    start = 0.4 * (ratio * x / (1 + ratio)) / torch.tensor((0.16 + ratio**2) ** 0.5 / (1 + ratio)).double()
    exact = 0.5 + start - 0.4 * 0.5 / (0.16 + ratio**2) ** 0.5
    assert float((found[1] - exact).abs().max()) < 0.05


def test_levels_of_no_known_scale_are_refused() -> None:
    odd = pd.Schedule(torch.arange(3), torch.full((3,), 0.7), torch.tensor([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="schedule: given levels of another scale; needed: one where alpha"):
        pd.flow(3, schedule=odd)


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_flows_grid_is_diffusers_and_not_that_of_robotics_unless_asked(steps: int) -> None:
    """B12, as documented: from 1 to 1/T and then 0; with T = N the grid 1 - n/N."""
    usual, even = pd.flow(steps), pd.flow(steps, T=steps)
    s = torch.linspace(1, 1 / 1000, steps, dtype=torch.float64)
    assert torch.allclose(usual.sigma, s) and torch.allclose(usual.t, 1000 * s)
    n = torch.arange(steps, dtype=torch.float64)
    assert torch.allclose(even.sigma, 1 - n / steps) and torch.allclose(even.t, steps - n)
    for system in (usual, even):
        assert torch.allclose(system.a[-1:], torch.zeros(1).double())  # the last row ends without noise


def test_robotics_conventions_are_one_lambda_each() -> None:
    """B12, as documented: t in [0, 1], and data at t = 1 with a velocity of data - noise, by Euler's own loop."""
    N = 20
    x = torch.randn(2, 3, generator=seeded(0), dtype=torch.float64)

    def up(x: Tensor, t: Tensor) -> Tensor:  # data at t = 1
        return torch.tanh(x + t[:, None]) - x

    y = x
    for n in range(N):
        y = y + up(y, torch.full((2,), n / N).double()) / N
    found = pd.sequential(lambda x, t: -up(x, 1 - t / N), pd.flow(N, T=N), x)
    assert torch.allclose(found, y)

    def down(x: Tensor, t: Tensor) -> Tensor:  # noise at t = 1
        return x - torch.tanh(x + t[:, None])

    y = x
    for n in range(N):
        y = y - down(y, torch.full((2,), 1 - n / N).double()) / N
    assert torch.allclose(pd.sequential(lambda x, t: down(x, t / N), pd.flow(N, T=N), x), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fractional_times_have_the_states_dtype(dtype: torch.dtype) -> None:
    """B12: a float32 network is not told float64 times."""
    net, times = torch.nn.Linear(1, 3, dtype=dtype), set[torch.dtype]()

    def model(x: Tensor, t: Tensor) -> Tensor:
        times.add(t.dtype)
        return x - net(t[:, None] / 1000)

    x = torch.randn(2, 3, generator=seeded(0), dtype=dtype)
    assert pd.sample(model, pd.flow(10), x, window=4).x.dtype == dtype and times == {dtype}
    times.clear()
    pd.sample(lambda x, t: (times.add(t.dtype), x)[1], pd.ddim(pd.linear(), 10), x)
    assert times == {torch.int64}
