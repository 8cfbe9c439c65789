"""Diffusion policies with the methods and signatures of LeRobot and diffusion_policy, on small networks.

Written from the interfaces. Each samples with its own plain loop, which is what the parallel one is compared with.
"""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import diffusers as df
import torch
from torch import Tensor, nn

HORIZON, OBS_STEPS, ACT_STEPS, OBS, ACT = 16, 2, 8, 5, 2


def scheduler(kind: str = "DDPMScheduler", **how: Any) -> Any:
    """A policy's usual scheduler: 100 training steps, squared cosine betas, the data estimate clipped to 1."""
    usual = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}
    clip = {} if kind == "DPMSolverMultistepScheduler" else {"clip_sample": True}
    return getattr(df, kind)(**(usual | clip | how))


def waves(timestep: Any, sample: Tensor, frequency: Tensor) -> Tensor:
    """timestep (B,) or one, of sample (B, ...) -> (B, width)."""
    angle = torch.as_tensor(timestep, device=sample.device).expand(len(sample))[:, None].to(sample.dtype) * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)


class Net(nn.Module):
    """A noise predictor along the horizon: convolutions, modulated by the timestep and what is seen."""

    def __init__(self, size: int = ACT, seen: int = 0, local: int = 0, width: int = 32) -> None:
        super().__init__()
        self.inner = nn.Conv1d(size + local, width, 5, padding=2)
        self.film = nn.Linear(width + seen, 2 * width)
        self.outer = nn.Conv1d(width, size, 5, padding=2)
        self.register_buffer("frequency", 10 ** torch.linspace(0, -3, width // 2))

    def forward(
        self, sample: Tensor, timestep: Any, local_cond: Tensor | None = None, global_cond: Tensor | None = None
    ) -> Tensor:
        """sample (B, T, size), timestep (B,) or one, local_cond (B, T, local), global_cond (B, seen) -> as sample."""
        known = waves(timestep, sample, self.frequency)
        known = known if global_cond is None else torch.cat([known, global_cond], 1)
        scale, shift = self.film(known)[..., None].chunk(2, 1)
        x = sample if local_cond is None else torch.cat([sample, local_cond], 2)
        return sample + 0.3 * self.outer(torch.tanh(self.inner(x.transpose(1, 2)) * (1 + scale) + shift)).transpose(
            1, 2
        )


class Transformer(nn.Module):
    """A noise predictor whose tokens are the timestep, what is seen, and the actions."""

    def __init__(self, size: int = ACT, seen: int = 0, width: int = 32) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(size, width), nn.Linear(width, size)
        self.see = nn.Linear(seen, width) if seen else None
        self.place = nn.Parameter(0.1 * torch.randn(1, HORIZON, width))
        layer = nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.register_buffer("frequency", 10 ** torch.linspace(0, -3, width // 2))

    def forward(self, sample: Tensor, timestep: Any, cond: Tensor | None = None, **kwargs: Any) -> Tensor:
        """sample (B, T, size), timestep (B,) or one, cond (B, To, seen) -> as sample."""
        memory = waves(timestep, sample, self.frequency)[:, None]
        if self.see is not None and cond is not None:
            memory = torch.cat([memory, self.see(cond)], 1)
        return sample + 0.3 * self.out(self.decoder(self.into(sample) + self.place[:, : sample.shape[1]], memory))


class LowdimPolicy(nn.Module):
    """As diffusion_policy's DiffusionUnetLowdimPolicy: what is seen is "global", "local", or entries of the state."""

    def __init__(self, seen: str = "global", noise_scheduler: Any = None, steps: int = 20, **kwargs: Any) -> None:
        super().__init__()
        inside = OBS if seen == "inpaint" else 0
        self.model = Net(ACT + inside, OBS_STEPS * OBS if seen == "global" else 0, OBS if seen == "local" else 0)
        self.noise_scheduler, self.num_inference_steps = noise_scheduler or scheduler(), steps
        self.horizon, self.n_obs_steps, self.n_action_steps = HORIZON, OBS_STEPS, ACT_STEPS
        self.seen, self.kwargs, self.generator = seen, kwargs, None

    def conditional_sample(
        self,
        condition_data: Tensor,
        condition_mask: Tensor,
        local_cond: Tensor | None = None,
        global_cond: Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:

        def said(x: Tensor, t: Tensor) -> Tensor:
            return self.model(x, t, local_cond=local_cond, global_cond=global_cond)

        return self.loop(said, condition_data, condition_mask, generator, **kwargs)

    def loop(self, said: Any, data: Tensor, mask: Tensor, generator: Any, **kwargs: Any) -> Tensor:
        """Steps from noise; what is known holds at every one."""
        trajectory = torch.randn(data.shape, dtype=data.dtype, device=data.device, generator=generator)
        self.noise_scheduler.set_timesteps(self.num_inference_steps)
        for t in self.noise_scheduler.timesteps:
            trajectory[mask] = data[mask]
            answer = said(trajectory, t)
            trajectory = self.noise_scheduler.step(answer, t, trajectory, generator=generator, **kwargs).prev_sample
        trajectory[mask] = data[mask]
        return trajectory

    def see(self, obs: Any) -> Tensor:
        """Observations (B, To, OBS)."""
        return obs["obs"]

    def predict_action(self, obs: dict[str, Any]) -> dict[str, Tensor]:
        """The chunk of actions that follows observations."""
        seen = self.see(obs)
        B, zeros = len(seen), torch.zeros(len(seen), HORIZON, self.size, dtype=seen.dtype)
        data, mask, conds = zeros, torch.zeros_like(zeros, dtype=torch.bool), {}
        if self.seen == "global":
            conds["global_cond"] = seen[:, :OBS_STEPS].reshape(B, -1)
        elif self.seen == "local":
            conds["local_cond"] = torch.zeros(B, HORIZON, OBS, dtype=seen.dtype)
            conds["local_cond"][:, :OBS_STEPS] = seen
        elif self.seen == "cond":
            conds["cond"] = seen
        else:
            data[:, :OBS_STEPS, ACT:], mask[:, :OBS_STEPS, ACT:] = seen, True
        found = self.conditional_sample(data, mask, **conds, generator=self.generator, **self.kwargs)
        start = OBS_STEPS - 1
        return {"action": found[:, start : start + ACT_STEPS, :ACT], "action_pred": found[..., :ACT]}

    @property
    def size(self) -> int:
        """Entries of a state at one time."""
        return ACT + OBS if self.seen == "inpaint" else ACT

    def reset(self) -> None:
        """An episode begins."""


class HybridImagePolicy(LowdimPolicy):
    """As diffusion_policy's DiffusionUnetHybridImagePolicy: an image and a pose go through an encoder."""

    def __init__(self, seen: str = "global", **how: Any) -> None:
        super().__init__(seen, **how)
        self.obs_encoder = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(OBS - 2))
        self.obs_encoder(torch.zeros(1, 3, 12, 12))

    def see(self, obs: Any) -> Tensor:
        image = self.obs_encoder(obs["image"].flatten(0, 1)).unflatten(0, obs["image"].shape[:2])
        return torch.cat([image, obs["agent_pos"]], 2)


class TransformerPolicy(LowdimPolicy):
    """As diffusion_policy's DiffusionTransformerLowdimPolicy."""

    def __init__(self, seen: str = "cond", **how: Any) -> None:
        super().__init__(seen, **how)
        self.model = Transformer(self.size, OBS if seen == "cond" else 0)

    def conditional_sample(
        self,
        condition_data: Tensor,
        condition_mask: Tensor,
        cond: Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        return self.loop(lambda x, t: self.model(x, t, cond), condition_data, condition_mask, generator, **kwargs)


class DiffusionModel(nn.Module):
    """As LeRobot's of the same name."""

    def __init__(self, config: Any, noise_scheduler: Any, steps: int) -> None:
        super().__init__()
        self.config = config
        self.unet = Net(config.action_feature.shape[0], config.n_obs_steps * OBS)
        self.noise_scheduler, self.num_inference_steps = noise_scheduler, steps

    def conditional_sample(
        self,
        batch_size: int,
        global_cond: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The loop."""
        p = next(self.parameters())
        shape = (batch_size, self.config.horizon, self.config.action_feature.shape[0])
        sample = torch.randn(shape, dtype=p.dtype, device=p.device, generator=generator) if noise is None else noise
        self.noise_scheduler.set_timesteps(self.num_inference_steps)
        for t in self.noise_scheduler.timesteps:
            time = torch.full(sample.shape[:1], t, dtype=torch.long, device=sample.device)
            said = self.unet(sample, time, global_cond=global_cond)
            sample = self.noise_scheduler.step(said, t, sample, generator=generator).prev_sample
        return sample

    def generate_actions(self, batch: dict[str, Tensor], noise: Tensor | None = None) -> Tensor:
        """The actions to be carried out after observations (B, To, OBS)."""
        state = batch["observation.state"]
        actions = self.conditional_sample(len(state), global_cond=state.flatten(1), noise=noise)
        start = self.config.n_obs_steps - 1
        return actions[:, start : start + self.config.n_action_steps]


class DiffusionPolicy(nn.Module):
    """As LeRobot's of the same name: `select_action` keeps queues of what was seen and what is to be done."""

    def __init__(self, noise_scheduler: Any = None, steps: int = 20) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            horizon=HORIZON,
            n_obs_steps=OBS_STEPS,
            n_action_steps=ACT_STEPS,
            action_feature=SimpleNamespace(shape=(ACT,)),
        )
        self.diffusion = DiffusionModel(self.config, noise_scheduler or scheduler(), steps)
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self._queues = {
            "observation.state": deque(maxlen=self.config.n_obs_steps),
            "action": deque(maxlen=self.config.n_action_steps),
        }

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor]) -> Tensor:
        """The next action (B, A) after an observation (B, OBS)."""
        seen, todo = self._queues.values()
        seen.extend([batch["observation.state"]] * (1 if seen else self.config.n_obs_steps))
        if not todo:
            chunk = self.diffusion.generate_actions({"observation.state": torch.stack(list(seen), dim=1)})
            todo.extend(chunk.transpose(0, 1))
        return todo.popleft()
