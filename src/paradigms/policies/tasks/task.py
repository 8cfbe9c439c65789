"""A task: what a policy sees, what it may do, and the simulator that judges it.

    o[0] = reset(seed),   o[k+1], reward, done = step(a[k]),   k = 0..max_steps-1

A policy reads the last `n_obs_steps` observations, draws a chunk of `horizon` actions whose first belongs to
the oldest of them, and `n_action_steps` of the chunk are carried out, from the current one on:

    o[k-1] o[k]  ->  a[k-1] a[k] ... a[k+14]  ->  carried out: a[k] ... a[k+7]
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Environment(Protocol):
    """A simulator with its own judgement; one episode at a time."""

    @property
    def score(self) -> float:
        """What the task counts in the episode so far, 0..1 (PushT: the largest reward; others: share of subtasks)."""

    @property
    def success(self) -> bool:
        """Whether the simulator itself calls the episode solved."""

    def reset(self, seed: int) -> Vector:
        """Begin the episode of this seed and return its first observation (o,)."""

    def step(self, action: Vector) -> tuple[Vector, float, bool]:
        """Carry out an action (a,): the next observation (o,), the reward, and whether the episode is over."""

    def image(self) -> NDArray[np.uint8]:
        """The scene as it is now, (height, width, 3)."""


Expert = Callable[[Environment], Vector]
"""A scripted demonstrator of one episode: called before every step with the environment, it returns an action (a,)."""


@dataclass(frozen=True)
class Task:
    """A task's sizes, and how to make its simulator and its expert (both import their extra when called)."""

    name: str
    observation: int
    """Numbers in an observation."""
    low: tuple[float, ...]
    """Smallest value of each action."""
    high: tuple[float, ...]
    """Largest value of each action."""
    max_steps: int
    """Actions in an episode."""
    hertz: float
    """Actions per second of the real robot."""
    environment: Callable[[], Environment]
    expert: Callable[[], Expert]
    horizon: int = 16
    n_obs_steps: int = 2
    n_action_steps: int = 8
    at_once: int = 100
    """Simulators side by side that a laptop's memory bears."""

    @property
    def action(self) -> int:
        """Numbers in an action."""
        return len(self.low)


TASKS = ("pusht", "square", "kitchen")


def load_task(name: str) -> Task:
    """The task of that name, from the module of that name: `paradigms.policies.<name>.TASK`."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}: choose one of {', '.join(TASKS)}")
    return importlib.import_module(f".{name}", __package__).TASK
