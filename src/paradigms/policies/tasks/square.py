"""Square: lift a square nut by its handle and bring it down onto the square peg (robosuite NutAssemblySquare, Panda).

    observation (23,) = nut in gripper: position 3, quaternion 4;  nut: position 3, quaternion 4;
                        gripper: position 3, quaternion 4;  fingers 2                        m, quaternions x y z w
    action (7,)       = gripper's next move: 0.05 m a unit, 3; 0.5 rad a unit, axis-angle, 3; fingers: > 0 closes

The observation is robosuite's own `object-state`, `robot0_eef_pos`, `robot0_eef_quat`, `robot0_gripper_qpos`, as
robomimic's low-dimensional policies read it. A quaternion and its negative are one rotation; the one nearer to a
fixed one is taken, so that it never flips on the expert's way. reward = success = the simulator's own "nut on peg".

Every seed draws the nut's place and angle (a full turn) and the arm's start, as robosuite does.

Extra: `pip install "paradigms-sampling[square]"` (numpy < 2, so in an environment of its own: constraints-robots.txt).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .task import Expert, Task, Vector

STEPS, HERTZ = 300, 20
GRIPPER, NUT = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])
"""Quaternions that signs are chosen by: fingers down, handle towards the robot."""


class Square:
    """robosuite's environment with 23 numbers for observation; `simulator` is robosuite's own object."""

    def __init__(self) -> None:
        self.simulator: Any = _make()
        self.score, self.success = 0.0, False

    def reset(self, seed: int) -> Vector:
        self.score, self.success = 0.0, False
        # one generator, shared by the arm's start and the nut's place, and not replaced by a soft reset
        self.simulator.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.simulator.reset()
        # its sensors are read 25 times a step, four fifths of the time, for no one: `_vector` reads the state itself
        for name in self.simulator.observation_names:
            self.simulator.modify_observable(name, "enabled", False)
        return self._vector()

    def step(self, action: Vector) -> tuple[Vector, float, bool]:
        _, reward, _, _ = self.simulator.step(np.asarray(action, dtype=np.float64))
        self.success = self.success or bool(self.simulator._check_success())
        self.score = float(self.success)
        return self._vector(), float(reward), self.success

    def image(self) -> NDArray[np.uint8]:
        """The scene from the side that robosuite calls agentview; needs a way to draw without a screen (MUJOCO_GL)."""
        sim = self.simulator.sim
        return picture(sim.model._model, sim.data._data, "agentview", hidden=(0,))

    def gripper(self) -> tuple[Vector, Vector]:
        """Where the grip point is (3,), and the hand's axes as columns (3, 3): fingers close along the second."""
        d = self.simulator.sim.data
        return d.get_site_xpos("gripper0_right_grip_site").copy(), d.get_body_xmat("robot0_right_hand").copy()

    def nut(self) -> tuple[Vector, Vector]:
        """Where the nut's centre is (3,), and its axes as columns (3, 3): the handle points along the first."""
        d = self.simulator.sim.data
        return d.get_body_xpos("SquareNut_main").copy(), d.get_body_xmat("SquareNut_main").copy()

    def fingers(self) -> Vector:
        """The two fingers' joints, 0.04 and -0.04 when open (2,)."""
        d = self.simulator.sim.data
        return np.array([d.get_joint_qpos(f"gripper0_right_finger_joint{k}") for k in (1, 2)])

    def peg(self) -> Vector:
        """The square peg's centre (3,); it reaches 0.1 m up."""
        return self.simulator.sim.data.get_body_xpos("peg1").copy()

    def _vector(self) -> Vector:
        (p, R), (n, N) = self.gripper(), self.nut()
        q = _nearer(_quaternion(R), GRIPPER)
        m = _nearer(_quaternion(N), NUT)
        return np.concatenate([R.T @ (n - p), _times(_conjugate(q), m), n, m, p, q, self.fingers()])


def _make() -> Any:
    """robosuite's environment as its benchmarks make it, without cameras."""
    with _quietly():
        try:
            import robosuite
            from robosuite.controllers import load_composite_controller_config
        except ImportError as error:
            raise ImportError(
                f"Square needs robosuite ({error}). Type: pip install 'paradigms-sampling[square]' (it needs numpy < 2:"
                " take an environment of its own, with -c constraints-robots.txt)"
            ) from error
        return robosuite.make(
            "NutAssemblySquare",
            robots="Panda",
            controller_configs=load_composite_controller_config(robot="Panda"),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=HERTZ,
            hard_reset=False,  # a hard one builds the model anew, 2 s
            ignore_done=True,
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without robosuite's advice on what else could be installed and set up."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _quaternion(R: Vector) -> Vector:
    """x y z w of a rotation matrix (3, 3): (4,)."""
    import mujoco

    q = np.empty(4)
    mujoco.mju_mat2Quat(q, R.reshape(9))
    return q[[1, 2, 3, 0]]


def _nearer(q: Vector, reference: Vector) -> Vector:
    return q if q @ reference >= 0 else -q


def _conjugate(q: Vector) -> Vector:
    return q * np.array([-1.0, -1.0, -1.0, 1.0])


def _times(p: Vector, q: Vector) -> Vector:
    """Rotation q, then p, as quaternions x y z w (4,)."""
    v = p[3] * q[:3] + q[3] * p[:3] + np.cross(p[:3], q[:3])
    return np.append(v, p[3] * q[3] - p[:3] @ q[:3])


def picture(model: Any, data: Any, camera: Any, hidden: Iterable[int] = ()) -> NDArray[np.uint8]:
    """What a camera of a MuJoCo scene sees but for the hidden groups of shapes, (256, 256, 3)."""
    import mujoco

    option = mujoco.MjvOption()
    for group in hidden:
        option.geomgroup[group] = 0
    with mujoco.Renderer(model, 256, 256) as renderer:
        renderer.update_scene(data, camera, option)
        return renderer.render()


def _expert() -> Expert:
    from .square_expert import SquareExpert

    return SquareExpert()


TASK = Task(
    name="square",
    observation=23,
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    max_steps=STEPS,
    hertz=float(HERTZ),
    environment=Square,
    expert=_expert,
    at_once=16,
)
