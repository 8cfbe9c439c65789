"""Small classifiers, trained only so that their last hidden layer can serve as features of a picture.

Three or four strided 3x3 convolutions, a 2x2 average pool, F features silu(W p) and a linear read-out of the
labels, trained by cross entropy with AdamW for a fixed time.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from paradigms.models.store import write

from . import scenes as landscape
from .digits import digits
from .tasks import HELD_OUT_SEED, wobble

Labelled = tuple[Tensor, Tensor]


class Classifier(nn.Module):
    """`features(x)` is (M, `size`) and `forward(x)` the logits (M, classes) of pictures (M, C, H, W)."""

    def __init__(self, channels: int, widths: tuple[int, ...], classes: int, size: int = 48) -> None:
        super().__init__()
        self.config = {"channels": channels, "widths": list(widths), "classes": classes, "size": size}
        steps = [(channels, widths[0]), *itertools.pairwise(widths)]
        layers: list[nn.Module] = []
        for k, (a, b) in enumerate(steps):
            layers += [
                nn.Conv2d(a, b, 3, stride=1 if k == 0 and channels == 1 else 2, padding=1),
                nn.GroupNorm(8, b),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], size), nn.SiLU()
        )
        self.read = nn.Linear(size, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.features(x))


def digits_batch(count: int, generator: torch.Generator) -> Labelled:
    pictures, labels = digits()
    rows = torch.randint(len(labels), (count,), generator=generator)
    return wobble(pictures[rows], generator), labels[rows]


def scenes_held_out() -> Labelled:
    return landscape.labelled_scenes(2000, torch.Generator().manual_seed(HELD_OUT_SEED))


def train_classifier(
    name: str,
    model: Classifier,
    batch: Callable[[int, torch.Generator], Labelled],
    held_out: Labelled,
    out: Path,
    minutes: float,
) -> float:
    """Train for `minutes`, write DIR/NAME-features.safetensors and return the held-out accuracy."""
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    start, step, loss = time.monotonic(), 0, torch.tensor(0.0)
    while (used := (time.monotonic() - start) / (60 * minutes)) < 1:
        adam.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * used))
        x, label = batch(64, generator)
        loss = functional.cross_entropy(model(x), label, label_smoothing=0.05)
        adam.zero_grad()
        loss.backward()
        adam.step()
        step += 1
    model.eval()
    with torch.no_grad():
        right = (model(held_out[0]).argmax(1) == held_out[1]).float().mean().item()
    print(
        f"{name}: {minutes} min  step {step}  loss {loss.item():.4f}  held-out accuracy {right:.4f}",
        flush=True,
    )
    out.mkdir(parents=True, exist_ok=True)
    about = {"kind": "features", "net": model.config, "name": name, "accuracy": round(right, 4)}
    write(out / f"{name}-features.safetensors", model, about, torch.float32)
    return right


def train_features(out: Path, minutes: float) -> None:
    """Train the scenes classifier for `minutes`, the digits one for a twentieth lest it learn its 1437 by heart."""
    torch.manual_seed(0)
    train_classifier("digits", Classifier(1, (32, 64, 64), 10), digits_batch, digits(test=True), out, minutes / 20)
    train_classifier(
        "scenes",
        Classifier(3, (24, 48, 96, 96), landscape.CLASSES),
        landscape.labelled_scenes,
        scenes_held_out(),
        out,
        minutes,
    )
