"""Train a policy on demonstrations for a fixed time: minimise E ||f(x_t, t, observations) - eps||^2 over windows of the
episodes, with t uniform on 0..99 (stratified over the batch).

    x_t = sqrt(abar_t) a + sqrt(1 - abar_t) eps,     a = normalised actions of a window, its edges repeated

    python -m paradigms.policies.train pusht-unet|... --demos FILE [--minutes M] [--resume] [--out DIR]

AdamW, bfloat16 autocast, one thread; the rate warms up for 500 steps and then follows half a cosine of the part of
the time budget that is used up, so a resumed run continues the same curve, and may do so on more demonstrations.
What is written are the averaged weights w <- d w + (1 - d) w_now with d = min(0.999, (k + 1) / (k + 10)) at step k.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .demos import Demos
from .policy import DiffusionPolicy, build, normalizers
from .recipes import RECIPES, Recipe
from .store import save
from .task import Task, load_task

WARM_UP, SAVE_EVERY, SEED = 500, 180.0, 0


@dataclass(frozen=True)
class Windows:
    """Every window of horizon actions with the n_obs_steps observations at its beginning.

    A window begins at most n_obs_steps - 1 steps before its episode and ends at most n_action_steps - 1 after;
    what lies outside of the episode is its first or last step, repeated.
    """

    observations: Tensor  # (S, o)
    actions: Tensor  # (S, a)
    begin: Tensor  # (R,) first step of each window, which may lie outside of its episode
    first: Tensor  # (R,) first step of each window's episode
    last: Tensor  # (R,) last step of it
    task: Task

    @staticmethod
    def of(demos: Demos, task: Task) -> Windows:
        before, after = task.n_obs_steps - 1, task.n_action_steps - 1
        ends = torch.as_tensor(demos.ends)
        starts = torch.cat([torch.zeros(1, dtype=ends.dtype), ends[:-1]])
        rows = []
        for s, e in zip(starts.tolist(), ends.tolist(), strict=True):
            begin = torch.arange(s - before, max(s - before, e - task.horizon + after) + 1)
            rows.append(torch.stack([begin, torch.full_like(begin, s), torch.full_like(begin, e - 1)]))
        begin, first, last = torch.cat(rows, 1)
        o, a = torch.as_tensor(demos.observations).float(), torch.as_tensor(demos.actions).float()
        return Windows(o, a, begin, first, last, task)

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Observations (B, n_obs_steps, o) and actions (B, horizon, a) of these windows (B,)."""
        steps = self.begin[rows, None] + torch.arange(self.task.horizon)
        steps = steps.maximum(self.first[rows, None]).minimum(self.last[rows, None])  # (B, horizon)
        return self.observations[steps[:, : self.task.n_obs_steps]], self.actions[steps]


class Run:
    """One training: policy, averaged policy, optimiser, generator, steps done and seconds used."""

    def __init__(
        self, recipe: Recipe, demos: Demos, minutes: float, out: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        torch.manual_seed(SEED)
        self.recipe, self.budget, self.out, self.clock = recipe, 60.0 * minutes, out, clock
        self.task = load_task(recipe.task)
        self.windows = Windows.of(demos, self.task)
        bounds = self.windows.observations.amin(0), self.windows.observations.amax(0)
        self.policy = build(self.task, recipe.kind, normalizers(*bounds, self.task), **recipe.sizes).train()
        self.average = copy.deepcopy(self.policy).eval().requires_grad_(False)
        self.adam = torch.optim.AdamW(self.policy.parameters(), lr=recipe.rate, betas=(0.95, 0.999), weight_decay=1e-3)
        self.generator = torch.Generator().manual_seed(SEED)
        self.step, self.seconds, self.loss = 0, 0.0, float("nan")

    def train(self) -> None:
        """Steps until the budget is used up, with a checkpoint every three minutes and at the end."""
        last = saved = self.clock()
        while self.seconds < self.budget:
            now = self.one_step()
            self.loss = now if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * now
            clock = self.clock()
            self.seconds, last = self.seconds + clock - last, clock
            if clock - saved > SAVE_EVERY:
                self.checkpoint()
                saved = last = self.clock()
        self.checkpoint()

    def one_step(self) -> float:
        self.adam.param_groups[0]["lr"] = self.rate()
        loss = self.draw_loss(self.policy, self.recipe.batch)
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.adam.step()
        self.follow()
        return loss.item()

    def draw_loss(self, policy: DiffusionPolicy, batch: int) -> Tensor:
        """The loss on a batch of windows, times and noise drawn from the run's generator."""
        g, scheduler = self.generator, policy.noise_scheduler
        obs, actions = self.windows[torch.randint(len(self.windows), (batch,), generator=g)]
        a = policy.normalizer["action"].normalize(actions)
        known = policy.normalizer["obs"].normalize(obs).flatten(1)
        N = scheduler.config.num_train_timesteps
        t = ((torch.arange(batch) + torch.rand(batch, generator=g)) * (N / batch)).long().clamp_(max=N - 1)
        eps = torch.randn(a.shape, generator=g)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = policy.model(scheduler.add_noise(a, eps, t), t, global_cond=known)
        return (answer.float() - eps).square().mean()

    def rate(self) -> float:
        used = min(1.0, self.seconds / self.budget)
        return self.recipe.rate * min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * used))

    @torch.no_grad()
    def follow(self) -> None:
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.policy.parameters()), 1 - decay)
        self.step += 1

    def checkpoint(self) -> None:
        """Write the state for --resume and the averaged policy, and say how it goes."""
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.out / f"{self.recipe.name}.pt.partial"
        torch.save(
            {
                "policy": self.policy.state_dict(),
                "average": self.average.state_dict(),
                "adam": self.adam.state_dict(),
                "generator": self.generator.get_state(),
                "step": self.step,
                "seconds": self.seconds,
                "loss": self.loss,
            },
            partial,
        )
        os.replace(partial, self.out / f"{self.recipe.name}.pt")
        save(self.out / f"{self.recipe.name}.safetensors", self.average, self.recipe)
        print(
            f"{self.seconds / 60:6.1f} min  step {self.step}  windows {self.step * self.recipe.batch}"
            f" of {len(self.windows)}  loss {self.loss:.5f}",
            flush=True,
        )

    def resume(self) -> None:
        state = torch.load(self.out / f"{self.recipe.name}.pt", weights_only=True)
        self.policy.load_state_dict(state["policy"])
        self.average.load_state_dict(state["average"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m paradigms.policies.train", description="Train a shipped policy.")
    parser.add_argument("what", choices=RECIPES)
    parser.add_argument(
        "--demos", type=Path, nargs="+", required=True, metavar="FILE", help="made by ....policies.demos"
    )
    parser.add_argument("--minutes", type=float, default=None, help="wall-clock budget (default: as shipped)")
    parser.add_argument("--resume", action="store_true", help="continue the run whose state is in DIR")
    parser.add_argument("--out", type=Path, default=Path(".cache/policies"), metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES[given.what]
    demos = Demos.load(given.demos[0])
    for path in given.demos[1:]:
        demos = demos + Demos.load(path)
    run = Run(recipe, demos, given.minutes or recipe.minutes, given.out)
    if given.resume:
        run.resume()
    run.train()


if __name__ == "__main__":
    main()
