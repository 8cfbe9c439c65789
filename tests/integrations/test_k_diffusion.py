"""k-diffusion's calls, in parallel, against k-diffusion's own samplers: equal at tolerance 0, callbacks included."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.integrations import k_diffusion as ours
from toy import Mixture


def theirs() -> Any:
    """k-diffusion's samplers; the package itself imports what evaluates pictures, which is not needed."""
    if "k_diffusion" not in sys.modules:
        spec = find_spec("k_diffusion")
        if spec is None or spec.origin is None:
            pytest.skip("k-diffusion is not installed", allow_module_level=True)
        package = ModuleType("k_diffusion")
        package.__path__ = [str(Path(spec.origin).parent)]
        sys.modules["k_diffusion"] = package
    import k_diffusion.sampling

    return k_diffusion.sampling


K = theirs()
SIGMAS = torch.cat([pd.schedule.karras_ratios(0.03, 20.0, 24), torch.zeros(1)]).double()
NAMES = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "lms"]
MIXTURE = Mixture()


def model(x: Tensor, sigma: Tensor, shift: Tensor | None = None, scale: float = 1.0, more: Any = None) -> Tensor:
    """A denoiser of k-diffusion's kind, with the extra arguments that one may have."""
    D = MIXTURE.denoise(x, torch.ones_like(sigma)[:, None], sigma[:, None])
    D = D if shift is None else D + 0.1 * shift
    return scale * (D if more is None else D + 0.05 * more["cond"][0])


def start(sigmas: Tensor = SIGMAS, B: int = 3) -> Tensor:
    return sigmas[0] * torch.randn(B, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def both(name: str, sigmas: Tensor = SIGMAS, window: int = 8, tolerance: float = 0.0, **how: Any) -> tuple[Any, Any]:
    """The sample of ours and theirs, from one seed, and what each callback was told."""
    made = []
    for library, own in ((ours, {"tolerance": tolerance, "window": window}), (K, {})):
        torch.manual_seed(3)
        told: list[dict[str, Any]] = []
        sampler = getattr(library, f"sample_{name}")
        made.append((sampler(model, start(sigmas), sigmas, callback=told.append, disable=True, **how, **own), told))
    return made[0], made[1]


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [25, 24, 10])  # to no noise at all, to the last level above it, and less far
def test_it_equals_k_diffusion_and_tells_its_callback_the_same(name: str, rows: int) -> None:
    sigmas = SIGMAS[:rows]
    (found, told), (wanted, heard) = both(name, sigmas)
    assert off(found, wanted) < 1e-5  # LMS's coefficients are integrals by quadrature there
    assert [one["i"] for one in told] == [one["i"] for one in heard] == list(range(len(sigmas) - 1))
    for one, other in zip(told, heard, strict=True):
        assert float(one["sigma"]) == float(other["sigma"])
        assert off(one["x"], other["x"]) < 1e-5 and off(one["denoised"], other["denoised"]) < 1e-5


def test_eta_s_noise_and_a_noise_sampler() -> None:
    (found, _), (wanted, _) = both("euler_ancestral", eta=0.6, s_noise=0.9)
    assert off(found, wanted) < 1e-9

    def noise(sigma: Tensor, after: Tensor) -> Tensor:
        g = torch.Generator().manual_seed(int(float(sigma) * 1e6))
        return torch.randn(3, 6, generator=g, dtype=torch.float64)

    (found, _), (wanted, _) = both("euler_ancestral", noise_sampler=noise)
    assert off(found, wanted) < 1e-9


def test_extra_arguments_are_those_of_each_row() -> None:
    extra = {
        "shift": torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64), "scale": 0.99,
        "more": {"cond": [torch.arange(3.0, dtype=torch.float64)[:, None], "text"]},
    }  # fmt: skip
    (found, _), (wanted, _) = both("dpmpp_2m", extra_args=extra)
    assert off(found, wanted) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_by_default_it_takes_fewer_rounds(name: str) -> None:
    sigmas = torch.cat([pd.schedule.karras_ratios(0.03, 20.0, 100), torch.zeros(1)]).double()
    torch.manual_seed(3)
    wanted = getattr(K, f"sample_{name}")(model, start(sigmas), sigmas, disable=True)
    account: list[pd.Solution] = []
    torch.manual_seed(3)
    sampler = getattr(ours, f"sample_{name}")
    found = sampler(model, start(sigmas), sigmas, disable=True, window=32, report=account.append)
    assert off(found, wanted) < 0.01 and account[0].rounds < account[0].steps / 2


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="type 'euler'"):
        ours.sample_paradigms(model, start(), SIGMAS, sampler="eular")
    with pytest.raises(ValueError, match="sigma"):
        ours.sample_euler(model, start(), SIGMAS.flip(0))
    with pytest.raises(TypeError, match="s_churn"):
        ours.sample_euler(model, start(), SIGMAS, s_churn=1.0)
