"""Diffusion policies on real simulators: tasks, scripted experts, demonstrations, the published network, rollouts.

policy, task = load_policy("pusht-unet"), load_task("pusht")
episodes = rollout(policy, task, seeds=range(100_000, 100_100))
"""

from __future__ import annotations

try:
    import numpy  # noqa: F401  beyond the core, as the simulators
except ImportError as error:
    raise ImportError("the policies that ship need numpy; type: pip install 'paradigms-sampling[cli,zoo]'") from error

from .policy import DiffusionPolicy, build
from .store import load_policy
from .tasks.rollout import Episode, Summary, rollout
from .tasks.task import Task, load_task

__all__ = ["DiffusionPolicy", "Episode", "Summary", "Task", "build", "load_policy", "load_task", "rollout"]
