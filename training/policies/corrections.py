"""Corrections (DAgger): the policy drives for a while, then the expert takes over and is written down to the end.

    o[k+1] = step(policy(o[k]))  for k < handover,    kept from there:  (o[k], a[k] = expert(environment))

So the demonstrations come to hold what to do where the policy really gets to. The one step before the handover is
kept too, with the policy's own action, because a window's first observation is the one before the current.

    python -m training.policies.corrections pusht-unet|FILE [--seeds FIRST END] [--ddim STEPS] [--out FILE]

Source: Ross, Gordon, Bagnell (2011); handing over to the expert instead of asking it at each step, as chunks need.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from paradigms.policies.policy import DiffusionPolicy, few_steps
from paradigms.policies.store import load_policy
from paradigms.policies.tasks.rollout import Live
from paradigms.policies.tasks.task import Environment, Task, Vector, load_task

from .demos import Demos, follow


def corrections(policy: DiffusionPolicy, task: Task, seeds: range, rooms: list[Environment]) -> Demos:
    """One correction a seed, each in a room of its own, handed over at a random chunk; solved ones are kept."""
    lives = [Live.begin(seed, room, task, policy.device) for seed, room in zip(seeds, rooms, strict=True)]
    chunks = task.max_steps // task.n_action_steps
    handover = {seed: int(np.random.default_rng((seed, 2)).integers(1, chunks)) for seed in seeds}
    last: dict[int, Vector] = {}
    for chunk in range(chunks):
        going = [e for e in lives if not e.over and handover[e.seed] > chunk]
        if not going:
            break
        obs = torch.as_tensor(np.array([e.seen for e in going]), dtype=torch.float32, device=policy.device)
        drawn = policy.predict_action({"obs": obs}, generator=[e.generator for e in going])["action"]
        for episode, actions in zip(going, drawn.cpu().double().numpy(), strict=True):
            episode.carry_out(actions, task)
            last[episode.seed] = np.clip(actions[-1], task.low, task.high)
    observations, all_actions, ends, kept = [], [], [], []
    for e in (e for e in lives if not e.over):
        random = np.random.default_rng((e.seed, 3))
        after, actions, _, success = follow(task, e.seen[-1], e.environment, task.expert(), 0.0, random)
        if success:
            observations += [e.seen[-2], *after]
            all_actions += [last[e.seed], *actions]
            ends.append(len(all_actions))
            kept.append(e.seed)
    o = np.array(observations).reshape(-1, task.observation)
    a = np.array(all_actions).reshape(-1, task.action)
    return Demos(o, a, np.array(ends, dtype=np.int64), np.array(kept, dtype=np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.policies.corrections", description="Correct a policy.")
    parser.add_argument("policy", help="a shipped policy's name, or a .safetensors file of one")
    parser.add_argument("--seeds", nargs=2, type=int, default=(10_000, 10_600), metavar=("FIRST", "END"))
    parser.add_argument("--ddim", type=int, default=10, metavar="STEPS", help="the policy is driven by DDIM")
    parser.add_argument("--out", type=Path, default=None, help="file (default: .cache/policies/POLICY-corrections.npz)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    policy = few_steps(load_policy(given.policy), given.ddim)
    name = Path(given.policy).stem
    task = load_task(name.split("-")[0])
    seeds = range(*given.seeds)
    rooms = [task.environment() for _ in range(min(task.at_once, len(seeds)))]  # made once: robosuite takes seconds
    demos = None
    for k in range(0, len(seeds), task.at_once):
        some = seeds[k : k + task.at_once]
        part = corrections(policy, task, some, rooms[: len(some)])
        demos = part if demos is None else demos + part
        demos.save(given.out or Path(f".cache/policies/{name}-corrections.npz"))
        took = time.monotonic() - began
        print(
            f"{len(demos)} corrections of {k + len(some)} seeds, {len(demos.actions)} steps, {took:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
