"""denoising-diffusion-pytorch, azula and smalldiffusion: at tolerance 0 the sample is the library's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from paradigms.integrations import azula as az
from paradigms.integrations import denoising_diffusion_pytorch as dd
from paradigms.integrations import smalldiffusion as sd

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


# ------------------------------------------------------------------------------------------ lucidrains


class Tiny(nn.Module):
    """A U-Net's interface on a network of one convolution."""

    channels = out_dim = 1
    self_condition = False
    random_or_learned_sinusoidal_cond = False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        return torch.tanh(self.net(x)) + 0.5 * x * (t / 1000).view(-1, 1, 1, 1)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
@pytest.mark.parametrize("steps, eta", [(None, 0.0), (20, 0.0), (20, 0.7)])
@pytest.mark.parametrize("betas", ["linear", "cosine", "sigmoid"])
def test_denoising_diffusion_pytorch(objective: str, steps: int | None, eta: float, betas: str) -> None:
    library = pytest.importorskip("denoising_diffusion_pytorch.denoising_diffusion_pytorch", exc_type=ImportError)
    diffusion = library.GaussianDiffusion(
        Tiny(), image_size=8, timesteps=100, sampling_timesteps=steps, objective=objective, beta_schedule=betas,
        ddim_sampling_eta=eta,
    ).eval()  # fmt: skip
    torch.manual_seed(1)
    wanted = diffusion.sample(batch_size=3)
    torch.manual_seed(1)
    account: list[pd.Solution] = []
    found = dd.parallel_sample(diffusion, 3, tolerance=0, window=16, report=account.append)
    assert off(found, wanted) < 1e-5 and account[0].steps == (steps or 100)


def test_self_conditioning_is_refused() -> None:
    model = Tiny()
    model.self_condition = True
    library = pytest.importorskip("denoising_diffusion_pytorch.denoising_diffusion_pytorch", exc_type=ImportError)
    with pytest.raises(ValueError, match="self_condition"):
        dd.parallel_sample(library.GaussianDiffusion(model, image_size=8))
    with pytest.raises(ValueError, match="GaussianDiffusion"):
        dd.parallel_sample(model)


# ------------------------------------------------------------------------------------------ azula


class Backbone(nn.Module):
    """b(x (B, 5), t (B,), shift (B, 1))."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(6, 5, dtype=torch.float64)

    def forward(self, x: Tensor, t: Tensor, shift: Tensor | None = None) -> Tensor:
        D = torch.tanh(self.net(torch.cat([x, t.expand(len(x))[:, None]], 1)))
        return D if shift is None else D + 0.1 * shift


@pytest.mark.parametrize("schedule", ["VESchedule", "VPSchedule", "CosineSchedule", "RectifiedSchedule"])
@pytest.mark.parametrize("sampler, how", [
    ("DDPMSampler", {}), ("DDIMSampler", {}), ("DDIMSampler", {"eta": 0.3}), ("EulerSampler", {}), ("HeunSampler", {}),
])  # fmt: skip
@pytest.mark.parametrize("denoiser", ["SimpleDenoiser", "KarrasDenoiser"])
def test_azula(schedule: str, sampler: str, how: dict[str, Any], denoiser: str) -> None:
    pytest.importorskip("azula")
    import azula.denoise
    import azula.noise
    import azula.sample

    made = getattr(azula.denoise, denoiser)(Backbone(), getattr(azula.noise, schedule)())
    theirs = getattr(azula.sample, sampler)(made, steps=24, silent=True, dtype=torch.float64, **how)
    x = theirs.init((3, 5), dtype=torch.float64)
    shift = torch.arange(3.0, dtype=torch.float64)[:, None]
    torch.manual_seed(1)
    wanted = theirs(x, shift=shift)
    torch.manual_seed(1)
    ours = az.parallel(theirs, tolerance=0, window=8)
    assert off(ours(x, shift=shift), wanted) < 1e-5
    assert ours.solution is not None and ours.solution.steps == (48 if sampler == "HeunSampler" else 24)


def test_azulas_other_samplers_are_refused() -> None:
    with pytest.raises(ValueError, match="DDIMSampler"):
        az.parallel(object())


# ------------------------------------------------------------------------------------------ smalldiffusion


@pytest.mark.parametrize("gam, mu", [(1.0, 0.0), (1.0, 0.5), (2.0, 0.0), (1.5, 0.2)])
@pytest.mark.parametrize("kind", ["epsilon", "PredX0", "PredV"])
def test_smalldiffusion(gam: float, mu: float, kind: str) -> None:
    library = pytest.importorskip("smalldiffusion")
    from accelerate import Accelerator

    base = library.TimeInputMLP
    torch.manual_seed(0)
    model = (base if kind == "epsilon" else getattr(library, kind)(base))(dim=2, hidden_dims=(16, 16)).double()
    sigmas = library.ScheduleLogLinear(N=200, sigma_min=0.02, sigma_max=5).sample_sigmas(30).double()
    x = sigmas[0] * torch.randn(4, 2, dtype=torch.float64)
    noise = torch.stack([torch.randn(4, 2, dtype=torch.float64) for _ in range(30)])
    each = iter(noise)
    model.rand_input = lambda n: next(each)
    *_, wanted = library.samples(model, sigmas, gam, mu, xt=x, accelerator=Accelerator(cpu=True))
    system = pd.from_levels(None, 1.0, sigmas, "gamma", gamma=gam, mu=mu)
    found = pd.sample(sd._Noise(model, 0.0), system, x, noise=noise, tolerance=0, window=8).x
    assert off(found, wanted) < 1e-5


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_smalldiffusion_from_one_seed(mu: float) -> None:
    library = pytest.importorskip("smalldiffusion")
    from accelerate import Accelerator

    model = library.TimeInputMLP(dim=2, hidden_dims=(16, 16))
    sigmas = library.ScheduleLogLinear(N=200, sigma_min=0.02, sigma_max=5).sample_sigmas(30)
    torch.manual_seed(1)
    *_, wanted = library.samples(model, sigmas, 1.0, mu, batchsize=4, accelerator=Accelerator(cpu=True))
    torch.manual_seed(1)
    account: list[pd.Solution] = []
    found = sd.parallel_samples(model, sigmas, 1.0, mu, batchsize=4, tolerance=0, window=8, report=account.append)
    assert off(found, wanted) < 1e-4 and account[0].steps == 30


def test_smalldiffusion_guided() -> None:
    library = pytest.importorskip("smalldiffusion")
    from accelerate import Accelerator

    class Conditional(library.TimeInputMLP):  # type: ignore[misc, name-defined]
        cond_embed = SimpleNamespace(null_cond=9.0)

        def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
            assert cond is not None
            return super().forward(x, sigma) + 0.1 * cond[:, None] * x

    torch.manual_seed(0)
    model, cond = Conditional(dim=2, hidden_dims=(16,)), torch.tensor([0.0, 1.0, 2.0])
    sigmas = library.ScheduleLogLinear(N=200, sigma_min=0.02, sigma_max=5).sample_sigmas(30)
    x = sigmas[0] * torch.randn(3, 2)
    *_, wanted = library.samples(model, sigmas, 1.0, 0.0, 1.5, 3, x, cond, Accelerator(cpu=True))
    found = sd.parallel_samples(model, sigmas, 1.0, 0.0, 1.5, 3, x, cond, tolerance=0, window=8)
    assert off(found, wanted) < 1e-4
