"""Train a shipped model for a fixed time: minimise E ||f(x_t, t, label) - target||^2 with t uniform on 0..999
(stratified over the batch).

    python -m paradigms.models.train scenes|digits|features [--minutes M] [--resume] [--out DIR]

AdamW, bfloat16 autocast, one thread; the rate warms up for 200 steps and then follows half a cosine of the
part of the time budget that is used up, so a resumed run continues the same curve. What is written are the
averaged weights w <- d w + (1 - d) w_now with d = min(0.999, (k + 1) / (k + 10)) at step k.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor

from .net import UNet
from .noise import STEPS, diffuse
from .store import save
from .tasks import HELD_OUT_SEED, TASKS, Task

WARM_UP, SAVE_EVERY, SEED = 200, 180.0, 0


class Run:
    """One training: model, averaged model, optimiser, generator, steps done and seconds used."""

    def __init__(self, task: Task, minutes: float, out: Path) -> None:
        torch.manual_seed(SEED)
        self.task, self.budget, self.out = task, 60.0 * minutes, out
        self.model = UNet(**task.net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=task.rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.generator = torch.Generator().manual_seed(SEED)
        self.step, self.seconds, self.loss = 0, 0.0, float("nan")

    def train(self) -> None:
        """Steps until the budget is used up, with a checkpoint every three minutes and at the end."""
        last = saved = time.monotonic()
        while self.seconds < self.budget:
            now = self.one_step()
            self.loss = now if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * now
            clock = time.monotonic()
            self.seconds, last = self.seconds + clock - last, clock
            if clock - saved > SAVE_EVERY:
                self.checkpoint()
                saved = last = time.monotonic()
        self.checkpoint()

    def one_step(self) -> float:
        task, g = self.task, self.generator
        self.adam.param_groups[0]["lr"] = self.rate()
        x0, label = task.train(task.batch, g)
        if label is not None:
            dropped = torch.rand(len(label), generator=g) < task.drop
            label = label.masked_fill(dropped, self.model.classes)
        t = ((torch.arange(len(x0)) + torch.rand(len(x0), generator=g)) * (STEPS / len(x0))).long()
        t = t.clamp_(max=STEPS - 1)
        xt, target = diffuse(x0, t, torch.randn(x0.shape, generator=g), task.prediction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = self.model(xt.contiguous(memory_format=torch.channels_last), t, label)
        loss = (answer.float() - target).square().mean()
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.follow()
        return loss.item()

    def rate(self) -> float:
        used = min(1.0, self.seconds / self.budget)
        return self.task.rate * min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * used))

    @torch.no_grad()
    def follow(self) -> None:
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1

    def checkpoint(self) -> None:
        """Write the state for --resume and the averaged weights, and say how it goes."""
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.out / f"{self.task.name}.pt.partial"
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "adam": self.adam.state_dict(),
                "generator": self.generator.get_state(),
                "step": self.step,
                "seconds": self.seconds,
                "loss": self.loss,
            },
            partial,
        )
        os.replace(partial, self.out / f"{self.task.name}.pt")
        save(
            self.out / f"{self.task.name}.safetensors",
            self.average,
            name=self.task.name,
            shape=self.task.shape,
            prediction=self.task.prediction,
            dtype=self.task.store,
        )
        print(
            f"{self.seconds / 60:6.1f} min  step {self.step}  images {self.step * self.task.batch}  "
            f"loss {self.loss:.5f}  held out {held_out_loss(self.average, self.task):.5f}",
            flush=True,
        )

    def resume(self) -> None:
        state = torch.load(self.out / f"{self.task.name}.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]


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
    parser = argparse.ArgumentParser(prog="python -m paradigms.models.train", description="Train a shipped model.")
    parser.add_argument("what", choices=[*TASKS, "features"])
    parser.add_argument("--minutes", type=float, default=None, help="wall-clock budget (default: as shipped)")
    parser.add_argument("--resume", action="store_true", help="continue the run whose state is in DIR")
    parser.add_argument("--out", type=Path, default=Path(".cache/train"), metavar="DIR")
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
