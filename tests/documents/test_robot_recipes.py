"""The page of recipes: its code gives what the loops of these programs give, written here as they have them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from standins import Net, scheduler

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)), names)
    return names


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
@torch.no_grad()
def test_the_recipe_for_robomimic_keeps_its_actions(kind: str, page: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, rule, steps = Net(seen=6), scheduler(kind), 40
    first, seen = torch.randn(2, 16, 2), torch.randn(2, 6)
    torch.manual_seed(1)
    x = first
    rule.set_timesteps(steps)
    for k in rule.timesteps:
        x = rule.step(model_output=net(sample=x, timestep=k, global_cond=seen), timestep=k, sample=x).prev_sample
    torch.manual_seed(1)
    found = page["denoise_actions"](net, rule, steps, first, seen, tolerance=0)
    assert off(found, x) < 1e-5
    torch.manual_seed(1)
    assert off(page["denoise_actions"](net, rule, steps, first, seen), x) < 0.01


@torch.no_grad()
def test_the_recipe_for_cleandiffuser_keeps_its_plan(page: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, N = Net(size=4, seen=3), 30
    level = diffusers.DDPMScheduler(200, beta_schedule="squaredcos_cap_v2").alphas_cumprod[:-5]
    times = torch.linspace(0, len(level) - 1, N + 1).long()
    alphas, sigmas = level[times].sqrt(), (1 - level[times]).sqrt()
    logs = (alphas / sigmas).log()
    h = torch.zeros(N + 1)
    h[1:] = logs[:-1] - logs[1:]
    fixed, prior, condition = torch.zeros(16, 4), torch.zeros(2, 16, 4), torch.randn(2, 3)
    fixed[0], prior[:, 0] = 1, torch.rand(2, 4)
    first = torch.randn(2, 16, 4)
    x, buffer = first * (1 - fixed) + prior * fixed, list[Tensor]()
    for i in reversed(range(1, N + 1)):
        eps = net(x, times[i].float().expand(2), global_cond=condition)
        buffer.append(((x - sigmas[i] * eps) / alphas[i]).clamp(-1, 1))
        D = buffer[-1]
        if i < N:
            r = h[i + 1] / h[i]
            D = (1 + 0.5 / r) * buffer[-1] - 0.5 / r * buffer[-2]
        x = (sigmas[i - 1] / sigmas[i]) * x - alphas[i - 1] * torch.expm1(-h[i]) * D
        x = x * (1 - fixed) + prior * fixed

    def model(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return net(x, t, global_cond=condition)

    exact = page["plan"](model, alphas, sigmas, times, prior, fixed, first, condition, tolerance=0)
    assert off(exact.x, x) < 1e-4
    run = page["plan"](model, alphas, sigmas, times, prior, fixed, first, condition)
    assert off(run.x, x) < 0.01 and run.rounds < 0.8 * N
