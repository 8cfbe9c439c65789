"""Policies on disk: one safetensors file whose metadata hold, as JSON, everything that rebuilds the policy."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..files import shipped_weights
from ..models.store import read, write
from .policy import DiffusionPolicy, build, normalizers
from .recipes import RECIPES, Recipe
from .tasks.task import load_task


def load_policy(name_or_path: str | os.PathLike[str]) -> DiffusionPolicy:
    """The shipped policy of that name, or the one in a safetensors file that `save` wrote; in eval mode, frozen.

    Raises ValueError for an unknown name, a missing, broken or foreign file; ImportError without safetensors.
    """
    path = Path(name_or_path)
    if str(name_or_path) in RECIPES:
        path = shipped_weights("policies") / f"{name_or_path}.safetensors"
    if not path.is_file():
        raise ValueError(
            f"there is no policy {str(name_or_path)!r}; type one of {', '.join(map(repr, shipped()))} "
            "or the path of a .safetensors file written by training.policies.train"
        )
    about, weights = read(path, "policy")
    task = load_task(about["task"])
    low, high = torch.tensor(about["observations"])
    policy = build(task, about["net"], normalizers(low, high, task), **about["sizes"])
    try:
        policy.model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"cannot load {str(path)!r}: its weights are not those of the policy it says it is") from error
    return policy.eval().requires_grad_(False)


def shipped() -> list[str]:
    """The names `load_policy` knows and has weights for."""
    return [name for name in RECIPES if (shipped_weights("policies") / f"{name}.safetensors").is_file()]


def save(path: str | os.PathLike[str], policy: DiffusionPolicy, recipe: Recipe) -> None:
    """Write the policy where `load_policy` can read it."""
    obs = policy.normalizer["obs"]
    about = {
        "kind": "policy",
        "name": recipe.name,
        "task": recipe.task,
        "net": recipe.kind,
        "sizes": recipe.sizes,
        "observations": [obs.low.tolist(), obs.high.tolist()],
    }
    write(path, policy.model, about, recipe.store)
