"""A small U-Net eps/v = f(x, t, label) whose stem folds 2x2 pixels into channels.

x (M, C, H, W) is pixel-unshuffled by `patch`, walks down `widths` (halving the grid at each step) through
residual blocks, attends over the coarsest grid, walks up again adding the saved features, and is
pixel-shuffled back. Each residual block is h + conv(silu(scale * norm(conv(silu(norm(h)))) + shift)) with
(scale, shift) linear in the embedding of (t, label).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def time_features(t: Tensor, size: int) -> Tensor:
    """Sines and cosines (M, size) of t (M,) at `size`/2 wavelengths from 2 pi to 2 pi * 10000."""
    rate = torch.exp(-math.log(10000.0) * torch.arange(size // 2, device=t.device, dtype=t.dtype) / (size // 2))
    angle = t[:, None] * rate[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions, modulated by the embedding (M, E)."""

    def __init__(self, width: int, embed: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width)
        self.modulate = nn.Linear(embed, 2 * width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, h: Tensor, embed: Tensor) -> Tensor:
        scale, shift = self.modulate(embed)[:, :, None, None].chunk(2, dim=1)
        r = self.conv1(functional.silu(self.norm1(h)))
        r = torch.addcmul(shift, self.norm2(r), 1 + scale)
        return h + self.conv2(functional.silu(r))


class Attention(nn.Module):
    """Residual self-attention over the H*W positions of a coarse grid."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        m, c, height, width = h.shape
        qkv = self.qkv(self.norm(h)).reshape(m, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return h + self.out(mixed.reshape(m, c, height, width))


class UNet(nn.Module):
    """Denoiser for `channels`-channel pictures whose side is divisible by patch * 2^(len(widths) - 1).

    widths: features at each grid, finest first; depth: residual blocks per grid on the way down and up;
    classes: labels 0..classes-1, with one more embedding for "no label".
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        depth: int = 2,
        patch: int = 2,
        classes: int = 0,
        embed: int = 128,
    ) -> None:
        super().__init__()
        self.config = {
            "channels": channels,
            "widths": list(widths),
            "depth": depth,
            "patch": patch,
            "classes": classes,
            "embed": embed,
        }
        self.patch, self.classes, self.embed = patch, classes, embed
        self.time = nn.Sequential(nn.Linear(embed, embed), nn.SiLU(), nn.Linear(embed, embed))
        self.label = nn.Embedding(classes + 1, embed)
        self.stem = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.ModuleList(Block(w, embed) for _ in range(depth)) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.attend = Attention(widths[-1])
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up = nn.ModuleList(nn.ModuleList(Block(w, embed) for _ in range(depth)) for w in widths)
        self.norm = nn.GroupNorm(8, widths[0])
        self.head = nn.Conv2d(widths[0], channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Prediction (M, C, H, W) for x (M, C, H, W) at timesteps t (M,); label (M,) int64 or None."""
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        waves = time_features(t.to(exact), self.embed).to(self.head.weight.dtype)
        if label is None:
            label = torch.full((len(x),), self.classes, dtype=torch.long, device=x.device)
        embed = functional.silu(self.time(waves) + self.label(label))
        h = self.stem(functional.pixel_unshuffle(x, self.patch))
        saved = []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embed)
            if level < len(self.shrink):
                saved.append(h)
                h = self.shrink[level](h)
        h = self.attend(h)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                h = functional.interpolate(self.grow[level](h), scale_factor=2, mode="nearest") + saved[level]
            for block in self.up[level]:  # type: ignore[attr-defined]
                h = block(h, embed)
        return functional.pixel_shuffle(self.head(functional.silu(self.norm(h))), self.patch)
