"""The exact denoiser of random fields: equal to dense linear algebra, and to what is known at the ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.models.mixture import FieldMixture


def dense_posterior_mean(model: FieldMixture, x: Tensor, t: Tensor) -> Tensor:
    """E[data | x] of one-channel x (M, 1, H, W) by covariance matrices (d, d), without a Fourier transform of data."""
    H, W = model.shape[1:]
    kernel = torch.fft.ifft2(model.spectrum).real  # covariance of pixels (i, j) apart
    i, j = (v.flatten() for v in torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"))
    C = kernel[(i[:, None] - i) % H, (j[:, None] - j) % W]
    means, found = model.means.flatten(1), []
    for row, alpha, sigma in zip(x.double().flatten(1), *model.levels(t), strict=True):
        V = alpha**2 * C + sigma**2 * torch.eye(H * W, dtype=torch.float64)
        law = [torch.distributions.MultivariateNormal(alpha * mu, V).log_prob(row) for mu in means]
        w = torch.softmax(torch.stack(law), 0)
        each = torch.stack([mu + alpha * C @ torch.linalg.solve(V, row - alpha * mu) for mu in means])
        found.append((w[:, None] * each).sum(0))
    return torch.stack(found).view_as(x)


def noised(model: FieldMixture, t: Tensor, seed: int = 0) -> Tensor:
    """A state (M, C, H, W) of the model's law at timesteps t (M,)."""
    g = torch.Generator().manual_seed(seed)
    alpha, sigma = (v[:, None, None, None] for v in model.levels(t))
    white = torch.randn(len(t), *model.shape, generator=g, dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(white) * model.spectrum.sqrt()).real
    data = model.means[torch.randint(len(model.means), (len(t),), generator=g)] + field
    return alpha * data + sigma * torch.randn(data.shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 4), (1, 5, 7)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 3e-4)])
def test_the_posterior_mean_is_that_of_dense_linear_algebra(
    shape: tuple[int, int, int], dtype: torch.dtype, close: float
) -> None:
    model, t = FieldMixture(shape, modes=4), torch.tensor([0.0, 3.5, 60, 250, 420, 480.25, 700, 999])
    x = noised(model, t)
    torch.testing.assert_close(
        model(x.to(dtype), t).double(), dense_posterior_mean(model, x.to(dtype), t), atol=close, rtol=0
    )


def test_two_channels_share_one_choice_of_mode() -> None:
    model, t = FieldMixture((2, 8, 8), modes=3), torch.tensor([500.0] * 4)
    x = noised(model, t)
    moved = x.clone()
    moved[:, 1] += 3 * (model.means[0] - model.means[1])[1]
    assert (model(moved, t)[:, 0] - model(x, t)[:, 0]).abs().max() > 1e-3


def test_without_noise_the_state_is_the_data_and_without_signal_the_mean_of_the_means_is_best() -> None:
    clean = pd.Schedule(torch.arange(2), torch.tensor([1.0, 1e-6]).double(), torch.tensor([1e-8, 1.0]).double())
    model = FieldMixture((1, 8, 8), schedule=clean)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(x, torch.zeros(3)), x, atol=1e-5, rtol=0)
    prior = model.means.mean(0).float().expand_as(x)
    torch.testing.assert_close(model(x, torch.ones(3)), prior, atol=1e-4, rtol=0)


def test_levels_between_timesteps_are_the_schedules_own_inverse() -> None:
    model = FieldMixture((1, 8, 8))
    ratio = torch.tensor([0.02, 0.3, 1.0, 40.0]).double()
    alpha, sigma = model.levels(model.schedule.time_at(ratio))
    torch.testing.assert_close(sigma / alpha, ratio)


def test_samples_have_the_spread_asked_for_and_come_from_several_modes() -> None:
    model = FieldMixture((1, 8, 8))
    system = pd.ddpm(pd.linear(), 100, prediction=model.prediction)
    g = torch.Generator().manual_seed(0)
    x = pd.sequential(model, system, system.noise((64, 1, 8, 8), g), generator=g)
    assert 0.4 < float(x.std()) < 0.6
    nearest = (x[:, None] - model.means.float()).flatten(2).norm(dim=2).argmin(1)
    assert len(nearest.unique()) >= 6


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"given \(2, 1, 4, 4\); needed: \(M, 1, 8, 8\)"):
        FieldMixture((1, 8, 8))(torch.zeros(2, 1, 4, 4), torch.zeros(2))
