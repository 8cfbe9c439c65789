"""`python -m benchmarks auto`: the window that picks itself, against stepping and against every fixed window.

    speed = seconds of `sequential` / seconds of `sample`, of a pair of calls one after the other

Of every cell: CALLS pairs from nothing known on, the first one cold, a life of auto's; then every window of the grid;
then the best of those, `sequential` and auto in every order, twice; and all but the grid again, a few lives. Most
models here are small and run on a CPU, where few cells have more to gain than a window costs; two devices are played by
a small model that sleeps until its time is over: one that has room for every row, and one that has room for 16. Results
go to out/auto.json after every cell, and what is there is not measured again.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paradigms.execution import model_key
from paradigms.files import write_json
from paradigms.rules import ddim, ddpm
from paradigms.schedule import linear
from paradigms.solution import relative_error
from paradigms.solve import TOLERANCE, sample, sequential

from ..report import machine, spread, table, write
from .problems import GUIDANCE, SHORT, problem

WINDOWS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
CALLS, TIMES = (24, 48), (1, 9)  # pairs, and runs of each window: of slow calls, of fast ones
LIVES, TURNS = (1, 8), 2  # times that all is forgotten, at least and at most; turns in every order at the end of each
FAST, PATIENCE = 0.2, 25.0  # seconds of a call; of calls after which there are no more lives than the least
LEAST, SHARE = 0.98, 0.9  # of the speed of stepping, and of the best fixed window's

Windows = Callable[[], Sequence[int]]
Call = Callable[[int | str, int], tuple[Tensor, Windows]]  # window, seed -> the sample, and what tells its windows


@dataclass(frozen=True)
class Cell:
    """A chain to sample: `plain` steps through it, `call` samples it with a window; `reason`: why that stepped."""

    name: str
    rows: int
    plain: Callable[[int], Tensor]
    call: Call
    reason: Callable[[], str | None] = lambda: None


class Sleeping(nn.Module):
    """A model whose calls of M rows take `seconds(M)`, as long as it is done by then."""

    def __init__(self, model: nn.Module, seconds: Callable[[int], float]) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the model says, when the time is over."""
        end = time.perf_counter() + self.seconds(len(x))
        said: Tensor = self.model(x, t, **condition)
        time.sleep(max(end - time.perf_counter(), 0.0))
        return said


class Residual(nn.Module):
    """The size of a small policy: a residual MLP of 1.1 million random weights on 16 actions of 2 numbers."""

    def __init__(self, wide: int = 512) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.out = nn.Linear(33, wide), nn.Linear(wide, 32)
        self.blocks = nn.ModuleList(nn.Linear(wide, wide) for _ in range(4))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """An estimate of the data that leans on the state."""
        h = self.into(torch.cat([x.flatten(1), (t / 1000).to(x)[:, None]], 1))
        for block in self.blocks:
            h = h + nn.functional.silu(block(h))
        return 0.3 * x + 0.3 * self.out(h).tanh().reshape(x.shape)


def cells() -> Iterator[tuple[str, Callable[[], Cell]]]:
    """The names of all cells, and what makes each."""
    for name, batch in itertools.product(
        ("mixture-64", "mixture-1024", "mixture-8192", "digits", "digits-guided", "scenes"), (1, 4)
    ):
        for rule in SHORT:
            yield f"{name}, {batch}, {rule}", lambda n=name, r=rule, b=batch: shipped(n, r, b)  # type: ignore[misc]
    for name in ("mixture-64", "digits", "scenes"):
        yield f"{name}, 1, DDPM-1000", lambda n=name: shipped(n, "DDPM-1000", 1)  # type: ignore[misc]
    for rule, batch in itertools.product(("DDPM-100", "DDIM-15"), (1, 4)):
        yield f"MLP, {batch}, {rule}", lambda r=rule, b=batch: policy(r, b)  # type: ignore[misc]
    for rule in ("DDPM-100", "DDIM-50", "DPMSolver-25"):
        yield f"latent pipeline, 1, {rule}", lambda r=rule: pipeline(r)  # type: ignore[misc]
    for (device, room), rule in itertools.product(
        (("room for all", 10**6), ("room for 16", 16)), ("DDPM-100", "DDIM-50", "DPMSolver-20")
    ):
        yield f"{device}, 1, {rule}", lambda d=room, r=rule: shipped("digits", r, 1, d)  # type: ignore[misc]


