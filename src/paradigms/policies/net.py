"""The 1D conditional U-Net of diffusion policies, and a residual MLP; both answer epsilon for noisy action chunks.

    block(x)      = mish(group_norm_8(conv(x)))                                        over the T actions of a chunk
    residual(x,c) = block(scale * block(x) + shift) + skip(x),   (scale, shift) = W mish(c) + b                 FiLM
    c             = [MLP(sinusoid(t)), observations]

U-Net: two residuals a level going down, two in the middle, two a level coming up on what the level below and the
same level going down gave; strides of 2 between levels. With widths (256, 512, 1024) it has the published size.

Source: Chi et al., Diffusion Policy (2023), and the layout of its ConditionalUnet1D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

GROUPS = 8


class Sinusoid(nn.Module):
    """sin and cos of t at geometric frequencies from 1 down to 1/10000: (B,) -> (B, width).

    They are computed in float32, for a half cannot tell t = 999 from 1000, and given in the dtype of the module.
    """

    like: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("like", torch.empty(0), persistent=False)  # has the dtype that `.half()` and others set

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        w = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000.0) / (half - 1)))
        angle = t[:, None].float() * w
        return torch.cat([angle.sin(), angle.cos()], -1).to(self.like.dtype)


def condition(
    embed: nn.Module, sample: Tensor, timestep: Tensor | float, local_cond: Tensor | None, global_cond: Tensor | None
) -> Tensor:
    """What both networks know beside the chunk, (B, c); raises ValueError for what neither does."""
    if local_cond is not None:
        raise ValueError("local_cond was given: this network knows observations as global_cond (B, g) only")
    c = embed(torch.as_tensor(timestep, device=sample.device).expand(len(sample)))
    return c if global_cond is None else torch.cat([c, global_cond], -1)


class Block(nn.Sequential):
    """Convolution, group norm, Mish: (B, C, T) -> (B, C', T)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, outputs), nn.Mish()
        )


class Residual(nn.Module):
    """Two blocks with FiLM between them, beside a skip: (B, C, T), (B, c) -> (B, C', T)."""

    def __init__(self, inputs: int, outputs: int, condition: int, kernel: int) -> None:
        super().__init__()
        self.first = Block(inputs, outputs, kernel)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * outputs))
        self.second = Block(outputs, outputs, kernel)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.film(c)[..., None].chunk(2, 1)  # (B, C', 1) each
        return self.second(scale * self.first(x) + shift) + self.skip(x)


class UNet1d(nn.Module):
    """The published network: noisy chunk (B, T, a), timesteps (B,) or one, observations (B, g) -> epsilon (B, T, a)."""

    def __init__(
        self, action: int, condition: int, widths: Sequence[int] = (256, 512, 1024), embed: int = 256, kernel: int = 5
    ) -> None:
        super().__init__()
        if any(w % GROUPS for w in widths):
            raise ValueError(f"widths {tuple(widths)}: each must be a multiple of {GROUPS}, the groups of the norms")
        self.embed = nn.Sequential(Sinusoid(embed), nn.Linear(embed, 4 * embed), nn.Mish(), nn.Linear(4 * embed, embed))
        c, top, last = embed + condition, widths[0], widths[-1]
        pairs = list(zip([action, *widths[:-1]], widths, strict=True))

        def two(inputs: int, outputs: int) -> nn.ModuleList:
            return nn.ModuleList([Residual(inputs, outputs, c, kernel), Residual(outputs, outputs, c, kernel)])

        self.down = nn.ModuleList(two(i, o) for i, o in pairs)
        self.shrink = nn.ModuleList(nn.Conv1d(o, o, 3, 2, 1) for _, o in pairs[:-1])
        self.middle = two(last, last)
        self.up = nn.ModuleList(two(2 * o, i) for i, o in reversed(pairs[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(i, i, 4, 2, 1) for i, _ in reversed(pairs[1:]))
        self.out = nn.Sequential(Block(top, top, kernel), nn.Conv1d(top, action, 1))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        local_cond: Tensor | None = None,
        global_cond: Tensor | None = None,
    ) -> Tensor:
        c = condition(self.embed, sample, timestep, local_cond, global_cond)
        x, kept = sample.mT, []  # (B, a, T)
        for level, pair in enumerate(self.down):
            x = both(pair, x, c)
            kept.append(x)
            x = self.shrink[level](x) if level < len(self.shrink) else x
        x = both(self.middle, x, c)
        for pair, grow in zip(self.up, self.grow, strict=True):
            x = grow(both(pair, torch.cat([x, kept.pop()], 1), c))
        return self.out(x).mT


def both(pair: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    """One residual, then the other."""
    for residual in pair.children():
        x = residual(x, c)
    return x


class MLP(nn.Module):
    """Residual layers on the flattened chunk: the same call as UNet1d's, a hundredth of its cost."""

    def __init__(
        self, action: int, condition: int, horizon: int, width: int = 384, depth: int = 3, embed: int = 64
    ) -> None:
        super().__init__()
        self.embed = Sinusoid(embed)
        self.inputs = nn.Linear(action * horizon + condition + embed, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Mish(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action * horizon))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        local_cond: Tensor | None = None,
        global_cond: Tensor | None = None,
    ) -> Tensor:
        c = condition(self.embed, sample, timestep, local_cond, global_cond)
        x = self.inputs(torch.cat([sample.flatten(1), c], -1))
        for layer in self.layers:
            x = x + layer(x)
        return self.out(x).view_as(sample)
