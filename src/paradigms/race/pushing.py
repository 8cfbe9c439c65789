"""A race of a policy in its simulator: both push the T from one seed, each on its own, and draw the same noise.

chunk k:   x[0] ~ N(0, 1),  x[N] by either sampler,  eight actions of it are carried out

The clock counts the policy's computing alone: neither the simulator's, nor the time that a robot takes to move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..methods.base import AbstractMethod
from ..methods.picard import Jacobi
from ..policies.policy import DiffusionPolicy
from ..policies.tasks.rollout import FIRST_SEED
from ..policies.tasks.task import Task, Vector
from ..solution import relative_error
from ..solve import iterate, sample
from ..stopping.base import AbstractStop
from ..system import System
from ..window.controller import FixedWindow
from .recording import Asked, Emit, Event, Recording, nothing

# Pictures of a chunk that is stepped through. Chosen by hand.
MOMENTS = 12


class Observed(nn.Module):
    """The policy's network as the core calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, known: Tensor) -> Tensor:
        """The noise of chunks x (M, T, a) at t (M,) after observations `known` (M, g)."""
        return self.network(x, t, global_cond=known)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Pushing:
    """A race of a policy; chunks: of an episode at most."""

    title: str
    policy: DiffusionPolicy
    model: Observed
    task: Task
    system: System
    seed: int
    window: int | str
    stop: AbstractStop
    method: AbstractMethod
    chunks: int
    facts: dict[str, Any]

    def run(self, emit: Emit, stopped: Callable[[], bool]) -> None:
        """Both episodes and the verdict, told as they go; raises Stopped, and what the policy raises."""
        asked = Asked(stopped)
        model = self.model
        world = self.task.environment()
        world.reset(FIRST_SEED + self.seed)
        start = {"event": "start", "kind": "push", "title": self.title, "rows": len(self.system)}
        emit(start | self.facts | {"world": shapes(world), "states": [pose(world)]})
        with asked.at(model), torch.no_grad():
            emit({"event": "phase", "phase": "warm"})
            for way in (self.windowed, self.stepped):
                first = next(self.episode(way, model, Recording("", self.system, asked, lambda _: None, nothing)))
                del first
            found = []
            for run, way in (("parallel", self.windowed), ("sequential", self.stepped)):
                emit({"event": "phase", "phase": "record", "run": run})
                recording = Recording(run, self.system, asked, emit, nothing)
                episode = list(self.episode(way, model, recording))
                with recording.resting() as seconds:
                    spent = {"seconds": round(seconds, 4), "round": recording.rounds, "evaluations": recording.evals}
                    last = episode[-1][1]
                    found.append(
                        spent | {k: last[k] for k in ("actions", "score", "solved")} | {"chunk": episode[0][0]}
                    )
                    ended = {k: v for k, v in found[-1].items() if k != "chunk"}
                    emit({"event": "finish", "run": run, "chunks": len(episode)} | ended)
        error = float(relative_error(found[0]["chunk"], found[1]["chunk"])[0])
        tolerance = self.stop.tolerance
        emit({"event": "verdict", "error": error, "tolerance": tolerance, "same": error <= max(tolerance, 1e-4)})

    def episode(self, way: Any, model: nn.Module, recording: Recording) -> Iterator[tuple[Tensor, Event]]:
        """An episode of one sampler, chunk by chunk: the normalised actions (1, T, a), and what became of them."""
        with recording.resting():
            world = self.task.environment()
            seen = [world.reset(FIRST_SEED + self.seed)] * self.task.n_obs_steps
        generator, actions = torch.Generator().manual_seed(self.seed), 0
        for chunk in range(self.chunks):
            policy = self.policy
            obs = torch.as_tensor(np.array([seen]), dtype=torch.float32)
            known = policy.normalizer["obs"].normalize(obs).flatten(1)
            x = torch.randn(1, policy.horizon, policy.action_dim, generator=generator)
            x = way(model, x, generator, known, recording)
            planned = policy.normalizer["action"].unnormalize(x)[0].double().numpy()
            with recording.resting() as seconds:
                first = policy.n_obs_steps - 1
                todo = planned[first : first + policy.n_action_steps]
                seen, states, done = self.carried_out(world, seen, todo, self.task.max_steps - actions)
                actions += len(states)
                told = {"chunk": chunk + 1, "actions": actions, "score": world.score, "solved": world.success}
                event = {"event": "world", "run": recording.run, "seconds": round(seconds, 4), "states": states}
                recording.emit(event | told)
            yield x, told
            if done or actions >= self.task.max_steps:
                break

    def carried_out(self, world: Any, seen: list[Vector], todo: Vector, most: int) -> tuple[list[Vector], Any, bool]:
        """Observations and poses after the actions (k, a), and whether the episode is over."""
        states, done = [], False
        for action in np.clip(todo, self.task.low, self.task.high)[:most]:
            observation, _, done = world.step(action)
            seen = [*seen[1:], observation]
            states.append(pose(world))
            if done:
                break
        return seen, states, done

    def windowed(self, model: nn.Module, x: Tensor, g: torch.Generator, known: Tensor, recording: Recording) -> Tensor:
        """A chunk in parallel."""
        found = sample(
            model,
            self.system,
            x,
            self.method,
            window=self.window,
            tolerance=self.stop,
            generator=g,
            condition={"known": known},
            watch=recording.watch,
        )
        recording.rounds, recording.evals = recording.rounds + found.rounds, recording.evals + found.evaluations
        return found.x

    def stepped(self, model: nn.Module, x: Tensor, g: torch.Generator, known: Tensor, recording: Recording) -> Tensor:
        """A chunk step by step."""
        N = len(self.system)
        one, how = FixedWindow(1, max(N // MOMENTS, 1)), {"generator": g, "condition": {"known": known}}
        for frame in recording.watch(iterate(model, self.system, x, Jacobi(), window=one, tolerance=0.0, **how)):  # type: ignore[arg-type]
            x = frame.last
        recording.rounds, recording.evals = recording.rounds + N, recording.evals + N
        return x


def pose(world: Any) -> list[float]:
    """Where things are now: the agent's x and y, the block's x and y and angle."""
    s = world.simulator
    return [round(float(v), 3) for v in (*s.agent.position, *s.block.position, s.block.angle)]


def shapes(world: Any) -> dict[str, Any]:
    """What is drawn: the polygons of the block in its own frame, its goal, the agent's radius, the field's side."""
    s = world.simulator
    block = [[[round(float(c), 2) for c in v] for v in shape.get_vertices()] for shape in s.block.shapes]
    radius = max(float(shape.radius) for shape in s.agent.shapes)
    return {"block": block, "goal": [float(v) for v in s.goal_pose], "radius": radius, "side": 512}
