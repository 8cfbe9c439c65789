"""Kitchen: open the microwave, switch the light on, slide a cabinet open (gymnasium-robotics FrankaKitchen-v1).

    observation (59,) = arm and fingers: angles 9, velocities 9;  knobs, doors, kettle: positions 21, velocities 20
    action (9,)       = velocities of 7 joints and 2 fingers, 2 rad/s a unit

The observation is the simulator's own, with its own sensor noise; score is the share of the three subtasks that the
simulator counts as completed, success is all three, in any order. The simulator starts every episode in one place;
here each seed moves the arm's seven joints from there by up to START rad, drawn uniformly.

Extra: `pip install "paradigms-sampling[kitchen]"`.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .task import Expert, Task, Vector

SUBTASKS = ("microwave", "light switch", "slide cabinet")
START = 0.1
STEPS, STEP = 280, 0.08
"""Actions in an episode, as registered, and seconds in one."""


class Kitchen:
    """gymnasium-robotics' environment as a task; `simulator` is its own object."""

    def __init__(self) -> None:
        self.simulator: Any = _make()
        self.start = self.simulator.robot_env.init_qpos.copy()
        self.success = False
        self.score = 0.0

    def reset(self, seed: int) -> Vector:
        self.score, self.success = 0.0, False
        start = self.start.copy()
        start[:7] += np.random.default_rng(seed).uniform(-START, START, 7)
        self.simulator.robot_env.init_qpos = start
        observation, _ = self.simulator.reset(seed=seed)
        return observation["observation"].copy()

    def step(self, action: Vector) -> tuple[Vector, float, bool]:
        observation, reward, done, _, info = self.simulator.step(np.asarray(action, dtype=np.float64))
        self.score = len(info["episode_task_completions"]) / len(SUBTASKS)
        self.success = bool(done)
        return observation["observation"].copy(), float(reward), self.success

    def image(self) -> NDArray[np.uint8]:
        """The scene from over the robot's shoulder; needs a way to draw without a screen (MUJOCO_GL)."""
        import mujoco

        from .square import picture

        camera = mujoco.MjvCamera()
        camera.distance, camera.azimuth, camera.elevation, camera.lookat[:] = 2.2, 70.0, -35.0, (-0.2, 0.5, 2.0)
        return picture(self.simulator.model, self.simulator.data, camera)


def _make() -> Any:
    """gymnasium-robotics' environment; what it says on stderr when imported is about other environments."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            from gymnasium_robotics.envs.franka_kitchen import KitchenEnv
    except ImportError as error:
        raise ImportError(
            f"Kitchen needs gymnasium-robotics ({error}). Type: pip install 'paradigms-sampling[kitchen]'"
        ) from error
    return KitchenEnv(tasks_to_complete=list(SUBTASKS))


def _expert() -> Expert:
    from .kitchen_expert import KitchenExpert

    return KitchenExpert()


TASK = Task(
    name="kitchen",
    observation=59,
    low=(-1.0,) * 9,
    high=(1.0,) * 9,
    max_steps=STEPS,
    hertz=1 / STEP,
    environment=Kitchen,
    expert=_expert,
    at_once=16,
)
