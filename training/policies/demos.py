"""Demonstrations: an expert's episodes, carried out with a little noise, written down without it.

    a[k] = expert(environment),   o[k+1] = step(a[k] + noise * range * z[k]),   kept: (o[k], a[k])

    python -m training.policies.demos pusht|square|kitchen [--seeds FIRST END] [--noise SHARE] [--out FILE]

The noise leads off the expert's path, the action written down leads back to it; each episode draws its own size of
noise, from 0 to SHARE of the actions' range. Only episodes that the simulator calls solved are kept.

File (.npz): observations (T, o), actions (T, a), ends (E,) where each episode ends, seeds (E,).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paradigms.policies.tasks.task import TASKS, Environment, Expert, Task, Vector, load_task


@dataclass(frozen=True)
class Demos:
    """Episodes laid end to end."""

    observations: Vector
    actions: Vector
    ends: Vector
    seeds: Vector

    def __len__(self) -> int:
        return len(self.ends)

    def __add__(self, other: Demos) -> Demos:
        return Demos(
            np.concatenate([self.observations, other.observations]),
            np.concatenate([self.actions, other.actions]),
            np.concatenate([self.ends, other.ends + len(self.actions)]),
            np.concatenate([self.seeds, other.seeds]),
        )

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(
            partial,
            observations=self.observations.astype(np.float32),
            actions=self.actions.astype(np.float32),
            ends=self.ends,
            seeds=self.seeds,
        )
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Demos:
        with np.load(path) as f:
            return Demos(f["observations"], f["actions"], f["ends"], f["seeds"])


def episode(
    task: Task, seed: int, noise: float, environment: Environment | None = None
) -> tuple[list[Vector], list[Vector], float, bool]:
    """One episode by the expert with this share of noise: observations, clean actions, score, success."""
    environment = environment or task.environment()
    return follow(task, environment.reset(seed), environment, task.expert(), noise, np.random.default_rng(seed))


def follow(
    task: Task,
    observation: Vector,
    environment: Environment,
    expert: Expert,
    noise: float,
    random: np.random.Generator,
) -> tuple[list[Vector], list[Vector], float, bool]:
    """The expert from here to the end of the episode."""
    low, high = np.array(task.low), np.array(task.high)
    observations, actions = [], []
    for _ in range(task.max_steps):
        action = np.clip(expert(environment), low, high)
        observations.append(observation)
        actions.append(action)
        jitter = noise * (high - low) * random.standard_normal(len(low))
        observation, _, done = environment.step(np.clip(action + jitter, low, high))
        if done:
            break
    return observations, actions, environment.score, environment.success


def collect(task: Task, seeds: range, noise: float) -> tuple[Demos, list[float]]:
    """The solved episodes among these seeds, and every episode's score."""
    os_, as_, ends, kept, scores = [], [], [], [], []
    environment = task.environment()  # made once: robosuite takes seconds
    for seed in seeds:
        share = noise * np.random.default_rng((seed, 1)).random()
        observations, actions, score, success = episode(task, seed, share, environment)
        scores.append(score)
        if success:
            os_ += observations
            as_ += actions
            ends.append(len(as_))
            kept.append(seed)
    o, a = np.array(os_).reshape(-1, task.observation), np.array(as_).reshape(-1, task.action)
    return Demos(o, a, np.array(ends, dtype=np.int64), np.array(kept, dtype=np.int64)), scores


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.policies.demos", description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 1500), metavar=("FIRST", "END"))
    parser.add_argument("--noise", type=float, default=0.0, help="largest noise, as a share of the actions' range")
    parser.add_argument("--out", type=Path, default=None, help="file (default: .cache/policies/TASK.npz)")
    given = parser.parse_args()
    began = time.monotonic()
    demos, scores = collect(load_task(given.task), range(*given.seeds), given.noise)
    path = given.out or Path(f".cache/policies/{given.task}.npz")
    demos.save(path)
    print(
        f"{path}: {len(demos)} of {len(scores)} episodes solved ({len(demos) / len(scores):.1%}), mean score "
        f"{np.mean(scores):.3f}, {len(demos.actions)} steps, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
