"""PushT: push a T-shaped block into its outline (gym-pusht, real physics by pymunk).

    observation (18,) = 8 corners of the block (x, y), agent (x, y)                                pixels, 0..512
    action (2,) = where the agent shall go                                                         pixels, 0..512
    reward = min(1, coverage / 0.95); the score is the episode's largest reward, success is coverage > 0.95

Extra: `pip install "paradigms-sampling[pusht]"`. OpenCV, which gym-pusht imports, needs the system's
libGL (Debian: libgl1).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .task import Expert, Task, Vector


class PushT:
    """gym-pusht's environment with corners for observation; `simulator` is gym-pusht's own object."""

    def __init__(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                from gym_pusht.envs.pusht import PushTEnv
        except ImportError as error:
            raise ImportError(
                f"PushT needs gym-pusht ({error}). Type: pip install 'paradigms-sampling[pusht]'"
                " (and, if libGL.so.1 is missing: apt-get install libgl1 libglib2.0-0)"
            ) from error
        self.simulator: Any = PushTEnv(obs_type="environment_state_agent_pos")
        self.score, self.success = 0.0, False

    def reset(self, seed: int) -> Vector:
        self.score, self.success = 0.0, False
        return self._vector(self.simulator.reset(seed=seed)[0])

    def step(self, action: Vector) -> tuple[Vector, float, bool]:
        observation, reward, done, _, _ = self.simulator.step(np.asarray(action, dtype=np.float64))
        self.score, self.success = max(self.score, float(reward)), self.success or bool(done)
        return self._vector(observation), float(reward), bool(done)

    def image(self) -> NDArray[np.uint8]:
        return self.simulator.render()

    @staticmethod
    def _vector(observation: dict[str, Vector]) -> Vector:
        return np.concatenate([observation["environment_state"], observation["agent_pos"]])


def _expert() -> Expert:
    from .pusht_expert import PushTExpert

    return PushTExpert()


TASK = Task(
    name="pusht",
    observation=18,
    low=(0.0, 0.0),
    high=(512.0, 512.0),
    max_steps=300,
    hertz=10.0,
    environment=PushT,
    expert=_expert,
)
