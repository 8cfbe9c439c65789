"""The rows of the robots: a shipped policy, or one of the user's, three ways in its simulator."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch

from paradigms.policies import build, load_policy
from paradigms.policies.tasks.rollout import FIRST_SEED
from paradigms.policies.tasks.task import Task, load_task

from ..robots import acting
from ..robots.policies import usual
from .published import Row
from .ways import OURS, PAPER, SEQUENTIAL, Told

SAMPLERS = {"ddpm": "DDPM-100", "ddim": "DDIM-15", "dpmsolver": "DPMSolver-15"}
WAYS = {SEQUENTIAL: acting.SEQUENTIAL, PAPER: acting.PAPER, OURS: acting.OURS}
CHUNKS = 4  # of an episode, whose time is taken


def policy_of(row: Row, weights: str | None, small: bool, device: torch.device) -> Any:
    """The user's policy, the shipped one, or with `small` a narrow one with random weights."""
    if small:
        torch.manual_seed(0)
        return build(load_task(row.model), widths=(16, 32, 64), embed=16)
    return load_policy(weights or usual(row.model)).to(device)


def observed(policy: Any, task: Task, episodes: int) -> tuple[list[acting.Seen], str | None]:
    """What the policy sees in its simulator; where that is missing made-up observations, and why."""
    try:
        return acting.record(policy, task, episodes, CHUNKS), None
    except ImportError as error:
        generator = torch.Generator().manual_seed(0)
        made = [torch.rand(CHUNKS, task.n_obs_steps, task.observation, generator=generator) for _ in range(episodes)]
        seen = [acting.Seen(FIRST_SEED + k, obs) for k, obs in enumerate(made)]
        return seen, f"{error}"


def measure(row: Row, policy: Any, episodes: int) -> tuple[dict[str, Told], str]:
    """Every way's account, and a note. Seconds are of an episode, of a chunk where there is no simulator."""
    task, sampler = load_task(row.model), SAMPLERS[row.rule]
    seen, missing = observed(policy, task, episodes)
    expected, found = acting.reference(policy, sampler, seen), {}
    for way, known in WAYS.items():
        told = acting.chunks(policy, task, acting.How(sampler, known), seen, expected)
        quality, chunks = rewards(policy, task, sampler, known, episodes) if missing is None else (None, 1.0)
        seconds = [chunks * s for s in told["seconds"]]
        found[way] = Told(told["evaluations"], told["rounds"], seconds, told["difference"], quality)
    errors = "Errors are the largest difference of an action, as a share of its range."
    if missing is None:
        return found, f"Seconds are of an episode, {episodes} of which were carried out. {errors}"
    return found, f"Reward: not measured: {missing}. Seconds are of one chunk, of made-up observations. {errors}"


def rewards(policy: Any, task: Task, sampler: str, way: str, episodes: int) -> tuple[float, float]:
    """The mean reward of episodes, and their chunks."""
    ended = acting.episodes(policy, task, acting.How(sampler, way), 0, episodes)
    scores: Sequence[float] = ended["score"]
    return fmean(scores), fmean(ended["chunks"])
