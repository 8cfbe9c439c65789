"""Rounds against the window, measured: DDPM-1000 on Stable Diffusion's noise levels, by `scenes`.

Three groups of traces, a run a sample and an entry a window, written to out/rounds.json after each, so that it can be
stopped and gone on with:

| group       | method and criterion                                                                                 |
| ParaDiGMS   | Picard, copied guess, step noise 1.0: about the published counts, 44 rounds with 2040 evaluations    |
| ours, 0.003 | the default                                                                                          |
| ours, 0.03  | the default at a tolerance that has about ParaDiGMS' error                                           |
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradigms.files import write_json
from paradigms.methods.base import AbstractMethod
from paradigms.methods.guess import Copy
from paradigms.methods.picard import Picard
from paradigms.methods.spectral import Spectral
from paradigms.models import load
from paradigms.rules import ddpm
from paradigms.schedule import linear, scaled_linear
from paradigms.solution import relative_error
from paradigms.solve import TOLERANCE, iterate, sequential
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError
from paradigms.stopping.step_noise import StepNoise

from ..report import machine
from .engine import start

SAMPLES, STEPS = 4, 1000
WINDOWS = (8, 16, 24, 32, 48, 64, 80, 112, 160)
THEIRS, OURS, LOOSE = "ParaDiGMS", f"ours, {TOLERANCE:g}", "ours, 0.03"
GROUPS: dict[str, Callable[[], tuple[AbstractMethod, AbstractStop]]] = {
    THEIRS: lambda: (Picard(Copy()), StepNoise(1.0)),
    OURS: lambda: (Spectral(), FinalError(TOLERANCE)),
    LOOSE: lambda: (Spectral(), FinalError(0.03)),
}


class Chain:
    """The model, its table of so many steps, and the sequential samples."""

    def __init__(self, steps: int, samples: int) -> None:
        self.model, self.samples = load("scenes"), samples
        self.system = ddpm(scaled_linear().retimed(linear()), steps, prediction=self.model.prediction)

    @cached_property
    def reference(self) -> Tensor:
        """The sequential samples (B, ...)."""
        x, generator = start(self.model, self.system, self.samples)
        return sequential(self.model.model, self.system, x, generator=generator)

    def trace(self, method: AbstractMethod, stop: AbstractStop, window: int) -> dict[str, Any]:
        """One window's entry: the rows that each sample had in each of its rounds, and its errors."""
        x, generator = start(self.model, self.system, self.samples)
        N = len(self.system)
        runs: list[list[int]] = [[] for _ in range(self.samples)]
        how: dict[str, Any] = {"window": window, "tolerance": stop, "generator": generator}
        for frame in iterate(self.model.model, self.system, x, method, **how):
            for run, begin, end in zip(runs, frame.begin.tolist(), frame.end.tolist(), strict=True):
                run += [end - begin] if begin < N else []
        error = relative_error(frame.x[frame.stride, torch.arange(self.samples)], self.reference)
        return {
            "N": N,
            "window": window,
            "batch": 1,
            "about": f"scenes, DDPM-{N} on Stable Diffusion's noise levels",
            "max error": float(error.max()),
            "median error": float(error.median()),
            "runs": runs,
        }


def rounds(out: Path, quick: bool = False) -> dict[str, list[dict[str, Any]]]:
    """All groups, measured as far as out/rounds.json does not hold them with these settings; raises ValueError."""
    chain = Chain(100, 2) if quick else Chain(STEPS, SAMPLES)
    groups = recall(out)
    for window in (8, 16, 32) if quick else WINDOWS:
        for name, make in GROUPS.items():
            here = groups.setdefault(name, [])
            method, stop = make()
            settings = f"{method!r}; {stop!r}"
            if any(entry["window"] == window and entry["settings"] == settings for entry in here):
                continue
            here[:] = [entry for entry in here if entry["window"] != window]
            here.append({"settings": settings, **chain.trace(method, stop, window)})
            here.sort(key=lambda entry: int(entry["window"]))
            write_json(out / "rounds.json", {"machine": machine(), "groups": groups})
            print(f"{name}, window {window}: {len(here[-1]['runs'][0])} rounds", file=sys.stderr, flush=True)
    return groups


def recall(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The groups of out/rounds.json, or none yet; raises ValueError where it holds something else."""
    path = out / "rounds.json"
    if not path.exists():
        return {}
    try:
        return {str(k): list(v) for k, v in json.loads(path.read_text())["groups"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} holds no rounds; move it away or type another --out") from error
