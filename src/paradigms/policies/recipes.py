"""What there is to train: for each shipped policy its task, its network, and how long to train it at which rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Recipe:
    """`kind` and `sizes` as `policy.build` takes them; `store` is the type of the weights on disk."""

    name: str
    task: str
    kind: str
    minutes: float
    sizes: dict[str, Any] = field(default_factory=dict)
    rate: float = 8e-4
    batch: int = 256
    store: torch.dtype = torch.float16


SMALL = {"widths": (64, 128, 256), "embed": 64}  # 4.2 million parameters
TINY = {"widths": (32, 64, 128), "embed": 32}  # 1.1 million

RECIPES = {
    r.name: r
    for r in (
        Recipe("pusht-unet", "pusht", "unet", 70.0, SMALL),
        Recipe("pusht-mlp", "pusht", "mlp", 15.0, {"width": 320, "depth": 3}),
        Recipe("square-unet", "square", "unet", 45.0, TINY, batch=128),
        Recipe("kitchen-unet", "kitchen", "unet", 52.0, TINY, batch=128),
    )
}
