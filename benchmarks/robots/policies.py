"""`python -m benchmarks policies`: a policy step by step against the same policy in parallel, in its simulator.

    reward       paired over episodes of one seed and one noise: mean difference, 1.96 standard errors either way
    difference   the largest |action - sequential's| of a chunk, on one observation and noise, of the action's range
    time         of a chunk alone; over the actions that are carried out of it, and times the chunks of an episode

Beside every sampler stands the rival of equal latency: the plain sampler with as many steps as ours took rounds.

Everything measured goes to out/policies-TASK.json at once, by name, so that a run can be stopped and gone on with, or
done in parts (`--only "chunks"`, `--only "episodes DDIM"`); what is there for the same weights is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.files import write_json
from paradigms.policies.store import load_policy, shipped
from paradigms.policies.tasks.rollout import FIRST_SEED
from paradigms.policies.tasks.task import Task, load_task

from ..report import machine, table, write
from . import acting, clock, realtime
from .acting import FEW, LOOSE, ORDER, OURS, PAPER, SEQUENTIAL, WARM

SETS, CHUNKS, BLOCK = 12, 8, 50  # episodes and chunks of each for the clock; episodes in lockstep at a time
SEEDS, TICKS = 6, 250  # of the video
KEPT = (8, 16)  # windows whose errors are counted

Data = dict[str, Any]


class Stage:
    """The policy, its task, and what all samplers share."""

    def __init__(self, out: Path, task: Task, policy: Any, quick: bool = False) -> None:
        self.out, self.task, self.policy = out, task, policy
        self.sets, self.chunks = (2, 2) if quick else (SETS, CHUNKS)
        self._expected: dict[str, list[Tensor]] = {}

    @cached_property
    def seen(self) -> list[acting.Seen]:
        """What the policy sees, chunk by chunk."""
        return acting.record(self.policy, self.task, self.sets, self.chunks)

    def expected(self, sampler: str) -> list[Tensor]:
        """The sequential actions on it."""
        if sampler not in self._expected:
            self._expected[sampler] = acting.reference(self.policy, sampler, self.seen)
        return self._expected[sampler]

    @property
    def weights(self) -> str:
        """A name for the weights, so that results of others are not taken for theirs."""
        digest = hashlib.sha256()
        for v in self.policy.model.state_dict().values():
            digest.update(v.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def few(data: Data, sampler: str) -> int | None:
    """The steps of the rival of equal latency: the rounds that ours took, where they are known."""
    ours = data["measured"].get(f"chunks {sampler} {OURS}")
    return max(math.ceil(statistics.mean(ours["rounds"])), 2) if ours else None


def jobs(stage: Stage, count: int) -> Iterator[tuple[str, Callable[[Data], Any]]]:
    """Everything to measure, the quick and the important first: its name, and how, given what is known by then."""

    def chunk(data: Data, sampler: str, way: str) -> Any:
        steps = few(data, sampler) if way == FEW else None
        if way == FEW and steps is None:
            return None
        how, expected = acting.How(sampler, way, steps), stage.expected(sampler)
        return acting.chunks(stage.policy, stage.task, how, stage.seen, expected) | {"steps": steps}

    def block(data: Data, sampler: str, way: str, first: int) -> Any:
        steps = few(data, sampler) if way == FEW else None
        if way == FEW and steps is None:
            return None
        found = acting.episodes(
            stage.policy, stage.task, acting.How(sampler, way, steps), first, min(BLOCK, count - first)
        )
        return found | {"steps": steps}

    for sampler in acting.samplers():
        for way in ORDER:
            yield f"chunks {sampler} {way}", lambda data, s=sampler, w=way: chunk(data, s, w)  # type: ignore[misc]
    for window in KEPT:
        yield (
            f"kept DDIM-15 window {window}",
            lambda data, w=window: acting.kept(stage.policy, "DDIM-15", w, stage.seen),  # type: ignore[misc]
        )
    names = list(acting.samplers())
    needed = [(s, w) for w in (SEQUENTIAL, OURS, FEW) for s in names]
    others = [(s, w) for s in reversed(names) for w in (WARM, PAPER, LOOSE)]  # DDPM's take longest
    for sampler, way in needed + others:
        for first in range(0, count, BLOCK):
            name = f"episodes {sampler} {way} {first}-{min(first + BLOCK, count)}"
            yield name, lambda data, s=sampler, w=way, f=first: block(data, s, w, f)  # type: ignore[misc]
    yield from clock.jobs(stage.policy, stage.task)
    if stage.task.name == "pusht":
        yield "video", lambda data: video(stage, data)


def video(stage: Stage, data: Data) -> Data:
    """Sequential beside parallel control in real time, out/policies-TASK.gif: of the quickest, one that both solve."""
    from ..plots.control import write_drives

    blocks = [v for k, v in data["measured"].items() if k.startswith("episodes ") and f" {SEQUENTIAL} " in k]
    quick = sorted((a, s) for b in blocks for a, s, ok in zip(b["actions"], b["seed"], b["success"], strict=True) if ok)
    seeds = list(dict.fromkeys(s for _, s in quick)) or list(range(FIRST_SEED, FIRST_SEED + SEEDS))
    for seed in seeds[:SEEDS]:
        drives = {way: realtime.drive(stage.policy, stage.task, way, seed, TICKS) for way in (SEQUENTIAL, OURS)}
        if all(d.solved for d in drives.values()):
            break
    medians = {way: statistics.median(d.seconds) for way, d in drives.items()}
    names = {f"{way}: {1e3 * medians[way]:.0f} ms a chunk": d for way, d in drives.items()}
    write_drives(stage.out / f"policies-{stage.task.name}.gif", names, stage.task.hertz)
    about = {way: {"ticks": d.solved, "seconds": d.seconds, "score": d.scores[-1]} for way, d in drives.items()}
    return {"seed": seed, **about}


def usual(task: str) -> str:
    """The name of the task's shipped policy, the U-Net's where there is one."""
    return next((name for name in (f"{task}-unet", f"{task}-mlp") if name in shipped()), f"{task}-unet")


def run(out: Path, stage: Stage, count: int, only: str) -> Data:
    """What was measured by now and what was missing in it, written after every measurement."""
    path = out / f"policies-{stage.task.name}.json"
    data = recall(path, stage.weights)
    for name, work in jobs(stage, count):
        if only in name and name not in data["measured"]:
            if (found := work(data)) is None:  # it needs what was not measured yet
                continue
            data = recall(path, stage.weights)  # again, for another run may have added to it since
            data["measured"][name] = found
            write_json(path, {"machine": machine(), **data})
            print(name, file=sys.stderr, flush=True)
    return data


def recall(path: Path, weights: str) -> Data:
    """What a file holds for these weights, or nothing yet; raises ValueError where it is not such a file."""
    if not path.exists():
        return {"weights": weights, "measured": {}}
    try:
        found = json.loads(path.read_text())
        known = dict(found["measured"]) if found["weights"] == weights else {}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is no result to go on with; move it away or type another --out") from error
    return {"weights": weights, "measured": known}


# ------------------------------------------------------------------------------------------ what is told of it


def scores(data: Data, sampler: str, way: str) -> Data:
    """The lists of all episodes of a way, by seed."""
    blocks = [v for k, v in data["measured"].items() if k.startswith(f"episodes {sampler} {way} ")]
    names = ("score", "success", "chunks")
    return {name: [x for b in blocks for x in b[name]] for name in names} if blocks else {}


def mean(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), spread


def row(data: Data, task: Task, sampler: str, way: str) -> list[Any] | None:
    """A line of the table, None where nothing of it was measured; what is missing says so."""
    alone = data["measured"].get(f"chunks {sampler} {way}")
    base = data["measured"].get(f"chunks {sampler} {SEQUENTIAL}")
    closed, plain = scores(data, sampler, way), scores(data, sampler, SEQUENTIAL)
    if not alone and not closed:
        return None
    missing = "not measured"
    steps = (alone or {}).get("steps")
    line: list[Any] = [sampler, f"{way}, {steps} steps" if steps else way]
    if alone:
        line += [f"{statistics.mean(alone['evaluations']):.0f}", f"{statistics.mean(alone['rounds']):.1f}"]
    else:
        line += [missing] * 2
    if closed:
        reward, error = mean(closed["score"])
        line += [f"{reward:.3f} ± {error:.3f}", f"{statistics.mean(closed['success']):.0%}"]
    else:
        line += [missing] * 2
    n = min(len(closed.get("score", ())), len(plain.get("score", ())))
    if way == SEQUENTIAL or not n:
        line.append("" if way == SEQUENTIAL else missing)
    else:
        gap, error = mean([a - b for a, b in zip(closed["score"][:n], plain["score"][:n], strict=True)])
        line.append(f"{gap:+.3f} ± {1.96 * error:.3f} ({n})")
    if alone:
        middle, actions = statistics.median(alone["seconds"]), task.n_action_steps
        late = torch.tensor(alone["seconds"], dtype=torch.float64).quantile(0.99).item()
        per = statistics.mean(closed["chunks"]) if closed else None
        line.append(f"{middle * per:.2f} s" if per else missing)
        line += [f"{1e3 * middle / actions:.1f} ms", f"{1e3 * late / actions:.1f} ms"]
        apart = alone["difference"]
        far = [100 * statistics.median(apart), 100 * max(apart)]
        line += [""] * 2 if way == SEQUENTIAL else [f"{d:.2f} %" for d in far]
        line.append(f"{statistics.median(base['seconds']) / middle:.2f}" if base else missing)
    else:
        line += [missing] * 6
    return line


HEAD = (
    "sampler", "way", "evaluations", "rounds", "reward", "success", "paired difference", "time an episode",
    "an action, median", "99th percentile", "action difference, median", "largest", "speedup",
)  # fmt: skip


def report(out: Path, data: Data, stage: Stage) -> str:
    """Writes the tables of what was measured, and returns them."""
    task = stage.task
    rows = [r for s in acting.samplers() for w in ORDER if (r := row(data, task, s, w))]
    told = len(next((v["rounds"] for k, v in data["measured"].items() if k.startswith("chunks ")), []))
    size = sum(p.numel() for p in stage.policy.model.parameters())
    about = (
        f"{type(stage.policy.model).__name__} of {size / 1e6:.1f}M parameters, window {acting.WINDOW}, batch 1 for "
        f"times, rounds and differences ({told} chunks of {stage.sets} episodes); rewards from {FIRST} on, lockstep. "
        f"{PAPER}: Picard, copied guess, tolerance 0.1 of a step's noise. {OURS}: the default. {WARM}: with "
        f"`warm_start=True`. {LOOSE}: so too, with the paper's criterion. {FEW}: the plain sampler in as many steps "
        f"as ours took rounds. An action's time is its chunk's over the {task.n_action_steps} actions carried out; "
        "paired differences are ± 1.96 standard errors (episodes). GPU: not measured."
    )
    sections = [(f"Sequential against parallel, {task.name}", f"{table(HEAD, rows)}\n\n{about}")]
    sections += errors(data)
    sections += clock.sections(data["measured"])
    name = f"policies-{task.name}"
    return write(out, name, f"Diffusion policies: {task.name}", sections, data)


def errors(data: Data) -> list[tuple[str, str]]:
    """How many chunks are above the error that was asked for, and how far, where that was measured."""
    rows = []
    for window in KEPT:
        if told := data["measured"].get(f"kept DDIM-15 window {window}"):
            shares = [e / told["tolerance"] for e in told["error"]]
            above = f"{sum(s > 1 for s in shares)} of {len(shares)}"
            rows.append(["DDIM-15", window, f"{100 * told['tolerance']:g} %", above, f"{max(shares):.1f} times",
                         f"{statistics.mean(told['rounds']):.1f}"])  # fmt: skip
    head = ("sampler", "window", "asked", "chunks above it", "worst", "rounds")
    return [("The error that was asked for", table(head, rows))] if rows else []


FIRST = f"seed {FIRST_SEED}"


def main(
    out: Path, task: str, count: int = 100, quick: bool = False, only: str = "", weights: str | None = None
) -> None:
    """Measures what is missing, prints the tables, writes out/policies-TASK.md, .json and the pictures."""
    out = out / "quick" if quick else out
    out.mkdir(parents=True, exist_ok=True)
    stage = Stage(out, load_task(task), load_policy(weights or usual(task)), quick)
    data = run(out, stage, 4 if quick else count, only)
    print(report(out, data, stage))
    from ..plots.control import picture

    if path := picture(out, task, data["measured"]):
        print(f"written to {path}")
