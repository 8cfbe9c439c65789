"""The demo's first part: the PushT policy acts, step by step and in parallel, in episodes of the same seeds and noise.

actions a second    actions carried out / seconds of the policy's calls; the simulator's own time is not counted
speedup             seconds a chunk step by step / seconds a chunk in parallel, medians; both make WARM chunks before
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Table

WAYS = ("step by step", "in parallel")
# Seconds of stepping after which no further episode is begun. Chosen by hand.
BUDGET = 15.0  # seconds of stepping after which no further episode is begun
# At most this many episodes. Chosen by hand.
MOST = 3
# Calls before the clock, of both samplers: the first sets libraries up, in the others "auto" looks around. Chosen by
# hand.
WARM = 6


@dataclass
class Acted:
    """What a sampler's episodes came to; last: the simulator's picture at the end of each."""

    solved: list[bool] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)
    actions: int = 0
    chunks: int = 0
    times: list[float] = field(default_factory=list)  # seconds of each chunk
    rounds: int = 0
    last: list[Any] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Actions a second of computing."""
        return self.actions / self.seconds

    @property
    def seconds(self) -> float:
        """Of computing."""
        return sum(self.times)

    @property
    def chunk(self) -> float:
        """Seconds of a chunk, the median."""
        return median(self.times)


def missing() -> str | None:
    """What a person types where the simulator is not installed, else None."""
    from ..policies.tasks.task import load_task

    try:
        import diffusers  # noqa: F401

        load_task("pusht").environment()
    except ImportError:
        return "pip install 'paradigms-sampling[pusht]'"
    return None


def play(device: torch.device, say: Callable[[str], None]) -> dict[str, Acted]:
    """Both samplers' episodes, of seeds FIRST_SEED and on, as many as the budget allows."""
    from ..policies.store import load_policy
    from ..policies.tasks.rollout import FIRST_SEED
    from ..policies.tasks.task import load_task

    policy, task = load_policy("pusht-unet").to(device), load_task("pusht")
    found = {way: Acted() for way in WAYS}
    for k in range(MOST):
        if found[WAYS[0]].seconds > BUDGET:
            break
        for way, acted in found.items():
            with sampler(policy, way) as report:
                if not k:
                    warm(policy, task)
                before = report.rounds if report else 0
                episode(policy, task, FIRST_SEED + k, acted, told(say, f"PushT, {way}, episode {k + 1}"))
                acted.rounds += report.rounds - before if report else 0
    found[WAYS[0]].rounds = policy.num_inference_steps * found[WAYS[0]].chunks
    return found


def told(say: Callable[[str], None], what: str) -> Callable[[str], None]:
    """Says it with what it is of."""
    return lambda text: say(f"{what}: {text}")


def sampler(policy: Any, way: str) -> Any:
    """Within it the policy samples so; its report, None where it steps."""
    from ..adapters import parallelize

    return parallelize(policy, warm_start=True) if way == WAYS[1] else contextlib.nullcontext()


def warm(policy: Any, task: Any) -> None:
    """The calls that nobody times."""
    obs = torch.zeros(1, task.n_obs_steps, task.observation, device=policy.device)
    for k in range(WARM):
        policy.predict_action({"obs": obs}, generator=torch.Generator().manual_seed(k))


def episode(policy: Any, task: Any, seed: int, acted: Acted, say: Callable[[str], None]) -> None:
    """One episode, added to what the sampler did before."""
    from ..policies.tasks.rollout import Live

    live = Live.begin(seed, task.environment(), task, torch.device("cpu"))
    while not live.over:
        obs = torch.as_tensor(np.array([live.seen]), dtype=torch.float32, device=policy.device)
        began = time.perf_counter()
        actions = policy.predict_action({"obs": obs}, generator=live.generator)["action"][0].cpu()
        acted.times.append(time.perf_counter() - began)
        before = live.actions
        live.carry_out(actions.double().numpy(), task)
        acted.actions, acted.chunks = acted.actions + live.actions - before, acted.chunks + 1
        say(f"{live.actions} actions, {acted.rate:.1f} a second")
    acted.solved.append(live.environment.success)
    acted.covered.append(live.environment.score)
    acted.last.append(live.environment.image())


def table(found: dict[str, Acted]) -> Table:
    """The policy's table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("PushT policy, DDPM-100")
    for name in ("actions/s", "speedup", "s/chunk", "rounds/chunk", "solved"):
        table.add_column(name, justify="right")
    base = found[WAYS[0]].chunk
    for way, a in found.items():
        rate, chunk = f"{a.rate:.1f}", f"{a.chunk:.2f}"
        solved = f"{sum(a.solved)} of {len(a.solved)}"
        style = "bold" if way == WAYS[1] else ""
        table.add_row(way, rate, f"{base / a.chunk:.1f}", chunk, f"{a.rounds / a.chunks:.0f}", solved, style=style)
    return table


def explain() -> str:
    """What the table is to be held against."""
    from ..policies.tasks.task import load_task

    hertz = load_task("pusht").hertz
    return (
        f"The task's robot carries out {hertz:g} actions a second: a policy that computes\n"
        f"fewer makes it wait. Same seeds and noise; both made {WARM} chunks before that are\n"
        "not counted. In parallel: window auto, and each chunk begins with the last one,\n"
        "shifted (warm_start=True).\n"
    )


def numbers(found: dict[str, Acted]) -> dict[str, Any]:
    """By name, as JSON takes it."""
    base = found[WAYS[0]].chunk
    return {
        way: {
            "actions_per_second": a.rate, "speedup": base / a.chunk, "seconds": a.times, "chunks": a.chunks,
            "actions": a.actions, "rounds": a.rounds, "solved": a.solved, "score": a.covered,
        }
        for way, a in found.items()
    }  # fmt: skip


def picture(found: dict[str, Acted], path: Path) -> None:
    """Where the T came to rest in each episode."""
    from ..viz import pictures

    rows = [(f"{way}\n{a.rate:.1f} actions\na second", np.stack([crop(v) for v in a.last])) for way, a in found.items()]
    pictures.write_grid(path, "PushT: the T at the end of each episode, same seeds", rows)


def crop(image: Any) -> Any:
    """The simulator's picture, small enough for a grid, the mean of what falls on a pixel."""
    image = np.asarray(image)
    k = max(image.shape[0] // 128, 1)
    high, wide = image.shape[0] // k * k, image.shape[1] // k * k
    return image[:high, :wide].reshape(high // k, k, wide // k, k, 3).mean((1, 3)).astype(np.uint8)
