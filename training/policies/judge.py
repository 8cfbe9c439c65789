"""Judge a policy on fresh seeds: `python -m training.policies.judge pusht-unet|FILE [--episodes N] [--ddim STEPS]`."""

from __future__ import annotations

import argparse
import time

import torch

from paradigms.policies.policy import few_steps
from paradigms.policies.store import load_policy
from paradigms.policies.tasks.rollout import FIRST_SEED, Summary, rollout
from paradigms.policies.tasks.task import load_task


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.policies.judge", description="Judge a policy.")
    parser.add_argument("policy", help="a shipped policy's name, or a .safetensors file of one")
    parser.add_argument("--task", default=None, help="task (default: what the name begins with)")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--ddim", type=int, default=None, metavar="STEPS", help="DDIM instead of DDPM-100")
    given = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_policy(given.policy)
    if given.ddim:
        few_steps(policy, given.ddim)
    task = load_task(given.task or given.policy.rsplit("/", 1)[-1].split("-")[0])
    seeds = range(given.first_seed, given.first_seed + given.episodes)
    began = time.monotonic()
    s = Summary.of(rollout(policy, task, seeds))
    print(
        f"{task.name}: mean score {s.score:.3f} +- {s.error:.3f} (standard error), success {s.success:.1%}, "
        f"{s.episodes} episodes of seeds {seeds[0]}..{seeds[-1]}, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
