"""`python -m benchmarks overhead`: what is spent outside the model, as a share of a call and in milliseconds a round.

share = 1 - model_seconds / seconds          medians and ranges of repeats, after one run to warm up

The share is of window 32 and one sample of `scenes`. Milliseconds are with a model that answers what it is shown, which
takes no time, on a CPU of this thread's processor time. What a round asks of torch is counted as in `counting.py`, the
median of a call's rounds; "all told" is a call's operator calls, those that prepare it among them, shared among its
rounds. Memory as large as activations are is asked for once before: what glibc gives back to the system, only to take
it again, depends on the largest piece it ever had back.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.methods.base import AbstractMethod
from paradigms.methods.guess import Copy, Extrapolate
from paradigms.methods.picard import Picard
from paradigms.methods.spectral import Spectral
from paradigms.models import Pretrained, load
from paradigms.rules import ddim, ddpm, dpmsolver
from paradigms.schedule import linear
from paradigms.solution import Solution
from paradigms.solve import TOLERANCE, iterate, sample
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError
from paradigms.stopping.step_noise import StepNoise
from paradigms.system import System
from paradigms.window.controller import Plan, WindowController
from paradigms.window.frame import Frame

from ..report import spread, table, write
from .counting import Far, Operations, on_device
from .engine import start


def overhead(model: Pretrained, repeats: int, steps: int) -> dict[str, list[float]]:
    """Share of the call outside the model at window 32, in per cent, for one sample of each rule and method."""
    found: dict[str, list[float]] = {}
    ways: dict[str, tuple[AbstractMethod, AbstractStop]] = {
        "Picard, copied guess, step noise": (Picard(Copy()), StepNoise(0.1)),
        "Picard, extrapolated guess, step noise": (Picard(Extrapolate()), StepNoise(0.1)),
        "spectral secant, final error (the default)": (Spectral(), FinalError(TOLERANCE)),
    }
    for name, make in (("ddpm", ddpm), ("ddim", ddim), ("dpmsolver", dpmsolver)):
        for way, (method, stop) in ways.items():
            system = make(linear(), steps, prediction=model.prediction)
            shares = []
            for _ in range(repeats + 1):
                x, generator = start(model, system, 1)
                run = sample(model.model, system, x, method, window=32, tolerance=stop, generator=generator)
                shares.append(100 * (1 - run.model_seconds / run.seconds))
            found[f"{name}, {way}"] = shares[1:]  # the first warms up
    return found


def shown(x: Tensor, t: Tensor) -> Tensor:
    """A model of noise that answers what it is shown: no time, and something to converge."""
    return x


def call(
    shape: tuple[int, ...], window: int, rule: str, steps: int
) -> tuple[System, Tensor, Callable[..., dict[str, Any]]]:
    """The table and the noise of one sample of a state of `shape`, and the arguments to sample it with."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    system = ddpm(linear(), steps) if rule == "ddpm" else ddim(linear(), steps)
    x = system.noise((1, *shape), torch.Generator().manual_seed(0)).to(device)
    return system, x, lambda **more: {"window": window, "generator": torch.Generator().manual_seed(1), **more}


ACTIVATIONS = 31 << 18  # numbers in 31 MiB: above 32 glibc learns nothing
STATES: dict[str, tuple[tuple[int, ...], int, str, int]] = {
    "64 numbers, window 32, ddpm of 100 steps": ((1, 8, 8), 32, "ddpm", 100),
    "4x96x96, window 16, ddim of 50 steps": ((4, 96, 96), 16, "ddim", 50),
    "3x256x256, window 8, ddim of 50 steps": ((3, 256, 256), 8, "ddim", 50),
}
# Milliseconds, calls, kernels, waits and calls, all told, at commit ab692d2, when a criterion was judged on the device;
# counted as today, and timed minutes after today's on the same quiet machine, 2 threads.
BEFORE = {
    "64 numbers, window 32, ddpm of 100 steps: the default": (4.39, 448, 201, 1, 428),
    "64 numbers, window 32, ddpm of 100 steps: the paper's": (1.03, 119, 59, 1, 119),
    "64 numbers, window 32, ddpm of 100 steps: sequential": (0.23, 36, 12, 1, 36),
    "4x96x96, window 16, ddim of 50 steps: the default": (70.5, 527, 241, 1, 517),
    "4x96x96, window 16, ddim of 50 steps: the paper's": (33.8, 111, 56, 1, 114),
    "4x96x96, window 16, ddim of 50 steps: sequential": (0.438, 28, 10, 1, 29),
    "3x256x256, window 8, ddim of 50 steps: the default": (184, 518, 231, 1, 504),
    "3x256x256, window 8, ddim of 50 steps: the paper's": (87.4, 111, 56, 1, 112),
    "3x256x256, window 8, ddim of 50 steps: sequential": (2.17, 28, 10, 1, 29),
}
WAYS: dict[str, dict[str, Any]] = {
    "the default": {"method": Spectral(), "tolerance": FinalError(TOLERANCE)},
    "the paper's": {"method": Picard(), "tolerance": StepNoise(0.1)},
    "sequential": {"window": 1},
}


