"""Train a shipped model for a fixed time: minimise E ||f(x_t, t, label) - target||^2 with t uniform on 0..999
(stratified over the batch).

    python -m training.models.train scenes|digits|features [--minutes M] [--resume] [--out DIR]

bfloat16 autocast, one thread; the rest as in training.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from paradigms.models.net import UNet
from paradigms.models.noise import STEPS, diffuse
from paradigms.models.store import save

from .tasks import HELD_OUT_SEED, TASKS, Task
from .training import SEED, Course, Training, arguments


class Run(Training):
    """A model of pictures that learns from a task's."""

    def __init__(self, task: Task, minutes: float, out: Path) -> None:
        self.task = task
        torch.manual_seed(SEED)
        model = UNet(**task.net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(model, Course(task.name, task.batch, task.rate, minutes, 200), out)

    def draw_loss(self) -> Tensor:
        """The loss on a batch of pictures, times and noise; labels are dropped at the task's rate."""
        task, g = self.task, self.generator
        x0, label = task.train(task.batch, g)
        if label is not None:
            dropped = torch.rand(len(label), generator=g) < task.drop
            label = label.masked_fill(dropped, self.model.classes)
        t = ((torch.arange(len(x0)) + torch.rand(len(x0), generator=g)) * (STEPS / len(x0))).long()
        t = t.clamp_(max=STEPS - 1)
        xt, target = diffuse(x0, t, torch.randn(x0.shape, generator=g), task.prediction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = self.model(xt.contiguous(memory_format=torch.channels_last), t, label)
        return (answer.float() - target).square().mean()

    def write(self) -> str:
        """The averaged model, as it ships."""
        task, path = self.task, self.out / f"{self.task.name}.safetensors"
        save(path, self.average, name=task.name, shape=task.shape, prediction=task.prediction, dtype=task.store)
        return f"held out {held_out_loss(self.average, task):.5f}"


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, task: Task) -> float:
    """The training loss in float32 on the held-out pictures at evenly spread t with fixed noise."""
    x0, label = task.held_out()
    t = torch.arange(len(x0)) * STEPS // len(x0)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(HELD_OUT_SEED))
    xt, target = diffuse(x0, t, eps, task.prediction)
    labels: list[Tensor | None] = [None] * len(x0) if label is None else list(label.split(128))
    answers = [model(*part) for part in zip(xt.split(128), t.split(128), labels, strict=False)]
    return (torch.cat(answers) - target).square().mean().item()


def main() -> None:
    parser = arguments("training.models.train", "Train a shipped model.", [*TASKS, "features"], ".cache/train")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "features":
        from .classifier import train_features

        return train_features(given.out, given.minutes or 3.0)
    task = TASKS[given.what]
    run = Run(task, given.minutes or task.minutes, given.out)
    if given.resume:
        run.resume()
    run.train()


if __name__ == "__main__":
    main()
