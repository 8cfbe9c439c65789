"""The ComfyUI node, on a model that treats a batch as ComfyUI does, beside k-diffusion's loops, written here."""

from __future__ import annotations

import itertools
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from integrations.comfyui_paradigms import NODE_CLASS_MAPPINGS
from integrations.comfyui_paradigms.node import sample
from integrations.comfyui_paradigms.rows import ComfyRows

B, SIGMAS = 2, torch.cat([torch.linspace(14.6, 0.1, 24), torch.zeros(1)])
MEANS = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Guider:
    """The inner model: conditionings that begin and end, looked up by the first row; one row of each for each image."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.conds = {
            "positive": [
                {"cond": MEANS[0].expand(B, -1, -1, -1) * torch.tensor([1.0, -1.0]).reshape(B, 1, 1, 1),
                 "timestep_start": 100.0, "timestep_end": 4.0},
                {"cond": MEANS[1:2], "timestep_start": 4.0, "timestep_end": 0.0},
            ],
            "negative": [{"cond": MEANS[2:], "control": SimpleNamespace(timestep_range=(9.0, 2.0))}],
        }  # fmt: skip

    def __call__(self, x: Tensor, sigma: Tensor, seed: int | None = None) -> Tensor:
        self.batches.append(len(x))
        first, out = float(sigma[0]), torch.zeros_like(x)
        for cond in [c for conds in self.conds.values() for c in conds]:
            low, high = cond.get("timestep_end", 0.0), cond.get("timestep_start", 1e9)
            if "control" in cond:
                high, low = cond["control"].timestep_range
            if low <= first <= high:
                seen = cond["cond"].repeat(-(-len(x) // len(cond["cond"])), 1, 1, 1)[: len(x)]
                v = sigma[:, None, None, None] ** 2
                out = out + torch.tanh(seen + x / (1 + v)) / (1 + 0.1 * v)
        return out


class Inpaint:
    """KSamplerX0Inpaint's rule: what is kept is noised anew at each step, image by image."""

    def __init__(self, inner: Any) -> None:
        g = torch.Generator().manual_seed(1)
        self.inner_model = inner
        self.noise, self.latent_image = (torch.randn(B, 4, 8, 8, generator=g) for _ in range(2))

    def __call__(self, x: Tensor, sigma: Tensor, denoise_mask: Tensor | None = None, seed: int | None = None) -> Tensor:
        if denoise_mask is None:
            return self.inner_model(x, sigma, seed=seed)
        s = sigma[:, None, None, None]
        x = x * denoise_mask + (self.latent_image + self.noise * s) * (1 - denoise_mask)
        return self.inner_model(x, sigma, seed=seed) * denoise_mask + self.latent_image * (1 - denoise_mask)


def euler(model: Any, x: Tensor, args: dict[str, Any], noise: Any = None) -> Tensor:
    """k-diffusion's Euler, and its ancestral kind where there is noise."""
    for s, then in itertools.pairwise(SIGMAS):
        D = model(x, s.expand(len(x)), **args)
        up = min(then, (then**2 * (s**2 - then**2) / s**2) ** 0.5) if noise else torch.zeros(())
        x = D + (then**2 - up**2).sqrt() / s * (x - D)
        x = x + up * noise(s, then) if noise and then > 0 else x
    return x


def first() -> Tensor:
    return SIGMAS[0] * torch.randn(B, 4, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("masked", [False, True])
def test_the_node_makes_comfyuis_own_latent(masked: bool) -> None:
    mask = (torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(3)) > 0.5).float()
    args = {"denoise_mask": mask, "seed": 3} if masked else {"seed": 3}
    wanted = euler(Inpaint(Guider()), first(), dict(args))
    model = Inpaint(Guider())
    found = sample(model, first(), SIGMAS, args, disable=True, sampler="euler", window=16, tolerance=0)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    fast = sample(model, first(), SIGMAS, args, disable=True, sampler="euler", window=16, tolerance=0.01)
    assert float((fast - wanted).norm() / wanted.norm()) < 0.01
    assert len(model.noise) == B and max(model.inner_model.batches) > B


def test_the_node_draws_comfyuis_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def default_noise_sampler(x: Tensor, seed: int | None = None) -> Any:
        generator = torch.Generator().manual_seed(seed or 0)
        return lambda sigma, sigma_next: torch.randn(x.shape, generator=generator)

    for name in ("comfy", "comfy.k_diffusion", "comfy.k_diffusion.sampling"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["comfy.k_diffusion.sampling"].default_noise_sampler = default_noise_sampler  # type: ignore[attr-defined]
    wanted = euler(Inpaint(Guider()), first(), {"seed": 5}, default_noise_sampler(first(), 5))
    found = sample(
        Inpaint(Guider()), first(), SIGMAS, {"seed": 5}, disable=True, sampler="euler_ancestral", window=16, tolerance=0
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_rows_in_which_others_are_active_go_in_calls_of_their_own() -> None:
    model = Inpaint(Guider())
    rows = ComfyRows(model, B, {})
    assert rows.bounds == [0.0, 2.0, 4.0, 9.0, 100.0]
    sigma = torch.tensor([10.0, 5.0, 5.0, 3.0, 1.0, 4.0])
    sample = torch.tensor([0, 0, 1, 1, 0, 1])
    x = torch.randn(6, 4, 8, 8)
    found = rows(x, sigma, sample)
    for row in range(6):  # each image alone, in a batch of both
        both = x[row : row + 1].repeat(B, 1, 1, 1)
        torch.testing.assert_close(found[row], Guider()(both, sigma[row].expand(B))[sample[row]])


def test_a_flow_model_keeps_comfyuis_own_ancestral_sampler() -> None:
    const = type("CONST", (), {})
    model = SimpleNamespace(inner_model=SimpleNamespace(model_sampling=type("ModelSampling", (const,), {})()))
    with pytest.raises(ValueError, match=r"flow model.*type euler"):
        sample(model, first(), SIGMAS, sampler="euler_ancestral")


def test_the_node_says_what_comfyui_asks_of_one() -> None:
    node = NODE_CLASS_MAPPINGS["ParadigmsSampler"]
    assert node.RETURN_TYPES == ("SAMPLER",) and hasattr(node, node.FUNCTION)
    assert "dpmpp_2m" in node.INPUT_TYPES()["required"]["sampler"][0]
