"""How what ships is trained: for a fixed time, on losses that `draw_loss` draws, so that a stopped run goes on exactly.

    rate(k) = r min(1, (k + 1) / warm_up) (1 + cos(pi used)) / 2        used: the part of the time budget that is over
    w <- d w + (1 - d) w_now,    d = min(0.999, (k + 1) / (k + 10))     what is written are these averaged weights

AdamW, gradients clipped to norm 1. A resumed run continues the same curve, also with another budget.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAVE_EVERY, SEED = 180.0, 0
# what trained weights are called in a run's file: the first, in older ones others
CALLED = ("model", "policy", "modules")


@dataclass(frozen=True)
class Course:
    """What a training is called, and how it goes: rows a step, largest rate, minutes, steps of warming up, AdamW's."""

    name: str
    batch: int
    rate: float
    minutes: float
    warm_up: int
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01


class Training(ABC):
    """One training of `model`: averaged model, optimiser, generator, steps done and seconds used.

    DIR/NAME.pt is what `resume` reads. The class of a training says what a loss is and what is made of the weights.
    """

    def __init__(
        self, model: nn.Module, course: Course, out: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.course, self.out, self.clock = course, out, clock
        self.model: Any = model
        self.average: Any = copy.deepcopy(model).eval().requires_grad_(False)
        self.adam = torch.optim.AdamW(
            model.parameters(), lr=course.rate, betas=course.betas, weight_decay=course.weight_decay
        )
        self.generator = torch.Generator().manual_seed(SEED)
        self.step, self.seconds, self.loss = 0, 0.0, float("nan")

    @property
    def path(self) -> Path:
        """The state for `resume`."""
        return self.out / f"{self.course.name}.pt"

    @abstractmethod
    def draw_loss(self) -> Tensor:
        """The loss on a batch drawn from the run's generator."""

    @abstractmethod
    def write(self) -> str:
        """Writes what is made of the averaged weights, and says how good they are."""

    def train(self) -> None:
        """Steps until the budget is used up, with a checkpoint every three minutes and at the end."""
        last = saved = self.clock()
        while self.seconds < 60 * self.course.minutes:
            now = self.one_step()
            self.loss = now if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * now
            clock = self.clock()
            self.seconds, last = self.seconds + clock - last, clock
            if clock - saved > SAVE_EVERY:
                self.checkpoint()
                saved = last = self.clock()
        self.checkpoint()

    def one_step(self) -> float:
        """Learns from one batch; returns its loss."""
        self.adam.param_groups[0]["lr"] = self.rate()
        loss = self.draw_loss()
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.follow()
        return loss.item()

    def rate(self) -> float:
        """The learning rate of the next step."""
        used = min(1.0, self.seconds / (60 * self.course.minutes))
        warm = min(1.0, (self.step + 1) / self.course.warm_up)
        return self.course.rate * warm * (0.5 + 0.5 * math.cos(math.pi * used))

    @torch.no_grad()
    def follow(self) -> None:
        """The averaged weights go a part of the way to the trained ones."""
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1

    def checkpoint(self) -> None:
        """Writes the state and what is made of the weights, and says how it goes."""
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".pt.partial")
        torch.save(self.state(), partial)
        os.replace(partial, self.path)
        print(
            f"{self.course.name} {self.seconds / 60:6.1f} min  step {self.step}  rows {self.step * self.course.batch}  "
            f"loss {self.loss:.5f}  {self.write()}",
            flush=True,
        )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "adam": self.adam.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.model.load_state_dict(next(state[name] for name in CALLED if name in state))
        self.average.load_state_dict(state["average"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]

    def resume(self) -> None:
        """Goes on from the state on disk; raises ValueError where there is none."""
        if not self.path.is_file():
            raise ValueError(f"--resume: there is no {str(self.path)!r}; leave it out to begin, or type another --out")
        self.restore(torch.load(self.path, weights_only=True))


def arguments(prog: str, about: str, what: Iterable[str], out: str) -> argparse.ArgumentParser:
    """What every trainer is told on its command line; `out` is the folder unless told."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=about)
    parser.add_argument("what", choices=list(what))
    parser.add_argument("--minutes", type=float, default=None, help="wall-clock budget (default: as shipped)")
    parser.add_argument("--resume", action="store_true", help="continue the run whose state is in DIR")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR")
    return parser