def rounds(repeats: int) -> dict[str, dict[str, Any]]:
    """Of each state and way the milliseconds outside the model a round, and what a round asks of torch."""
    found: dict[str, dict[str, Any]] = {}
    torch.ones(ACTIVATIONS)
    for name, given in STATES.items():
        system, x, how = call(*given)
        for way, more in WAYS.items():
            ms = [outside(partial(sample, shown, system, x, **how(**more))) for _ in range(repeats + 2)][2:]
            found[f"{name}: {way}"] = {"ms": ms} | asked(system, x, partial(how, **more))
    return found


def outside(run: Callable[[], Solution]) -> float:
    """Milliseconds a round: on a CPU of this thread's processor time, so that others on the machine count less."""
    began = time.thread_time()
    solution = run()
    seconds = time.thread_time() - began
    if torch.cuda.is_available():
        seconds = solution.seconds - solution.model_seconds
    return 1000 * seconds / solution.rounds


def asked(system: System, x: Tensor, how: Callable[[], dict[str, Any]]) -> dict[str, float]:
    """What torch is asked for: calls of the whole call a round, and the calls, kernels and waits of a round alone."""
    seen: list[tuple[int, int, int]] = []
    moved = system.to(x.device, x.dtype)
    with Operations([x, *on_device(moved)]) as operations:
        for _ in each_round(system, x, how()):
            seen.append((operations.count.total(), operations.kernels.total(), 0))
        total, n = operations.count.total(), len(seen)
    alone = [[b[k] - a[k] for a, b in itertools.pairwise(seen)] for k in (0, 1)]
    waits = []
    for _ in each_round(system, x.as_subclass(Far), how()):
        waits.append(Far.asked.total())
        Far.asked.clear()
    middle = [statistics.median(v) for v in (*alone, waits[1:])]
    return dict(zip(("calls", "kernels", "waits"), middle, strict=True)) | {"all": total / n}


def each_round(system: System, x: Tensor, how: dict[str, Any]) -> Iterator[Frame]:
    """The frames of a call."""
    method = how.pop("method", None)
    if how.get("window") == 1:  # a stretch of one step, and not of all of them
        how["window"] = StepByStep()
    return iterate(shown, system, x, method, **how)


class StepByStep(WindowController):
    """One single step, and then another."""

    def next(self, row: int) -> Plan:
        return 1, 1


def main(out: Path, repeats: int = 5, quick: bool = False, alone: bool = False) -> None:
    """Measures it, prints the tables and writes out/overhead.md and out/overhead.json, of a round alone out/round."""
    each = rounds(repeats)
    head = "state: way", f"ms a round, median (range) of {repeats}", "calls", "kernels", "waits", "calls, all told"
    columns = "calls", "kernels", "waits", "all"
    body = [[name, spread(v["ms"]), *(f"{v[k]:.0f}" for k in columns)] for name, v in each.items()]
    a_round = "A round, with a model of no time", table(head, body)
    if alone:
        before = [[name, *map(str, v)] for name, v in BEFORE.items()]
        parts = [a_round, ("The same, counted before", table(head, before))]
        print(write(out, "round", "What a round asks of torch", parts, {"a round": each, "before": BEFORE}))
        return
    shares = overhead(load("scenes"), repeats, 20 if quick else 200)
    share = table(
        ("rule and method", f"per cent of the call, median (range) of {repeats}"),
        [[name, spread(values)] for name, values in shares.items()],
    )
    title, parts = "Sampler time outside the model", [("`scenes`, window 32, one sample", share), a_round]
    print(write(out, "overhead", title, parts, {"per cent": shares, "a round": each}))
