"""What the tests of the simulated robots share: an expert and a policy at work, and a package that is not there."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch

from paradigms.policies import Episode, Task, build, rollout
from paradigms.policies.policy import few_steps
from training.policies.demos import collect


def assert_the_expert_succeeds(task: Task, noise: float) -> None:
    """In two episodes, with its actions disturbed by so much; what it did are demonstrations."""
    demos, scores = collect(task, range(500, 502), noise)
    assert scores == [1.0] * 2
    assert demos.observations.shape[1:] == (task.observation,)
    assert np.abs(demos.actions).max() <= 1


def assert_a_seed_is_an_episode(environment: Any, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seed 7 starts and goes on alike, whatever was before; returns its first observation, and that of seed 8."""
    first = [environment.reset(7), *(environment.step(action)[0] for _ in range(5))]
    other = environment.reset(8)
    again = [environment.reset(7), *(environment.step(action)[0] for _ in range(5))]
    np.testing.assert_array_equal(first, again)
    return first[0], other


def untrained_episode(task: Task) -> Episode:
    """What an untrained policy does."""
    torch.manual_seed(0)
    (episode,) = rollout(few_steps(build(task, "mlp", width=16, depth=1, embed=8), 2), task, [1])
    return episode


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package impossible to import, whether it is installed or not."""
    real = builtins.__import__

    def fail(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", fail)
