"""The plugin for LeRobot, on modules of LeRobot's names whose loops are LeRobot's: what it places, checks and logs."""

from __future__ import annotations

import itertools
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lerobot_policy_paradigms as plugin

standins = pytest.importorskip("standins", reason="diffusers is not here", exc_type=ImportError)

NAME = plugin.settings.NAME
HOW = plugin.Settings(window=16, tolerance=1e-4)
ROOT = Path(__file__).parents[2] / "integrations" / "lerobot_policy_paradigms"


class Velocity(nn.Module):
    """A flow's network, with a condition."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = sign
        self.into, self.out, self.seen = nn.Linear(4, 16), nn.Linear(16, 4), nn.Linear(6, 16)

    def forward(self, x: Tensor, t: Tensor, conditioning_vec: Tensor) -> Tensor:
        seen = self.seen(conditioning_vec)[:, None] + t.reshape(-1, 1, 1).to(x) / 50
        return self.sign * (0.5 * x + self.out(torch.tanh(self.into(x) + seen)))


class DiffusionObjective(nn.Module):
    horizon, action_dim = 8, 4

    def __init__(self) -> None:
        super().__init__()
        self.noise_scheduler, self.num_inference_steps = standins.scheduler("DDPMScheduler"), 50

    def conditional_sample(self, model: Any, batch_size: int, conditioning_vec: Tensor) -> Tensor:
        x = torch.randn(batch_size, self.horizon, self.action_dim)
        self.noise_scheduler.set_timesteps(self.num_inference_steps)
        for t in self.noise_scheduler.timesteps:
            m = model(x, torch.full(x.shape[:1], t), conditioning_vec=conditioning_vec)
            x = self.noise_scheduler.step(m, t, x).prev_sample
        return x


class FlowMatchingObjective(nn.Module):
    def conditional_sample(self, model: Any, batch_size: int, conditioning_vec: Tensor) -> Tensor:
        x = torch.randn(batch_size, 8, 4)
        return self._euler_integrate(model, x, torch.linspace(0, 1, 41), conditioning_vec)

    def _euler_integrate(self, model: Any, x_init: Tensor, time_grid: Tensor, conditioning_vec: Tensor) -> Tensor:
        x = x_init
        for now, then in itertools.pairwise(time_grid):
            x = x + (then - now) * model(x, now.expand(len(x)), conditioning_vec=conditioning_vec)
        return x


def euler_integrate(denoise_fn: Any, noise: Tensor, num_steps: int, **more: Any) -> Tensor:
    x = noise
    for step in range(num_steps):
        t = torch.tensor(1.0 - step / num_steps).expand(len(x))
        x = x - denoise_fn(x, t) / num_steps
    return x


class Cache:
    """A cache of a prompt, as transformers' are selected from."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys

    def batch_select_indices(self, b: Tensor) -> None:
        self.keys = self.keys[b]


class Pi(nn.Module):
    """A policy of pi0's kind: its velocity sees a cache, a list and a state of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Velocity()

    def denoise(self, x: Tensor, t: Tensor, cache: Cache, masks: list[Tensor], state: Tensor) -> Tensor:
        return x - self.net(x, t, torch.cat([cache.keys, masks[0], state], 1))

    def sample(self, B: int, seed: int, **more: Any) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        keys, mask, state = (torch.randn(B, 2, generator=g) for _ in range(3))
        cache, masks, x = Cache(keys), [mask], torch.randn(B, 8, 4, generator=g)
        integrate = sys.modules["lerobot.policies.pi0"].euler_integrate
        return integrate(lambda x, t: self.denoise(x, t, cache, masks, state), x, 40, **more)


@pytest.fixture
def lerobot(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """LeRobot's modules, as far as the plugin looks at them."""
    names = {
        "diffusion.modeling_diffusion": {"DiffusionModel": type("DiffusionModel", (standins.DiffusionModel,), {})},
        "multi_task_dit.modeling_multi_task_dit": {
            "DiffusionObjective": type("DiffusionObjective", (DiffusionObjective,), {}),
            "FlowMatchingObjective": type("FlowMatchingObjective", (FlowMatchingObjective,), {}),
        },
        "common.flow_matching": {"euler_integrate": euler_integrate},
        "pi0": {"euler_integrate": euler_integrate},  # imported by name, as pi0 does
    }
    made = SimpleNamespace()
    for name, held in names.items():
        parts = f"lerobot.policies.{name}".split(".")
        for k in range(1, len(parts) + 1):
            package = ".".join(parts[:k])
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, ModuleType(package))
        vars(sys.modules[".".join(parts)]).update(held)
        vars(made).update(held)
    yield made
    plugin.uninstall()


