"""`paradigms bench overhead`: the share of a call that is spent outside the model, window 32, one sample of `scenes`.

share = 1 - model_seconds / seconds          medians and ranges of repeats, after one run to warm up
"""

from __future__ import annotations

from pathlib import Path

from ..method import AbstractMethod, Copy, Extrapolate, Picard
from ..models import Pretrained, load
from ..rules import ddim, ddpm, dpmsolver
from ..schedule import linear
from ..solve import TOLERANCE, sample
from ..spectral import Spectral
from ..stop import AbstractStop, FinalError, StepNoise
from .engine import start
from .report import spread, table, write


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


def main(out: Path, repeats: int = 5, quick: bool = False) -> None:
    """Measures it, prints the table and writes out/overhead.md and out/overhead.json."""
    shares = overhead(load("scenes"), repeats, 20 if quick else 200)
    body = table(
        ("rule and method", f"per cent of the call, median (range) of {repeats}"),
        [[name, spread(values)] for name, values in shares.items()],
    )
    title = "Sampler time outside the model"
    print(write(out, "overhead", title, [("`scenes`, window 32, one sample", body)], {"per cent": shares}))