def shipped(name: str, rule: str, batch: int, room: int = 0) -> Cell:
    """A model of the frontier, or one that sleeps for 20 ms for each `room` rows."""
    found = problem(name)
    model: Any = found.model
    if room:
        model = Sleeping(model, lambda M: 0.02 * max(1.0, M / room))
    return chain(f"{name}, {batch}, {rule}", model, found.system(rule), found.shape, found.condition(batch), batch)


def policy(rule: str, batch: int) -> Cell:
    """The MLP under DDPM-100 or DDIM-15."""
    system = ddpm(linear(), 100, prediction="x0") if rule == "DDPM-100" else ddim(linear(), 15, prediction="x0")
    return chain(f"MLP, {batch}, {rule}", Residual(), system, (16, 2), {}, batch)


def chain(name: str, model: Any, system: Any, shape: tuple[int, ...], condition: dict[str, Tensor], batch: int) -> Cell:
    """A chain of the core's; a seed is a start and noise of its own."""

    def given(seed: int) -> tuple[Tensor, dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)
        return system.noise((batch, *shape), generator), {"generator": generator, "condition": condition}

    def plain(seed: int) -> Tensor:
        x, how = given(seed)
        return sequential(model, system, x, **how)

    def call(window: int | str, seed: int) -> tuple[Tensor, Windows]:
        x, how = given(seed)
        solution = sample(model, system, x, window=window, **how)
        reasons[:] = [solution.reason]
        return solution.x, lambda: solution.windows

    reasons: list[str | None] = [None]
    return Cell(name, len(system), plain, call, lambda: reasons[0])


