"""How long a chunk takes by the size of the network and the number of threads, and what a control loop makes of it.

A network of the published size needs hours to train, and none to be timed: `Heavy` evaluates one of random weights and
answers as the trained one does, so that rounds are those of a policy. A loop at 10 Hz asks for a chunk when its actions
are used up; a tick is met if there is an action of its own for it, else the robot holds the last:

    met = sum of K / sum of (K + floor(seconds / 0.1)),    K actions carried out of a chunk
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from paradigms.adapters import parallelize
from paradigms.policies.policy import DiffusionPolicy, build
from paradigms.policies.store import load_policy, shipped
from paradigms.policies.tasks.task import Task

from ..report import table

LARGE, SHIPPED, SMALL = "U-Net 65.8M", "shipped", "MLP"
WINDOWS: tuple[int | str, ...] = (8, 16, "auto")
THREADS = (1, 2)
LEAST, FEW, MOST = 3, 12.0, 60  # chunks at least; seconds a way; chunks at most
PERIOD = 0.1


class Heavy(nn.Module):
    """A network that takes the time of `weight` and answers as `light` does."""

    def __init__(self, light: nn.Module, weight: nn.Module) -> None:
        super().__init__()
        self.light, self.weight = light, weight

    def forward(self, sample: Tensor, timestep: Any, local_cond: Any = None, global_cond: Any = None) -> Tensor:
        """As both: sample (B, T, a), timestep (B,) or one, global_cond (B, g) -> (B, T, a)."""
        self.weight(sample, timestep, global_cond=global_cond)
        return self.light(sample, timestep, global_cond=global_cond)


def networks(policy: DiffusionPolicy, task: Task) -> dict[str, Callable[[], Any]]:
    """Policies of other sizes, by name."""

    def like(network: nn.Module) -> DiffusionPolicy:
        made = DiffusionPolicy(
            network, policy.noise_scheduler, dict(policy.normalizer), policy.horizon, policy.n_obs_steps,
            policy.n_action_steps,
        )  # fmt: skip
        return made.eval().requires_grad_(False)

    trained = f"{task.name}-mlp" in shipped()
    return {
        LARGE: lambda: like(Heavy(policy.model, build(task, "unet").model)),
        SHIPPED: lambda: policy,
        SMALL: lambda: load_policy(f"{task.name}-mlp") if trained else like(build(task, "mlp").model),
    }


def jobs(policy: DiffusionPolicy, task: Task) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """What to time: its name, and how."""
    for name, make in networks(policy, task).items():
        for threads in THREADS:
            yield (
                f"clock {name}, {threads} threads",
                lambda data, make=make, threads=threads: timed(make(), task, threads),  # type: ignore[misc]
            )


def timed(policy: DiffusionPolicy, task: Task, threads: int) -> dict[str, Any]:
    """Seconds of chunks of DDPM-100, batch 1, by way; the ways take turns, so that what else runs meets all alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        obs = torch.randn(1, policy.n_obs_steps, task.observation, generator=torch.Generator().manual_seed(0))
        obs = policy.normalizer["obs"].unnormalize(obs.clamp(-1, 1) / 2)
        ways: dict[str, int | str | None] = {"sequential": None, **{f"window {w}": w for w in WINDOWS}}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        rounds: dict[str, float] = {}
        for way, window in ways.items():
            rounds[way] = once(policy, obs, window, 0)[1]  # warms up; "auto" learns its times
        began = time.perf_counter()
        while len(seconds["sequential"]) < LEAST or (
            time.perf_counter() - began < FEW * len(ways) and len(seconds["sequential"]) < MOST
        ):
            for way, window in ways.items():
                took, rounds[way] = once(policy, obs, window, len(seconds[way]))
                seconds[way].append(took)
        return {"seconds": seconds, "rounds": rounds, "parameters": sum(p.numel() for p in policy.model.parameters())}
    finally:
        torch.set_num_threads(before)


def once(policy: DiffusionPolicy, obs: Tensor, window: int | str | None, seed: int) -> tuple[float, float]:
    """Seconds and rounds of one chunk; step by step where there is no window."""
    generator = torch.Generator().manual_seed(seed)
    if window is None:
        began = time.perf_counter()
        policy.predict_action({"obs": obs}, generator=generator)
        return time.perf_counter() - began, float(policy.num_inference_steps)
    with parallelize(policy, window=window) as run:
        began = time.perf_counter()
        policy.predict_action({"obs": obs}, generator=generator)
        return time.perf_counter() - began, float(run.rounds)


def met(seconds: list[float], actions: int) -> float:
    """The share of a loop's ticks that have an action of their own, each chunk as often as the others."""
    return actions * len(seconds) / sum(actions + math.floor(s / PERIOD) for s in seconds)


def sections(measured: dict[str, Any], actions: int = 8) -> list[tuple[str, str]]:
    """The tables of what was timed."""
    found = [(k.removeprefix("clock "), v) for k, v in measured.items() if k.startswith("clock ")]
    if not found:
        return []
    rows, loop = [], []
    for name, entry in found:
        base = statistics.median(entry["seconds"]["sequential"])
        told = f"{name} ({entry['parameters'] / 1e6:.1f}M parameters)"
        for way, seconds in entry["seconds"].items():
            middle = statistics.median(seconds)
            rows.append([told, way, f"{1e3 * middle:.1f} ms", f"{entry['rounds'][way]:.0f}", f"{base / middle:.2f}"])
            loop.append([told, way, f"{met(seconds, actions):.0%}", f"{1e3 * max(seconds):.0f} ms"])
    head = ("network", "way", "a chunk, median", "rounds", "speedup")
    about = (
        f"DDPM-100, batch 1, ways in turn. {LARGE}: random weights, the shipped network's answers (and its time, in "
        f"all ways); {SMALL}: the task's shipped one, of random weights where there is none. GPU: not measured."
    )
    return [
        ("Wall clock by network and threads", f"{table(head, rows)}\n\n{about}"),
        (
            "A control loop at 10 Hz",
            table(("network", "way", "ticks with an action of their own", "slowest chunk"), loop)
            + f"\n\nOf the measured times: {actions} actions a chunk, and the robot holds the last while it is thought "
            "about the next.",
        ),
    ]
