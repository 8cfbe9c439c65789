"""A scripted Kitchen expert: a way for the grip point, read off the scene alone, turned into joint velocities by mink.

    q' = argmin |J q' - way / dt|^2 + small |q' - (rest - q) / dt|^2      within the joints' limits (mink's QP)
    action = (GAIN q' + sag / dt) / 2,      sag = weight / stiffness: how far the arm hangs below where it is set

The hand points into the kitchen with its fingers side by side. It comes to stand before a spot (sideways first, then
forward), then pulls the microwave's bar along its arc, pushes the light's lever left, the cabinet's handle right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .kitchen import STEP
from .task import Vector

HAND = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # its axes as columns: up, right, into the kitchen
ARM = slice(0, 7)
GAIN = 2.0  # in a step the joints' springs and dampers come half of the way that they are set to
SOFT = 0.3  # share of a wrong turn of the hand that is made good in a step: more jerks the joints
FAST, PUSH, PULL = 0.035, 0.03, 0.02  # longest way in a step: free, pushing, pulling, m
GRIP = np.array([0.0, -0.012, 0.0])  # the grip point when the fingers close, from the bar: m
BACK = 0.12  # how far before a spot the hand moves sideways, m
MICROWAVE, LIGHT, CABINET = -0.55, -0.6, 0.35  # joints' values to stop at; counted from -0.45, -0.39 and 0.07 on
LEVER = np.array([-0.300, 0.585, 2.28])  # right of the light's lever
HANDLE = np.array([-0.158, 0.590, 2.60])  # left of the closed cabinet's handle
SHUT = 0.026  # a finger's joint when closed on the bar (0.02) and not open (0.04)
SLOW = 0.35  # share of the last 7 cm forward that is gone in a step: a step too early or late then matters little


class KitchenExpert:
    """Actions for whatever state a Kitchen environment is in; remembers nothing but mink's model of the arm."""

    def __init__(self) -> None:
        self.ik: InverseKinematics | None = None

    def __call__(self, environment: Any) -> Vector:
        model, data = environment.simulator.model, environment.simulator.data
        self.ik = self.ik or InverseKinematics(model, environment.start)
        way, close = _move(data)
        way *= min(1.0, FAST / max(float(np.linalg.norm(way)), 1e-9))
        sag = data.qfrc_bias[ARM] / model.actuator_gainprm[ARM, 0]
        action = np.full(9, -1.0 if close else 1.0)
        action[ARM] = (GAIN * self.ik(data, way) + sag / STEP) / 2.0
        return action.clip(-1.0, 1.0)


class InverseKinematics:
    """Joint velocities (7,) that move the grip point by a way in one step and turn the hand to HAND."""

    def __init__(self, model: Any, rest: Vector) -> None:
        try:
            import mink
        except ImportError as error:
            raise ImportError(
                f"the Kitchen expert needs mink ({error}). Type: pip install 'paradigms-sampling[kitchen]'"
            ) from error
        self.mink, self.rest = mink, rest
        self.configuration = mink.Configuration(model)
        self.hand = mink.FrameTask(
            "end_effector", "site", position_cost=1.0, orientation_cost=0.3, gain=SOFT, lm_damping=1e-3
        )
        self.posture = mink.PostureTask(model, cost=0.02, gain=0.1)
        self.low, self.high = model.jnt_range[:-1].T  # all but the kettle, the last, which is free

    def __call__(self, data: Any, way: Vector) -> Vector:
        mink, q = self.mink, data.qpos.copy()
        q[: len(self.low)] = q[: len(self.low)].clip(self.low, self.high)  # the simulator starts a hair outside
        self.configuration.update(q)
        spot = data.site("end_effector").xpos + way / SOFT  # the whole way, and SOFT of the turn
        self.hand.set_target(mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(HAND), spot))
        q[ARM] = self.rest[ARM]
        self.posture.set_target(q)
        return mink.solve_ik(self.configuration, [self.hand, self.posture], STEP, "quadprog", damping=1e-6)[ARM]


def _move(data: Any) -> tuple[Vector, bool]:
    """Where the grip point goes next, as a way (3,) in m, and whether the fingers close."""
    p = data.site("end_effector").xpos.copy()
    bar = data.site("microhandle_site").xpos.copy()
    microwave, light, cabinet = (data.joint(n).qpos[0] for n in ("microwave", "light_switch", "slide_cabinet"))
    if microwave > MICROWAVE:
        grip, shut = bar + GRIP, data.qpos[7:9].mean() < SHUT
        if np.linalg.norm(p - grip) > (0.045 if shut else 0.025):
            return _approach(p, grip), False
        if not shut:
            return grip - p, True
        beside = (grip - p) * np.array([1.0, 0.0, 1.0])  # made good at once, or the bar slips out
        return PULL * np.array([0.5 * np.sin(microwave), -1.0, 0.0]) + beside, True
    if abs(p[0] - bar[0]) < 0.1 and p[1] > bar[1] - 0.11 and p[2] < bar[2] + 0.2:
        return np.array([0.0, -0.05, 0.0]), False  # let go of the bar before turning to the rest
    if light > LIGHT:
        return _push(p, LEVER, -1.0), True
    if cabinet < CABINET:
        return _push(p, HANDLE, 1.0), True
    return np.zeros(3), True


def _push(p: Vector, spot: Vector, side: float) -> Vector:
    """The way (3,) to a spot and, once at its depth and height, on to the right (side 1) or left (-1)."""
    way = spot - p
    if way[1] < 0.03 and abs(way[2]) < 0.06 and side * way[0] < 0.02:
        way[0] = side * PUSH
        return way
    return _approach(p, spot)


def _approach(p: Vector, spot: Vector) -> Vector:
    """The way (3,) to a spot: BACK before it until right before it, then forward, slower and slower."""
    way = spot - p
    off = float(np.hypot(way[0], way[2]))
    way[1] -= BACK * np.clip((off - 0.015) / 0.03, 0.0, 1.0)
    if off > 0.015:  # too deep in to go sideways yet
        way[[0, 2]] *= np.clip(1.2 + way[1] / 0.05, 0.0, 1.0)
    way[1] *= SLOW if way[1] < 0.07 else 1.0
    return way