def pipeline(rule: str) -> Cell:
    """The shipped text-to-image pipeline, to its latents; of the same parts one that stays parallel."""
    import diffusers as df

    from paradigms.adapters import enable_parallel_sampling

    kind, steps = rule.split("-")
    kinds: dict[str, Any] = {"DDPM": df.DDPMScheduler, "DDIM": df.DDIMScheduler}
    kinds["DPMSolver"] = df.DPMSolverMultistepScheduler
    parts = latent().components
    parts = parts | {"scheduler": kinds[kind].from_config(parts["scheduler"].config)}
    one, other = (latent().__class__(**parts) for _ in range(2))
    reports: dict[int | str, Any] = {}

    for pipe in (one, other):
        pipe.set_progress_bar_config(disable=True)

    def made(pipe: Any, seed: int) -> Tensor:
        found = pipe(
            "a red sun over the sea", num_inference_steps=int(steps), guidance_scale=GUIDANCE, output_type="latent",
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return found.images  # type: ignore[no-any-return]

    def call(window: int | str, seed: int) -> tuple[Tensor, Windows]:
        if window not in reports:
            reports.clear()
            reports[window] = enable_parallel_sampling(other, window=window)
        run = reports[window]
        before = len(run.windows)
        return made(other, seed), lambda: run.windows[before:]

    return Cell(f"latent pipeline, 1, {rule}", int(steps), partial(made, one), call)


@cache
def latent() -> Any:
    """The shipped pipeline."""
    from paradigms.models.latent import load

    return load()


def measure(cell: Cell) -> dict[str, Any]:
    """Seconds of all that is compared, in the order they were taken."""
    cell.plain(0)  # what a machine does once
    quick = timed(lambda: cell.plain(0))[0] < FAST
    two: list[Callable[[int], Any]] = [cell.plain, lambda s: cell.call("auto", s)]
    lives: list[list[tuple[float, float]]] = []
    grid: dict[int, float] = {}
    orders = list(itertools.permutations(range(3))) * TURNS  # what ran before warms caches
    errors, windows, turns = [], [], []
    for life in often(LIVES):
        model_key.forget()
        lives.append([])
        for seed in range(CALLS[quick] * life, CALLS[quick] * (life + 1)):
            pair = {i: timed(partial(two[i], seed)) for i in ((0, 1), (1, 0))[seed % 2]}  # neither is always first
            (one, x), (other, (y, w)) = pair[0], pair[1]
            lives[-1].append((one, other))
            errors.append(float(relative_error(y, x).max()))
            windows.append(told(w()))
        grid = grid or every(cell, TIMES[quick], 3 * lives[0][0][0])
        best = min(grid, key=lambda v: grid[v])
        three: list[Callable[[int], Any]] = [*two, partial(cell.call, best)]
        for seed, order in enumerate(orders, 1000 + len(orders) * life):
            spent = {k: timed(partial(three[k], seed))[0] for k in order}
            turns.append([spent[k] for k in range(3)])
    return {"lives": lives, "turns": turns, "grid": grid, "best": best, "errors": errors,
            "windows": [windows[0], windows[-1]]}  # fmt: skip


def every(cell: Cell, times: int, slow: float) -> dict[int, float]:
    """Seconds of each window; after one that takes more than `slow`, of none four times wider than the best."""
    grid: dict[int, float] = {}
    for W in (w for w in WINDOWS if w <= cell.rows):
        grid[W] = statistics.median(timed(lambda W=W, k=k: cell.call(W, k))[0] for k in range(times))  # type: ignore[misc]
        if grid[W] > slow and min(grid, key=lambda v: grid[v]) * 4 < W:
            break
    return grid


def often(times: tuple[int, int]) -> Iterator[int]:
    """0, 1, ... at least and at most so often, in between as long as there is patience."""
    began = time.perf_counter()
    for k in range(times[1]):
        if k >= times[0] and time.perf_counter() - began > PATIENCE:
            return
        yield k


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def told(windows: Sequence[int]) -> str:
    """Windows as text: 1 x 2, 32 x 5 for two steps and five rounds of 32 rows; the first few."""
    runs = [(w, len(list(group))) for w, group in itertools.groupby(windows)]
    return ", ".join(f"{w} x {n}" for w, n in runs[:6]) + (", ..." if len(runs) > 6 else "")


def row(name: str, m: dict[str, Any]) -> list[Any]:
    """A cell's line of the table."""
    model, batch, rule = name.split(", ")
    steps = statistics.median(t[0] for t in m["turns"])
    speeds = [one / two for pairs in m["lives"] for one, two in pairs]
    first = [pairs[0][0] / pairs[0][1] for pairs in m["lives"]]
    fixed = statistics.median(t[0] / t[2] for t in m["turns"])
    share = statistics.median(t[2 if fixed > 1 else 0] / t[1] for t in m["turns"])
    spent = [sum(each) for each in zip(*m["turns"], strict=True)]  # seconds of stepping, auto, the best window
    above = f"{sum(e > TOLERANCE for e in m['errors'])} of {len(m['errors'])}"
    warm = [t[0] / t[1] for t in m["turns"]]
    return [
        model, int(batch), rule, 1e3 * steps, int(m["best"]), fixed, statistics.median(first),
        statistics.median(speeds), spread(warm), share, min(spent[0], spent[2]) / spent[1],
        statistics.median(m["errors"]), above, m["windows"][1],
    ]  # fmt: skip


HEAD = ("model", "samples", "rule", "sequential, ms", "best window", "its speed", "auto: first call", "median of calls",
        "then", "of the best", "in seconds", "median error", "above tolerance", "its windows")  # fmt: skip


def main(out: Path, only: str = "", minutes: float = 4.0) -> None:
    """Measures what is missing for so many minutes, prints the table and writes out/auto.md and out/auto.json."""
    path, began = out / "auto.json", time.perf_counter()
    kept: dict[str, Any] = json.loads(path.read_text())["cells"] if path.exists() else {}
    found = {name: m for name, m in kept.items() if "lives" in m}  # older results had one life, and are taken again
    names = [name for name, _ in cells()]
    for name, make in cells():
        if name in found or only not in name or time.perf_counter() - began > 60 * minutes:
            continue
        found[name] = measure(make())
        write_json(path, {"machine": machine(), "cells": found})
        print(name, row(name, found[name])[3:], file=sys.stderr, flush=True)
    lines = [row(name, found[name]) for name in names if name in found]
    low = [line for line in lines if line[7] < LEAST], [line for line in lines if line[9] < SHARE]
    under = [f"{v[0]}, {v[1]}, {v[2]} ({v[7]:.3g}, {v[9]:.3g})" for v in lines if v in low[0] + low[1]]
    count = (
        f"{len(lines)} of {len(names)} cells measured. Auto is at least {LEAST} times as fast as stepping in the "
        f"median of its calls, from the first on, in {len(lines) - len(low[0])}, and reaches {SHARE:.0%} of the best "
        f"fixed window, stepping included, in {len(lines) - len(low[1])} by the median of turns, and in "
        f"{sum(v[10] >= SHARE for v in lines)} by the seconds of all turns, which slow calls weigh on.\n\n"
        f"Below: {'; '.join(under) or 'none'}"
    )
    sections = [("The count", count), ("Speeds, in times of stepping", table(HEAD, lines))]
    print(write(out, "auto", "The window that picks itself", sections, {"cells": found}))
