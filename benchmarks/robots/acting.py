"""What `bench policies` compares: a policy's samplers, the ways to run each, and the chunks that all are given.

| sampler      | the policy's scheduler is                                                                        |
| DDPM-100     | its own                                                                                          |
| DDIM-15      | DDIM on the same betas                                                                           |
| DPMSolver-15 | DPM-Solver++(2M) on the same betas; the data estimate is clipped to [-1, 1] by thresholding at 1 |

A chunk is one call of the policy: observations of an episode, and noise from a generator of its own. So every way is
given the same observations and the same noise, chunk by chunk, and chunks of an episode follow each other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paradigms.adapters import Run, parallelize
from paradigms.methods.guess import Copy
from paradigms.methods.picard import Picard
from paradigms.policies.tasks.rollout import FIRST_SEED, Live, rollout
from paradigms.policies.tasks.task import Task
from paradigms.stopping.step_noise import StepNoise

WINDOW = 16
SEQUENTIAL, PAPER, FEW = "sequential", "paper", "few-step"
OURS, WARM, LOOSE = "ours", "ours, warm", "ours, warm, as the paper tolerates"
WAYS: dict[str, dict[str, Any]] = {
    PAPER: {"method": Picard(Copy()), "tolerance": StepNoise(0.1), "window": WINDOW},
    OURS: {"window": WINDOW},
    WARM: {"window": WINDOW, "warm_start": True},
    LOOSE: {"window": WINDOW, "warm_start": True, "tolerance": StepNoise(0.1)},
}
ORDER = (SEQUENTIAL, PAPER, OURS, WARM, LOOSE, FEW)


def samplers() -> dict[str, tuple[int, Callable[[Any], Any]]]:
    """Steps, and what makes the scheduler from the policy's own, by name."""
    import diffusers as df

    return {
        "DDPM-100": (100, lambda own: own),
        "DDIM-15": (15, lambda own: df.DDIMScheduler.from_config(own.config)),
        "DPMSolver-15": (
            15,
            lambda own: df.DPMSolverMultistepScheduler.from_config(
                own.config, thresholding=True, sample_max_value=1.0, algorithm_type="dpmsolver++"
            ),
        ),
    }


@contextlib.contextmanager
def acting(policy: Any, sampler: str, way: str, steps: int | None = None) -> Iterator[Run | None]:
    """Within it the policy samples so; the report, where it does so in parallel. steps: fewer than the sampler's."""
    own, own_steps = policy.noise_scheduler, policy.num_inference_steps
    usual, make = samplers()[sampler]
    policy.noise_scheduler, policy.num_inference_steps = make(own), steps or usual
    try:
        if way in WAYS:
            with parallelize(policy, **WAYS[way]) as run:
                yield run
        else:
            yield None
    finally:
        policy.noise_scheduler, policy.num_inference_steps = own, own_steps


@dataclass(frozen=True)
class Seen:
    """What a policy saw at every chunk of an episode: observations (C, To, o)."""

    seed: int
    obs: Tensor

    def generator(self, chunk: int) -> torch.Generator:
        """The noise of a chunk, always the same."""
        return torch.Generator().manual_seed(1000 * self.seed + chunk)


def record(policy: Any, task: Task, episodes: int, chunks: int) -> list[Seen]:
    """What the policy sees in the first chunks of some episodes, acting by DDIM-15."""
    found = []
    with acting(policy, "DDIM-15", SEQUENTIAL):
        for seed in range(FIRST_SEED, FIRST_SEED + episodes):
            obs: list[Tensor] = []
            live = Live.begin(seed, task.environment(), task, torch.device("cpu"))
            while len(obs) < chunks and not live.over:
                obs.append(torch.as_tensor(np.array(live.seen), dtype=torch.float32))
                live.carry_out(act(policy, obs[-1][None], live.generator)[0].double().numpy(), task)
            found.append(Seen(seed, torch.stack(obs)))
    return found


def act(policy: Any, obs: Tensor, generator: Any) -> Tensor:
    """The actions (B, n_action_steps, a) that follow observations (B, To, o)."""
    return policy.predict_action({"obs": obs}, generator=generator)["action"].cpu()  # type: ignore[no-any-return]


def reference(policy: Any, sampler: str, seen: list[Seen]) -> list[Tensor]:
    """The actions (C, K, a) of each episode's chunks, step by step, all chunks as one batch."""
    obs = torch.cat([s.obs for s in seen])
    generators = [s.generator(c) for s in seen for c in range(len(s.obs))]
    with acting(policy, sampler, SEQUENTIAL):
        return list(act(policy, obs, generators).split([len(s.obs) for s in seen]))


class How(NamedTuple):
    """How a policy acts: its sampler, the way to run it, and its steps where they are fewer than the sampler's."""

    sampler: str
    way: str
    steps: int | None = None


def chunks(policy: Any, task: Task, how: How, seen: list[Seen], expected: list[Tensor]) -> dict[str, Any]:
    """Rounds, evaluations and seconds of every chunk alone, and how far its actions are from step by step.

    Differences are shares of each action's range. A warm start begins anew with each episode.
    """
    span = torch.tensor(task.high) - torch.tensor(task.low)
    usual = how.steps or samplers()[how.sampler][0]
    found: dict[str, list[float]] = {"rounds": [], "evaluations": [], "seconds": [], "difference": []}
    with acting(policy, *how):
        act(policy, seen[0].obs[:1], seen[0].generator(0))  # what a first call sets up is not counted
    for one, right in zip(seen, expected, strict=True):
        with acting(policy, *how) as run:
            for c in range(len(one.obs)):
                began, before = time.perf_counter(), (run.rounds, run.evaluations) if run else (0, 0)
                actions = act(policy, one.obs[c : c + 1], one.generator(c))[0]
                found["seconds"].append(time.perf_counter() - began)
                after = (run.rounds, run.evaluations) if run else (usual, usual)
                for name, a, b in zip(("rounds", "evaluations"), after, before, strict=True):
                    found[name].append(a - b)
                found["difference"].append(float(((actions - right[c]).abs() / span).max()))
    return found


def kept(policy: Any, sampler: str, window: int, seen: list[Seen], tolerance: float = 0.01) -> dict[str, Any]:
    """The relative errors |x - y| / |y| of chunks, as the policy's loop gives them, and their rounds, at a tolerance.

    y is the chunk of the policy's own loop on the same noise.
    """
    found: dict[str, Any] = {"error": [], "rounds": [], "tolerance": tolerance}
    with acting(policy, sampler, SEQUENTIAL):
        for one in seen:
            for c in range(len(one.obs)):
                with parallelize(policy, window=window, tolerance=tolerance, compare=True) as run:
                    act(policy, one.obs[c : c + 1], one.generator(c))
                found["error"].append(run.max_error)
                found["rounds"].append(run.rounds)
    return found


def episodes(policy: Any, task: Task, how: How, first: int, count: int) -> Any:
    """Scores, successes and chunks of `count` episodes in lockstep, each on its own noise."""
    began = time.perf_counter()
    with acting(policy, *how):
        ended = rollout(policy, task, range(FIRST_SEED + first, FIRST_SEED + first + count))
    lists = {name: [getattr(e, name) for e in ended] for name in ("seed", "score", "success", "chunks", "actions")}
    return {**lists, "lockstep seconds": time.perf_counter() - began}
