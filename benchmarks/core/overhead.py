"""`python -m benchmarks overhead`: what is spent outside the model, as a share of a call and in milliseconds a round.

share = 1 - model_seconds / seconds          medians and ranges of repeats, after one run to warm up

The share is of window 32 and one sample of `scenes`. Milliseconds are of the default method with a model that answers
what it is shown, which takes no time. Operations are what torch is asked for, the model's none among them, and on CUDA
a synchronisation is one of those that wait for the device. Memory as large as activations are is asked for once before:
what glibc gives back to the system, only to take it again, depends on the largest piece it ever had back.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from paradigms.methods.base import AbstractMethod
from paradigms.methods.guess import Copy, Extrapolate
from paradigms.methods.picard import Picard
from paradigms.methods.spectral import Spectral
from paradigms.models import Pretrained, load
from paradigms.rules import ddim, ddpm, dpmsolver
from paradigms.schedule import linear
from paradigms.solution import Solution
from paradigms.solve import TOLERANCE, sample
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError
from paradigms.stopping.step_noise import StepNoise

from ..report import spread, table, write
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


class Operations(TorchDispatchMode):
    """Counts the operations that torch is asked for, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def shown(x: Tensor, t: Tensor) -> Tensor:
    """A model of noise that answers what it is shown: no time, and something to converge."""
    return x


def call(shape: tuple[int, ...], window: int, rule: str, steps: int) -> Callable[[], Solution]:
    """One sample of a state of `shape`, by the default method."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    system = ddpm(linear(), steps) if rule == "ddpm" else ddim(linear(), steps)
    x = system.noise((1, *shape), torch.Generator().manual_seed(0)).to(device)
    return lambda: sample(shown, system, x, window=window, generator=torch.Generator().manual_seed(1))


ACTIVATIONS = 31 << 18  # numbers in 31 MiB: above 32 glibc learns nothing
STATES: dict[str, tuple[tuple[int, ...], int, str, int]] = {
    "64 numbers, window 32, ddpm of 100 steps": ((1, 8, 8), 32, "ddpm", 100),
    "4x96x96, window 16, ddim of 50 steps": ((4, 96, 96), 16, "ddim", 50),
    "3x256x256, window 8, ddim of 50 steps": ((3, 256, 256), 8, "ddim", 50),
}


def rounds(repeats: int) -> dict[str, dict[str, Any]]:
    """Of each state the milliseconds outside the model a round, and the operations and synchronisations."""
    found: dict[str, dict[str, Any]] = {}
    torch.ones(ACTIVATIONS)
    for name, how in STATES.items():
        run = call(*how)
        runs = [run() for _ in range(repeats + 1)][1:]
        ms = [1000 * (r.seconds - r.model_seconds) / r.rounds for r in runs]
        with Operations() as operations:
            n = run().rounds
        found[name] = {"ms": ms, "operations": operations.count.total() / n, "synchronisations": waits(run)}
    return found


def waits(run: Callable[[], Solution]) -> float | None:
    """How often a round waits for a CUDA device; None where there is none."""
    if not torch.cuda.is_available():
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            n = run().rounds
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in said) / n


def main(out: Path, repeats: int = 5, quick: bool = False) -> None:
    """Measures it, prints the tables and writes out/overhead.md and out/overhead.json."""
    shares, each = overhead(load("scenes"), repeats, 20 if quick else 200), rounds(repeats)
    share = table(
        ("rule and method", f"per cent of the call, median (range) of {repeats}"),
        [[name, spread(values)] for name, values in shares.items()],
    )
    a_round = table(
        ("state", f"ms a round, median (range) of {repeats}", "operations a round", "synchronisations a round"),
        [
            [
                name,
                spread(v["ms"]),
                f"{v['operations']:.0f}",
                "no CUDA" if v["synchronisations"] is None else f"{v['synchronisations']:.1f}",
            ]
            for name, v in each.items()
        ],
    )
    title = "Sampler time outside the model"
    parts = [
        ("`scenes`, window 32, one sample", share),
        ("The default method, a model of no time", a_round),
    ]
    print(write(out, "overhead", title, parts, {"per cent": shares, "a round": each}))
