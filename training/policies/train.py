"""Train a policy on demonstrations for a fixed time: minimise E ||f(x_t, t, observations) - eps||^2 over windows of the
episodes, with t uniform on 0..99 (stratified over the batch).

    x_t = sqrt(abar_t) a + sqrt(1 - abar_t) eps,     a = normalised actions of a window, its edges repeated

    python -m training.policies.train pusht-unet|... --demos FILE [--minutes M] [--resume] [--out DIR]

bfloat16 autocast, one thread; the rest as in models/training.py. A resumed run may have more demonstrations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from paradigms.policies.policy import DiffusionPolicy, build, normalizers
from paradigms.policies.recipes import RECIPES, Recipe
from paradigms.policies.store import save
from paradigms.policies.tasks.task import Task, load_task

from ..models.training import SEED, Course, Training, arguments
from .demos import Demos

STILL = 0.02  # rad, m, or a second of it: half of the least that an observation is taken to range over


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


def wide(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds (o,) at least 2 STILL apart.

    What no demonstration moves would fill -1..1 with its sensor's noise, and its first touch be a number of thousands.
    """
    middle = 0.5 * (low + high)
    return low.minimum(middle - STILL), high.maximum(middle + STILL)


class Run(Training):
    """A policy that learns from demonstrations."""

    def __init__(
        self, recipe: Recipe, demos: Demos, minutes: float, out: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.recipe, self.task = recipe, load_task(recipe.task)
        self.windows = Windows.of(demos, self.task)
        bounds = wide(self.windows.observations.amin(0), self.windows.observations.amax(0))
        torch.manual_seed(SEED)
        policy = build(self.task, recipe.kind, normalizers(*bounds, self.task), **recipe.sizes).train()
        course = Course(recipe.name, recipe.batch, recipe.rate, minutes, 500, (0.95, 0.999), 1e-3)
        super().__init__(policy, course, out, clock)

    def draw_loss(self) -> Tensor:
        """The loss on a batch of windows, times and noise."""
        policy: DiffusionPolicy = self.model
        batch, g, scheduler = self.course.batch, self.generator, policy.noise_scheduler
        obs, actions = self.windows[torch.randint(len(self.windows), (batch,), generator=g)]
        a = policy.normalizer["action"].normalize(actions)
        known = policy.normalizer["obs"].normalize(obs).flatten(1)
        N = scheduler.config.num_train_timesteps
        t = ((torch.arange(batch) + torch.rand(batch, generator=g)) * (N / batch)).long().clamp_(max=N - 1)
        eps = torch.randn(a.shape, generator=g)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = policy.model(scheduler.add_noise(a, eps, t), t, global_cond=known)
        return (answer.float() - eps).square().mean()

    def write(self) -> str:
        """The averaged policy, as it ships."""
        save(self.out / f"{self.recipe.name}.safetensors", self.average, self.recipe)
        return f"windows {len(self.windows)}"


def main() -> None:
    parser = arguments("training.policies.train", "Train a shipped policy.", RECIPES, ".cache/policies")
    parser.add_argument(
        "--demos", type=Path, nargs="+", required=True, metavar="FILE", help="made by ....policies.demos"
    )
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
