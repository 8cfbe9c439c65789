"""A diffusion policy: observations in, a chunk of actions out, by a scheduler's own loop.

    x[0] ~ N(0, 1),   x[n+1] = scheduler.step(model(x[n], t[n], observations), t[n], x[n]),   actions ~ x[N]

It has the methods and attributes of diffusion_policy's DiffusionUnetLowdimPolicy, so whatever drives one drives the
other; the scheduler is diffusers' and may be exchanged. Every random draw comes from the generator that is given,
or from a list of them, one a row: then a row's noise does not depend on who shares its batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .net import MLP, UNet1d
from .tasks.task import Task

Generators = torch.Generator | list[torch.Generator] | None
NETS = {"unet": UNet1d, "mlp": MLP}


class MinMax(nn.Module):
    """low..high <-> -1..1, number by number; a number that never changes maps to 0."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low.float())
        self.register_buffer("high", high.float())

    def normalize(self, x: Tensor) -> Tensor:
        return (x - self._middle()) / self._half()

    def unnormalize(self, y: Tensor) -> Tensor:
        return y * self._half() + self._middle()

    def _middle(self) -> Tensor:
        return 0.5 * (self.high + self.low)

    def _half(self) -> Tensor:
        half = 0.5 * (self.high - self.low)
        return torch.where(half > 1e-6, half, torch.ones_like(half))


class DiffusionPolicy(nn.Module):
    """A network, a diffusers scheduler and the normalisers of `obs` and `action`."""

    normalizer: dict[str, MinMax]

    def __init__(
        self,
        model: nn.Module,
        noise_scheduler: Any,
        normalizer: dict[str, MinMax],
        horizon: int = 16,
        n_obs_steps: int = 2,
        n_action_steps: int = 8,
        num_inference_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.model, self.noise_scheduler = model, noise_scheduler
        self.normalizer = nn.ModuleDict(normalizer)  # type: ignore[assignment]
        self.horizon, self.n_obs_steps, self.n_action_steps = horizon, n_obs_steps, n_action_steps
        self.action_dim, self.obs_dim = len(normalizer["action"].low), len(normalizer["obs"].low)
        self.num_inference_steps = num_inference_steps or noise_scheduler.config.num_train_timesteps
        self.kwargs: dict[str, Any] = {}

    @property
    def device(self) -> torch.device:
        return self.normalizer["action"].low.device

    @property
    def dtype(self) -> torch.dtype:
        return self.normalizer["action"].low.dtype

    def conditional_sample(
        self,
        condition_data: Tensor,
        condition_mask: Tensor,
        local_cond: Tensor | None = None,
        global_cond: Tensor | None = None,
        generator: Generators = None,
        **kwargs: Any,
    ) -> Tensor:
        """The sequential loop: normalised actions (B, T, a), condition_data wherever condition_mask is true."""
        scheduler = self.noise_scheduler
        x = noise(condition_data.shape, generator, condition_data.device, condition_data.dtype)
        scheduler.set_timesteps(self.num_inference_steps)
        more = {**kwargs, "generator": generator} if takes_generator(scheduler) else kwargs
        for t in scheduler.timesteps:
            x = torch.where(condition_mask, condition_data, x)
            output = self.model(x, t, local_cond=local_cond, global_cond=global_cond)
            x = scheduler.step(output, t, x, **more).prev_sample
        return torch.where(condition_mask, condition_data, x)

    @torch.no_grad()
    def predict_action(self, obs_dict: dict[str, Tensor], generator: Generators = None) -> dict[str, Tensor]:
        """obs (B, >= n_obs_steps, o) -> action (B, n_action_steps, a), to be carried out, and action_pred (B, T, a)."""
        obs = obs_dict["obs"]
        if obs.ndim != 3 or obs.shape[1] < self.n_obs_steps or obs.shape[2] != self.obs_dim:
            raise ValueError(
                f"obs has the shape {tuple(obs.shape)}; this policy needs (B, {self.n_obs_steps}, {self.obs_dim}): "
                f"the last {self.n_obs_steps} observations of {self.obs_dim} numbers"
            )
        known = self.normalizer["obs"].normalize(obs[:, -self.n_obs_steps :].to(self.device, self.dtype)).flatten(1)
        shape = (len(obs), self.horizon, self.action_dim)
        free = torch.zeros(shape, device=self.device, dtype=self.dtype)
        more: dict[str, Any] = {} if generator is None else {"generator": generator}
        x = self.conditional_sample(free, torch.zeros_like(free, dtype=torch.bool), global_cond=known, **more)
        pred = self.normalizer["action"].unnormalize(x)
        start = self.n_obs_steps - 1
        return {"action": pred[:, start : start + self.n_action_steps], "action_pred": pred}


def noise(shape: Sequence[int], generator: Generators, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Standard normal numbers from one generator, or each row from its own."""
    from diffusers.utils.torch_utils import randn_tensor

    return randn_tensor(tuple(shape), generator=generator, device=device, dtype=dtype)


def takes_generator(scheduler: Any) -> bool:
    """Whether the scheduler's step draws noise from a generator it is handed."""
    return "generator" in inspect.signature(scheduler.step).parameters


def ddpm_100() -> Any:
    """The published scheduler: 100 steps, squared cosine, epsilon, x0 clipped to [-1, 1]."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=True,
        variance_type="fixed_small",
    )


def few_steps(policy: DiffusionPolicy, steps: int) -> DiffusionPolicy:
    """The policy with DDIM of that many steps for its scheduler, changed in place."""
    from diffusers import DDIMScheduler

    policy.noise_scheduler = DDIMScheduler.from_config(policy.noise_scheduler.config)
    policy.num_inference_steps = steps
    return policy


def build(task: Task, kind: str = "unet", normalizer: dict[str, MinMax] | None = None, **sizes: Any) -> DiffusionPolicy:
    """A policy for the task with random weights (from torch's global generator), in eval mode.

    kind: 'unet' (sizes: widths, embed, kernel; the default is the published 65.8M) or 'mlp' (width, depth, embed).
    """
    if kind not in NETS:
        raise ValueError(f"no network {kind!r}: choose one of {', '.join(NETS)}")
    condition = task.n_obs_steps * task.observation
    more = {"horizon": task.horizon} if kind == "mlp" else {}
    net = NETS[kind](task.action, condition, **more, **sizes)
    if normalizer is None:
        one = torch.ones(task.observation)
        normalizer = normalizers(-one, one, task)
    return DiffusionPolicy(net, ddpm_100(), normalizer, task.horizon, task.n_obs_steps, task.n_action_steps).eval()


def normalizers(low: Tensor, high: Tensor, task: Task) -> dict[str, MinMax]:
    """Observations by these bounds, actions by the task's."""
    return {"obs": MinMax(low, high), "action": MinMax(torch.tensor(task.low), torch.tensor(task.high))}
