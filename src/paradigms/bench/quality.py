"""`paradigms bench quality`: does parallel sampling change the pictures? Fréchet distances against their noise floor.

Three sets of `count` samples: sequential A, sequential B from other seeds, parallel from A's noise. The distance A-B is
what chance alone does to sets of this size; the parallel set must be no further from B than A is, and near A.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..execute import Guided
from ..method import Extrapolate, Picard
from ..models import load
from ..models.frechet import features, frechet
from ..rules import ddim, ddpm
from ..schedule import linear
from ..solution import relative_error
from ..solve import sample, sequential
from .report import table, write

HEAD = (
    "chain",
    "samples",
    "A to B (floor)",
    "parallel to B",
    "parallel to A",
    "rounds",
    "evals / N",
    "median error",
    "max error",
)
BATCH = 50


def sets(name: str, count: int, tolerance: float) -> dict[str, Any]:
    """The three sets of one model's chain and what they are apart: digits by DDPM-100, scenes by DDIM-50."""
    model = load(name)
    if name == "digits":
        title, system, net = "digits, DDPM-100", ddpm(linear(), 100, prediction=model.prediction), model.model
        net = Guided(net, 2.0, label=model.classes)
    else:
        title, system, net = "scenes, DDIM-50", ddim(linear(), 50, prediction=model.prediction), model.model
    of = features(name)
    rows: dict[str, list[Tensor]] = {"A": [], "B": [], "parallel": []}
    errors, rounds, evals = [], 0.0, 0
    for k in range(0, count, BATCH):
        condition = {"label": (torch.arange(BATCH) + k) % model.classes} if model.classes else None
        for who, seed in (("A", k), ("B", count + k)):
            generator = torch.Generator().manual_seed(seed)
            x = system.noise((BATCH, *model.shape), generator)
            rows[who].append(sequential(net, system, x, generator=generator, condition=condition))
        generator = torch.Generator().manual_seed(k)
        x = system.noise((BATCH, *model.shape), generator)
        run = sample(
            net,
            system,
            x,
            Picard(Extrapolate()),
            window=32,
            tolerance=tolerance,
            generator=generator,
            condition=condition,
        )
        rows["parallel"].append(run.x)
        errors.append(relative_error(run.x, rows["A"][-1]))
        rounds, evals = rounds + float(run.sample_rounds.double().mean()), evals + run.evals
    f = {who: of(torch.cat(v).clamp(-1, 1)) for who, v in rows.items()}
    error, parts = torch.cat(errors), count // BATCH
    values = (
        f"{title}, tolerance {tolerance:g}",
        count,
        frechet(f["A"], f["B"]),
        frechet(f["parallel"], f["B"]),
        frechet(f["parallel"], f["A"]),
        rounds / parts,
        evals / (count * len(system)),
        float(error.median()),
        float(error.max()),
    )
    return dict(zip(HEAD, values, strict=True))


def main(out: Path, count: int = 2000, quick: bool = False) -> None:
    """Runs both models, prints the table and writes out/quality.md and out/quality.json."""
    count = 100 if quick else count
    found = []
    for name, tolerance in (("digits", 0.1), ("scenes", 0.1), ("scenes", 0.01)):
        began = time.perf_counter()
        found.append(sets(name, count, tolerance))
        print(f"{found[-1]['chain']}: {time.perf_counter() - began:.0f} s", flush=True)
    body = table(HEAD, [[entry[k] for k in HEAD] for entry in found])
    print(
        "\n"
        + write(
            out, "quality", "Quality: Fréchet distance in our classifiers' features", [("Sets", body)], {"sets": found}
        )
    )
