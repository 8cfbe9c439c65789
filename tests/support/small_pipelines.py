"""A pipeline whose network takes a millisecond: for what does not depend on which network it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.utils import BaseOutput
from torch import Tensor, nn


@dataclass
class Said(BaseOutput):
    """What the network gives."""

    sample: Tensor


class Small(nn.Module):
    """A noise predictor of 4 channels."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(in_channels=4, sample_size=8)

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.inner, self.outer, self.time = (
            nn.Conv2d(4, 8, 3, padding=1),
            nn.Conv2d(8, 4, 3, padding=1),
            nn.Linear(2, 8),
        )
        for p in self.parameters():
            p.requires_grad_(False).copy_(0.3 * torch.randn(p.shape, generator=g))

    def forward(self, x: Tensor, t: Any, words: Any = None) -> Said:
        """x (B, 4, 8, 8), t (B,) or one, words (B, 1)."""
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1).expand(len(x)) / 1000
        h = self.inner(x) + self.time(torch.stack([t, (7 * t).sin()], 1))[..., None, None]
        return Said(0.4 * x + self.outer(torch.tanh(h if words is None else h + words[..., None, None])))


class SmallPipeline(diffusers.DiffusionPipeline):
    """The plainest loop; what a subclass changes are its items, and what a step makes of an answer."""

    def __init__(self, unet: nn.Module, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.set_progress_bar_config(disable=True)

    def mix(self, said: Any) -> Tensor:
        """What a step makes of an answer."""
        return said[0]  # type: ignore[no-any-return]

    def begin(self, seed: int) -> Tensor:
        """The first state of 8 steps."""
        self.scheduler.set_timesteps(8)
        return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def __call__(self, seed: int = 0, callback_on_step_end: Any = None) -> Tensor:
        x = self.begin(seed)
        for i, t in enumerate(self.scheduler.timesteps):
            x = self.scheduler.step(self.mix(self.unet(x, t)), t, x).prev_sample
            if callback_on_step_end is not None:
                callback_on_step_end(self, i, t, {"latents": x})
        return x


def small(kind: type = SmallPipeline, patch: Callable[[Any, Any], Any] | None = None) -> Any:
    """A small pipeline under DDIM; patch: makes its network's forward of the network and its forward."""
    pipe = kind(Small(), diffusers.DDIMScheduler())
    if patch is not None:
        pipe.unet.forward = patch(pipe.unet, pipe.unet.forward)
    return pipe
