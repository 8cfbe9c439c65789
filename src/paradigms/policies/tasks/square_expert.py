"""A scripted Square expert: five moves, the one to make read off the scene alone, so noise never confuses it.

    action = (target - position) / 0.05,  (rotation to the target's) / 0.5,  fingers

The controller holds a damped spring of 12 1/s to wherever the action points, so pointing at the target itself goes
there without overshoot. Moves that come next are blended in as the last one's error shrinks: the way is smooth.

The fingers close across the handle, from the side that turns the hand by less than a quarter turn (HAND below is no
turn). With the nut in hand the hand is turned until the nut is square to the peg: back to HAND when the handle points
towards the robot; to the nearer quarter turn when it points away, for then HAND over the peg would be out of reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .task import Vector

HAND = np.diag([1.0, -1.0, -1.0])  # the hand's axes with fingers down and the arm straight ahead
HANDLE = np.array([0.06, 0.0, 0.004])  # in the nut: where the handle is gripped, m
HOVER, TRAVEL = 0.10, 0.17  # heights: over the handle before gripping; of the carried nut over the peg's centre, m
NEAR, ALIGNED = 0.012, 0.006  # gripping distance; the nut's distance from the peg's axis when it goes down: m
SHUT = 0.0185  # a finger's joint when it is closed on the handle (0.0159) and not open (0.04)
SPEED = 0.8  # largest action of the translation: 1 is 0.3 m/s


class SquareExpert:
    """Actions for whatever state a Square environment is in; remembers nothing."""

    def __call__(self, environment: Any) -> Vector:
        (p, R), (n, N) = environment.gripper(), environment.nut()
        handle = n + N @ HANDLE
        shut = float(np.abs(environment.fingers()).mean()) < SHUT
        if np.linalg.norm(p - handle) < NEAR + 0.01 * shut:
            if not shut:
                return _action(handle - p, R, _across(N), close=True)
            return _action(_carry(n, environment.peg()), R, _square(R, N), close=True)
        across = _across(N)
        off = np.linalg.norm(p[:2] - handle[:2]) + 0.1 * np.linalg.norm(_turn(R, across))
        over = handle + np.array([0.0, 0.0, HOVER * np.clip((off - 0.01) / 0.03, 0.0, 1.0)])
        return _action(over - p, R, across, close=False)


def _carry(n: Vector, peg: Vector) -> Vector:
    """The nut's way (3,): up, over the peg, down."""
    way = peg - n
    far = np.linalg.norm(way[:2])
    height = np.clip((far - ALIGNED) / ALIGNED, 0.0, 1.0) * TRAVEL
    way[2] += height
    risen = np.clip(1.0 - (way[2] - 0.02) / 0.04, 0.0, 1.0) if far > ALIGNED else 1.0
    way[:2] *= risen
    return way


def _square(R: Vector, N: Vector) -> Vector:
    """The hand's axes (3, 3) with the nut it holds square to the peg and within reach."""
    if R[:, 0] @ N[:, 0] < 0:
        return HAND
    left = 1.0 if R[1, 0] >= 0 else -1.0
    return np.array([[0.0, -left, 0.0], [left, 0.0, 0.0], [0.0, 0.0, 1.0]]) @ HAND


def _across(N: Vector) -> Vector:
    """The hand's axes (3, 3), fingers down and closing across the handle, by less than a quarter turn from HAND."""
    x = N[:2, 0] * (1.0 if N[0, 0] >= 0 else -1.0) / np.linalg.norm(N[:2, 0])
    turn = np.array([[x[0], -x[1], 0.0], [x[1], x[0], 0.0], [0.0, 0.0, 1.0]])
    return turn @ HAND


def _action(way: Vector, R: Vector, target: Vector, close: bool) -> Vector:
    """An action (7,) that moves by `way` m and turns the hand from R to `target`; long ways are cut, not bent."""
    move, turn = way / 0.05, _turn(R, target) / 0.5
    move *= min(1.0, SPEED / max(float(np.linalg.norm(move)), 1e-9))
    turn *= min(1.0, 1.0 / max(float(np.linalg.norm(turn)), 1e-9))
    return np.concatenate([move, turn, [1.0 if close else -1.0]])


def _turn(R: Vector, target: Vector) -> Vector:
    """Axis times angle (3,) from one rotation (3, 3) to another, in the world."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(target @ R.T).as_rotvec()
