"""What the tests of pipelines share: a tiny Stable Diffusion, a call of it, and the promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.zoo.stable_diffusion import BASE, text2image
from paradigms import parallelize
from paradigms.adapters.pipelines import Run

EXACT = 1e-5  # what tolerance 0 means in float32
CLOSE = 1e-4  # what rounding in batches may change, relatively


def generators(seed: int | list[int] | None) -> Any:
    """One generator, one a sample, or None for torch's own."""
    if isinstance(seed, list):
        return [torch.Generator().manual_seed(s) for s in seed]
    return None if seed is None else torch.Generator().manual_seed(seed)


def sample(pipe: Any, *, seed: int | list[int] | None = 0, steps: int = 5, **changes: Any) -> Tensor:
    """The latents of one call; torch's own generator starts from 0."""
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    given = {**BASE, "num_inference_steps": steps, "output_type": "latent", "generator": generators(seed), **changes}
    return pipe(**given).images


def off(found: Tensor, reference: Tensor) -> float:
    """The relative distance of a result."""
    assert found.shape == reference.shape and torch.isfinite(reference).all()
    return float((found.double() - reference.double()).norm() / reference.double().norm())


def promise(pipe: Any, sampling: Callable[..., Tensor] = sample, *, window: int = 4, **changes: Any) -> Run:
    """At tolerance 0 a pipeline gives the sequential result: to `EXACT` row by row, to what batches round beside it."""
    reference = sampling(pipe, **changes)
    with parallelize(pipe, tolerance=0, window=window, batched=False) as single:
        assert off(sampling(pipe, **changes), reference) <= EXACT
    with parallelize(pipe, tolerance=0, window=window) as run:
        assert off(sampling(pipe, **changes), reference) <= CLOSE
    assert not single.fallbacks and not run.fallbacks
    return run


__all__ = ["CLOSE", "EXACT", "generators", "off", "promise", "sample", "text2image"]
