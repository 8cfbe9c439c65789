"""Control in real time: the world goes on at the task's rate while the policy thinks.

A tick is 1 / hertz seconds. The robot asks for a chunk where its actions are used up, and until the answer is there,
after as many seconds as it was measured to take, it holds its last target and the physics goes on. Nothing is sped up,
and nothing waits: what a faster policy gains is the ticks that it does not hold still.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from paradigms.policies.tasks.task import Task, Vector

from .acting import act, acting


@dataclass
class Drive:
    """What happened: a picture, the score and whether it was thinking, at every tick; seconds of every chunk."""

    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    thinking: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    solved: int | None = None  # the tick


def drive(policy: Any, task: Task, way: str, seed: int, ticks: int, pictures: bool = True) -> Drive:
    """An episode of PushT in real time, DDPM-100; before the first chunk the robot stays where it is."""
    world, found = task.environment(), Drive()
    seen = [world.reset(seed)] * task.n_obs_steps
    generator = torch.Generator().manual_seed(seed)
    todo: list[Vector] = []
    next_: list[Vector] = []
    wait, target = 0, seen[-1][-task.action :]  # the agent's own place
    with acting(policy, "DDPM-100", way):
        chunk(policy, seen, torch.Generator().manual_seed(0))  # what a first call sets up is not counted
        for tick in range(ticks):
            if not todo and not wait:
                began = time.perf_counter()
                next_ = chunk(policy, seen, generator)
                found.seconds.append(time.perf_counter() - began)
                wait = max(math.ceil(found.seconds[-1] * task.hertz), 1)
            if wait:
                wait -= 1
                found.thinking.append(True)
            else:
                target = np.clip(todo.pop(0), task.low, task.high)
                found.thinking.append(False)
            observation, _, done = world.step(target)
            seen = [*seen[1:], observation]
            if not wait and not todo:
                todo, next_ = next_, []
            found.scores.append(world.score)
            if pictures:
                found.pictures.append(world.image())
            if done:
                found.solved = tick + 1
                break
    return found


def chunk(policy: Any, seen: list[Vector], generator: torch.Generator) -> list[Vector]:
    """The actions that follow the last observations."""
    return list(act(policy, torch.as_tensor(np.array([seen]), dtype=torch.float32), generator)[0].double().numpy())
