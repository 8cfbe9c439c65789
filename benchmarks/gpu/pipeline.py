"""c. The shipped text-to-image pipeline, its own loop against the same loop in parallel; latents are compared."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from paradigms.solution import relative_error

from .device import summary
from .networks import DTYPES, MissingError
from .settings import Bench

PROMPT = "pines, snow, mountains, day"


def measure(bench: Bench, dtype: str, steps: int, window: int) -> dict[str, Any]:
    """Sequential and in parallel, the same seeds; raises MissingError where a library is."""
    for needed in ("diffusers", "transformers", "safetensors"):
        if find_spec(needed) is None:
            raise MissingError(f"{needed} is not installed; put its wheel on PYTHONPATH, or type: pip install {needed}")
    from paradigms.adapters import parallelize
    from paradigms.models.latent import load

    pipe, steps = load().to(bench.device.where, DTYPES[dtype]), bench.settings.steps(steps)
    pipe.set_progress_bar_config(disable=True)

    def call(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        made = pipe(PROMPT, num_inference_steps=steps, generator=generator, output_type="latent")
        return made.images.float()

    def timed(seed: int) -> tuple[float, Any]:
        return bench.device.seconds(lambda: call(seed))

    seeds = range(1, 1 + bench.settings.seeds)
    call(0)
    plain = [timed(seed) for seed in seeds]
    with parallelize(pipe, window=window) as run:
        call(0)
        rounds, evaluations, found = 0, 0, []
        for seed in seeds:
            before = run.rounds, run.evaluations
            found.append(timed(seed))
            rounds, evaluations = rounds + run.rounds - before[0], evaluations + run.evaluations - before[1]
    errors = [float(relative_error(y, x).max()) for (_, x), (_, y) in zip(plain, found, strict=True)]
    n, alone, ours = len(errors), summary([s for s, _ in plain]), summary([s for s, _ in found])
    ways = {
        "sequential": {"seconds": alone, "rounds": steps, "evaluations": steps, "errors": [0.0] * n, "speedup": 1.0},
        f"ours, window {window}": {
            "seconds": ours, "rounds": rounds / n, "evaluations": evaluations / n, "errors": errors,
            "speedup": alone["median"] / ours["median"],
        },
    }  # fmt: skip
    scheduler = type(pipe.scheduler).__name__
    return {"network": "latent pipeline", "rule": scheduler, "steps": steps, "dtype": dtype, "ways": ways}
