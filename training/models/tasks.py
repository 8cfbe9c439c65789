"""What there is to train: for each model its network, its data, its held-out data and its learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .digits import digits
from .scenes import scenes

Batch = tuple[Tensor, Tensor | None]
HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True)
class Task:
    """`train(count, generator)` draws a batch of pictures and labels; `held_out()` never meets training."""

    name: str
    shape: tuple[int, int, int]
    prediction: str
    net: dict[str, Any]
    batch: int
    rate: float
    minutes: float
    store: torch.dtype
    train: Callable[[int, torch.Generator], Batch]
    held_out: Callable[[], Batch]
    drop: float = 0.0


def scenes_batch(count: int, generator: torch.Generator) -> Batch:
    return scenes(count, generator), None


def scenes_held_out() -> Batch:
    return scenes(512, torch.Generator().manual_seed(HELD_OUT_SEED)), None


def digits_batch(count: int, generator: torch.Generator) -> Batch:
    pictures, labels = digits()
    rows = torch.randint(len(labels), (count,), generator=generator)
    return wobble(pictures[rows], generator), labels[rows]


def wobble(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turn four in ten pictures by up to 8 degrees, scale by up to 6 % and shift by up to 0.4 pixels."""
    count, pixels = len(pictures), pictures.shape[-1]
    r = 2 * torch.rand(count, 4, generator=generator) - 1
    on = (torch.rand(count, generator=generator) < 0.4).float()
    angle, scale = 0.14 * r[:, 0] * on, 1 + 0.06 * r[:, 1] * on
    shift = 0.8 / pixels * r[:, 2:] * on[:, None]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures + 1, grid, mode="bicubic", align_corners=False)
    return torch.where(on.view(-1, 1, 1, 1) > 0, moved.clamp(0.0, 2.0) - 1, pictures)


TASKS = {
    "scenes": Task(
        "scenes",
        (3, 32, 32),
        "v",
        {"channels": 3, "widths": (96, 128, 128), "depth": 1},
        32,
        1.2e-3,
        80.0,
        torch.float16,
        scenes_batch,
        scenes_held_out,
    ),
    "digits": Task(
        "digits",
        (1, 8, 8),
        "epsilon",
        {"channels": 1, "widths": (48, 64), "patch": 1, "classes": 10, "embed": 64},
        64,
        1e-3,
        10.0,
        torch.float32,
        digits_batch,
        lambda: digits(test=True),
        drop=0.1,
    ),
}