def both(sample: Any, lerobot: Any, calls: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    """What `sample(seed)` gives in parallel and by LeRobot alone, call by call."""
    found: list[list[Tensor]] = []
    for settings in (HOW, None):
        plugin.uninstall()
        if settings is not None:
            plugin.install(settings)
        with torch.no_grad():
            found.append([sample(seed) for seed in range(calls)])
    return found[0], found[1]


def off(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))


def test_the_name_is_one_that_lerobot_finds_and_imports() -> None:
    name = re.search(r'^name = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert name is not None and name[1].startswith("lerobot_policy_") and name[1] == plugin.__name__


def test_a_flow_of_pi0s_kind_keeps_its_samples(lerobot: Any, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    policy = Pi()
    with caplog.at_level(logging.INFO):
        found, wanted = both(lambda seed: policy.sample(1 + seed, seed), lerobot)
    assert off(found, wanted) < 1e-3 and torch.equal(found[0], wanted[0])  # the first answer is LeRobot's own
    assert not torch.equal(found[1], wanted[1])
    said = re.search(r"Pi is sampled in parallel, .* 40 steps: (\d+) rounds", caplog.text)
    assert said is not None and int(said[1]) < 20


@pytest.mark.parametrize("kind", ["DiffusionObjective", "FlowMatchingObjective"])
def test_objectives_of_multi_task_dit_keep_their_samples(kind: str, lerobot: Any) -> None:
    torch.manual_seed(0)
    model = Velocity(-1.0 if kind == "FlowMatchingObjective" else 1.0)  # data - noise
    objective = getattr(lerobot, kind)()

    def sample(seed: int) -> Tensor:
        torch.manual_seed(seed)
        found = objective.conditional_sample(model, 2, torch.randn(2, 6))
        return torch.cat([found.flatten(), torch.rand(1)])  # and the random stream goes on as LeRobot's

    found, wanted = both(sample, lerobot)
    assert off(found, wanted) < 1e-3
    assert not torch.equal(found[2], wanted[2]) and found[2][-1] == wanted[2][-1]


def test_a_diffusion_policy_keeps_its_actions(lerobot: Any, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    policy = standins.DiffusionPolicy().eval()
    policy.diffusion.__class__ = lerobot.DiffusionModel

    def sample(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return policy.diffusion.generate_actions(
            {"observation.state": torch.randn(2, standins.OBS_STEPS, standins.OBS)}
        )

    with caplog.at_level(logging.INFO):
        found, wanted = both(sample, lerobot)
    assert off(found, wanted) < 1e-3 and "DiffusionModel is sampled in parallel" in caplog.text


def test_a_policy_that_differs_from_the_plain_loop_stays_plain(
    lerobot: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steered(denoise_fn: Any, noise: Tensor, num_steps: int, **more: Any) -> Tensor:
        return euler_integrate(denoise_fn, noise, num_steps) + 1  # what a later LeRobot may do beside

    for module in ("lerobot.policies.common.flow_matching", "lerobot.policies.pi0"):
        monkeypatch.setattr(sys.modules[module], "euler_integrate", steered)
    policy = Pi()
    found, wanted = both(lambda seed: policy.sample(2, seed), lerobot)
    assert all(map(torch.equal, found, wanted)) and "Pi stays step by step" in caplog.text


@pytest.mark.parametrize("more", [{"rtc_enabled": True}, {"hard_prefix": torch.zeros(1)}])
def test_what_is_more_than_a_flow_runs_as_it_is(
    more: dict[str, Any], lerobot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Pi()
    with caplog.at_level(logging.INFO):
        found, wanted = both(lambda seed: policy.sample(2, seed, **more), lerobot)
    assert all(map(torch.equal, found, wanted)) and "Pi is sampled step by step: " in caplog.text


def test_the_variable_switches_and_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert plugin.Settings.from_environment() is None
    monkeypatch.setenv(NAME, "0")
    assert plugin.Settings.from_environment() is None
    monkeypatch.setenv(NAME, "1")
    assert plugin.Settings.from_environment() == plugin.Settings("auto", 0.01)
    monkeypatch.setenv(NAME, "window=16 tolerance=0.01")
    assert plugin.Settings.from_environment() == plugin.Settings(16, 0.01)
    for wrong in ("on", "window=0", "tolerance=-1", "windows=3", "window=x"):
        monkeypatch.setenv(NAME, wrong)
        with pytest.raises(ValueError, match=f"{NAME}: given .*; needed: .*; type {NAME}="):
            plugin.Settings.from_environment()


def test_a_lerobot_without_a_loop_is_left_as_it_is(lerobot: Any, caplog: pytest.LogCaptureFixture) -> None:
    del sys.modules["lerobot.policies.common.flow_matching"].euler_integrate
    with caplog.at_level(logging.INFO):
        plugin.install(HOW)
    assert "euler_integrate is not in this LeRobot" in caplog.text
    plugin.uninstall()
    assert not hasattr(lerobot.DiffusionModel.generate_actions, "__wrapped__")
