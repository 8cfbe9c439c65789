"""Judge a policy by its simulator: many episodes in lockstep, one batched policy call for all that are still going.

    until every episode is over:  a[i, 0..7] = policy(last observations[i], generator[i])   for all live episodes i
                                  each steps its own simulator through its actions, until they or the episode end

Episode `seed` draws all its noise from its own generator, seeded by `seed`, so it meets the same noise whoever shares
its batch and whichever sampler, sequential or parallel, runs the policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .task import Environment, Task, Vector

FIRST_SEED = 100_000
"""Evaluation's seeds begin here; demonstrations' end before."""


@dataclass(frozen=True)
class Episode:
    """One episode's outcome: what the task counted, whether it was solved, actions carried out, chunks drawn."""

    seed: int
    score: float
    success: bool
    actions: int
    chunks: int


@dataclass
class Live:
    """An episode that is going on."""

    seed: int
    environment: Environment
    generator: torch.Generator
    seen: list[Vector]
    actions: int = 0
    chunks: int = 0
    over: bool = False

    @staticmethod
    def begin(seed: int, environment: Environment, task: Task, device: torch.device) -> Live:
        first = environment.reset(seed)
        return Live(seed, environment, torch.Generator(device).manual_seed(seed), [first] * task.n_obs_steps)

    def carry_out(self, actions: Vector, task: Task) -> None:
        """Step the simulator through a chunk (k, a), clipped to what the task allows."""
        self.chunks += 1
        for action in np.clip(actions, task.low, task.high):
            observation, _, done = self.environment.step(action)
            self.seen = [*self.seen[1:], observation]
            self.actions += 1
            self.over = done or self.actions >= task.max_steps
            if self.over:
                break

    def outcome(self) -> Episode:
        e = self.environment
        return Episode(self.seed, e.score, e.success, self.actions, self.chunks)


def rollout(policy: Any, task: Task, seeds: Iterable[int], *, at_once: int | None = None) -> list[Episode]:
    """The episodes of these seeds in their order, at most `at_once` (default: the task's) alive at a time.

    policy needs `predict_action({"obs": (B, n_obs_steps, o)}, generator=[one a row])` and `device`.
    Raises ValueError when the policy is in training mode.
    """
    if getattr(policy, "training", False):
        raise ValueError("the policy is in training mode: call policy.eval() before it is judged")
    waiting = list(seeds)
    order = {seed: n for n, seed in enumerate(waiting)}
    device = torch.device(policy.device)
    rooms = [task.environment() for _ in range(min(at_once or task.at_once, len(waiting)))]
    waiting.reverse()
    live = [Live.begin(waiting.pop(), room, task, device) for room in rooms]
    ended: list[Episode] = []
    while live:
        obs = torch.as_tensor(np.array([e.seen for e in live]), dtype=torch.float32, device=device)  # (B, To, o)
        chunk = policy.predict_action({"obs": obs}, generator=[e.generator for e in live])["action"]
        for episode, actions in zip(live, chunk.cpu().double().numpy(), strict=True):
            episode.carry_out(actions, task)
        ended += [e.outcome() for e in live if e.over]
        free = [e.environment for e in live if e.over]
        live = [e for e in live if not e.over]
        live += [Live.begin(waiting.pop(), room, task, device) for room in free[: len(waiting)]]
    return sorted(ended, key=lambda e: order[e.seed])


@dataclass(frozen=True)
class Summary:
    """Mean score with its standard error, share of solved episodes, and how many episodes that was."""

    score: float
    error: float
    success: float
    episodes: int
    scores: list[float] = field(repr=False)

    @staticmethod
    def of(episodes: list[Episode]) -> Summary:
        scores = [e.score for e in episodes]
        error = float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
        return Summary(
            float(np.mean(scores)), error, float(np.mean([e.success for e in episodes])), len(scores), scores
        )
