"""Pipelines and policies by one name: what a thing is decides who makes it parallel.

| given                                               | made parallel by        |
| a diffusers pipeline                                | `adapt/pipelines/`      |
| a policy of LeRobot or diffusion_policy, or as them | `adapt/policies/`       |
"""

from __future__ import annotations

import contextlib
from typing import Any

from torch import nn

from ..method import AbstractMethod
from . import pipelines, policies
from .pipelines import Run
from .policies.policy import refusal


def enable_parallel_sampling(pipe_or_policy: Any, method: AbstractMethod | None = None, **how: Any) -> Run:
    """Makes a diffusers pipeline or a diffusion policy sample in parallel, and gives the report of its calls.

    method: default `Spectral()`. how, for both: tolerance: relative error of latents or actions, as `FinalError`
    estimates it, or a criterion; 0 gives the sequential result. window: steps evaluated at once. Of pipelines further
    `batched`, of policies `warm_start`. Raises ValueError for what is neither.
    """
    return of(pipe_or_policy).enable_parallel_sampling(pipe_or_policy, method, **how)  # type: ignore[no-any-return]


def disable_parallel_sampling(pipe_or_policy: Any) -> None:
    """Makes a pipeline or a policy sample step by step again."""
    of(pipe_or_policy).disable_parallel_sampling(pipe_or_policy)


def parallelize(
    pipe_or_policy: Any, method: AbstractMethod | None = None, **how: Any
) -> contextlib.AbstractContextManager[Run]:
    """Within it a pipeline or a policy samples in parallel; arguments and errors as `enable_parallel_sampling`'s."""
    return of(pipe_or_policy).parallelize(pipe_or_policy, method, **how)  # type: ignore[no-any-return]


def of(pipe_or_policy: Any) -> Any:
    """The room whose thing it is; raises ValueError for what can be neither."""
    if policies.seam(pipe_or_policy) is not None:
        return policies
    if isinstance(pipe_or_policy, nn.Module) or not hasattr(pipe_or_policy, "__dict__"):
        raise ValueError(refusal(pipe_or_policy))
    return pipelines
