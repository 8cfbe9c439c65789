"""A scripted PushT expert: straight pushes, chosen by a greedy search two pushes deep in a copy of the physics.

    push(s, c)  = block poses while the agent runs straight into contact c of pose s, one every few pixels     (D, 3)
    error(pose) = mean distance of the block's 8 corners to the goal's                                            px
    best push   = argmin over (c, depth) of  min(error(s'), min over (c', depth') error(s'')) + 0.04 travel

The block has no momentum (the space's damping is 0), so (agent, block pose) is all that a push depends on. The
way to a contact is a shortest path on the corners of the block's outline, moved out until the agent is clear.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .task import Environment, Vector

Poses = NDArray[np.float64]  # (..., 3): x, y of the block's origin, and its angle
Push = tuple[float, Vector, Vector, float, Poses, float]  # cost, start, direction, depth, pose after it, travel

OUTLINE = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], dtype=float)
BOXES = np.array([(0, 15, 60, 15), (0, 75, 15, 45)], dtype=float)  # centre x, y, half width, half height
GOAL = np.array([256.0, 256.0, math.pi / 4])
RADIUS, CLEAR = 15.0, 14.0  # of the agent; kept between agent and block on the way
LOW, HIGH = 24.0, 488.0  # where the agent's centre can be without touching a wall
SPACING, GRAIN, DEPTHS = 12.0, 4.0, 23  # between contacts; between recorded depths; their number: px, px, 1
GOING, PUSHING = 24.0, 12.0  # px an action
BEAM, TRAVEL, SOLVED = 10, 0.04, 1.2


def place(pose: Poses, points: Vector) -> Vector:
    """Points (P, 2) of the block in the world, for poses (..., 3): (..., P, 2)."""
    c, s = np.cos(pose[..., 2, None]), np.sin(pose[..., 2, None])
    x, y = points[:, 0], points[:, 1]
    return np.stack([c * x - s * y + pose[..., 0, None], s * x + c * y + pose[..., 1, None]], -1)


def error(pose: Poses) -> Vector:
    """Mean distance of the block's corners to the goal's, for poses (..., 3): (...,)."""
    return np.linalg.norm(place(pose, OUTLINE) - place(GOAL, OUTLINE), axis=-1).mean(-1)


def clearance(pose: Poses, points: Vector) -> Vector:
    """Distance of points (P, 2) of the world to a block of one pose (3,), negative inside: (P,)."""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    x, y = points[:, 0] - pose[0], points[:, 1] - pose[1]
    local = np.stack([c * x + s * y, c * y - s * x], -1)
    out = np.abs(local[:, None] - BOXES[:, :2]) - BOXES[:, 2:]  # (P, 2 boxes, 2)
    return (np.linalg.norm(out.clip(min=0), axis=-1) + out.max(-1).clip(max=0)).min(-1)


def contacts() -> tuple[Vector, Vector]:
    """Points every SPACING px along the outline, and the outward normal at each: (C, 2), (C, 2)."""
    points, normals = [], []
    for a, b in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        length = np.linalg.norm(b - a)
        along = (b - a) / length
        for u in (np.arange(round(length / SPACING)) + 0.5) / round(length / SPACING):
            points.append(a + u * (b - a))
            normals.append((along[1], -along[0]))
    return np.array(points), np.array(normals)


class Copy:
    """gym-pusht's space again, for trying pushes."""

    def __init__(self) -> None:
        import pymunk
        from gym_pusht.envs.pusht import PushTEnv

        self.space = pymunk.Space()
        self.space.damping = 0.0
        lines = [((5, 506), (5, 5)), ((5, 5), (506, 5)), ((506, 5), (506, 506)), ((5, 506), (506, 506))]
        self.space.add(*[PushTEnv.add_segment(self.space, *line, 2) for line in lines])
        self.agent = PushTEnv.add_circle(self.space, (256, 400), RADIUS)
        self.block, _ = PushTEnv.add_tee(self.space, (256, 300), 0)

    def set(self, agent: Vector, pose: Poses) -> None:
        """Put agent (2,) and block (3,) there: the angle first, as it turns the block about its centre of mass."""
        self.agent.position = float(agent[0]), float(agent[1])
        self.block.angle = float(pose[2])
        self.block.position = float(pose[0]), float(pose[1])

    def push(self, pose: Poses, start: Vector, direction: Vector) -> Poses:
        """The block's poses after 1..DEPTHS grains of a straight run of the agent from start: (DEPTHS, 3)."""
        self.set(start, pose)
        self.agent.velocity = tuple(200.0 * direction)
        poses = np.empty((DEPTHS, 3))
        for d in range(DEPTHS):
            for _ in range(round(GRAIN / 2)):
                self.space.step(0.01)
            poses[d] = *self.block.position, self.block.angle
        return poses


class PushTExpert:
    """The expert of one episode; call it before every step."""

    def __init__(self) -> None:
        self.copy = Copy()
        self.points, self.normals = contacts()
        self.plan: Iterator[Vector] = iter(())

    def __call__(self, environment: Environment) -> Vector:
        simulator = environment.simulator  # type: ignore[attr-defined]
        action = next(self.plan, None)
        if action is None:
            self.plan = self._stroke(simulator)
            action = next(self.plan)
        return action

    def _stroke(self, simulator: Any) -> Iterator[Vector]:
        """The targets of one push, from where the agent is now: go round the block, wait, push, wait."""
        agent, pose = read(simulator)
        firsts = sorted(self._pushes(agent, pose), key=lambda p: p[0])
        if not firsts:  # the block was shoved into a wall: nothing can be done
            yield agent
            return
        start, direction, depth = self._choose(firsts)
        gate = start - CLEAR * direction
        yield from walk(way(agent, pose, gate), GOING)
        yield from _settle(simulator, gate, 4.0)
        end = start + depth * direction
        yield from walk(np.stack([gate, end]), PUSHING)
        yield from _settle(simulator, end, 1.5)

    def _choose(self, firsts: list[Push]) -> tuple[Vector, Vector, float]:
        """Start (2,), direction (2,) and depth of the first push of the best two, of pushes sorted by cost."""
        best, chosen = math.inf, firsts[0]
        for first in firsts[:BEAM]:
            cost, start, direction, depth, after, travel = first
            if cost < best:
                best, chosen = cost, first
            if error(after) > SOLVED:
                second = min((p[0] for p in self._pushes(start + depth * direction, after)), default=math.inf)
                if second + TRAVEL * travel < best:
                    best, chosen = second + TRAVEL * travel, first
        return chosen[1], chosen[2], chosen[3]

    def _pushes(self, agent: Vector, pose: Poses) -> list[Push]:
        """Every feasible push, at its best depth and at half of that."""
        turn = np.array([[math.cos(pose[2]), -math.sin(pose[2])], [math.sin(pose[2]), math.cos(pose[2])]])
        normals = self.normals @ turn.T
        starts = place(pose, self.points) + (RADIUS + 0.5) * normals
        gates = starts + CLEAR * normals
        open_ = (clearance(pose, starts) > RADIUS) & (clearance(pose, gates) > RADIUS + 0.5 * CLEAR)
        open_ &= ((gates > LOW) & (gates < HIGH)).all(-1)
        found = []
        for c in np.flatnonzero(open_):
            poses = self.copy.push(pose, starts[c], -normals[c])
            depths = GRAIN * np.arange(1, DEPTHS + 1)
            inside = (
                (starts[c] - depths[:, None] * normals[c] > LOW) & (starts[c] - depths[:, None] * normals[c] < HIGH)
            ).all(-1)
            travel = np.linalg.norm(gates[c] - agent) + depths
            costs = np.where(inside, error(poses) + TRAVEL * travel, math.inf)
            for d in _best_two(costs):
                found.append((float(costs[d]), starts[c], -normals[c], float(depths[d]), poses[d], float(travel[d])))
        return found


def _best_two(costs: Vector) -> list[int]:
    best = int(costs.argmin())
    return [best, best // 2] if best > 3 else [best]


def read(simulator: Any) -> tuple[Vector, Poses]:
    """Agent (2,) and block pose (3,) of gym-pusht's environment."""
    return np.array(simulator.agent.position), np.array([*simulator.block.position, simulator.block.angle])


def _settle(simulator: Any, target: Vector, near: float, patience: int = 4) -> Iterator[Vector]:
    for _ in range(patience):
        if np.linalg.norm(np.array(simulator.agent.position) - target) < near:
            return
        yield target


def walk(path: Vector, speed: float) -> Iterator[Vector]:
    """Points every `speed` px along a path (P, 2), its end included, its beginning not."""
    for a, b in itertools.pairwise(path):
        steps = max(1, math.ceil(np.linalg.norm(b - a) / speed))
        for k in range(1, steps + 1):
            yield a + (b - a) * k / steps


def way(agent: Vector, pose: Poses, gate: Vector) -> Vector:
    """A shortest path (P, 2) from agent to gate that stays CLEAR of the block, leaving it straight first."""
    step = 1e-3 * np.eye(2)
    here = clearance(pose, np.concatenate([agent + step, agent - step]))
    away = here[:2] - here[2:]
    away /= np.linalg.norm(away) + 1e-12
    lack = max(0.0, RADIUS + CLEAR - float(clearance(pose, agent[None])[0]))
    out = np.clip(agent + lack * away, LOW - 2, HIGH + 2)
    middle = np.array([0.0, 45.0])
    corners = OUTLINE + (RADIUS + CLEAR + 2) * np.sign(OUTLINE - middle)
    nodes = np.concatenate([[out, gate], np.clip(place(pose, corners), LOW - 2, HIGH + 2)])  # (P, 2)
    path = _shortest(nodes, _free(pose, nodes))
    return np.concatenate([[agent], nodes[path]])


def _free(pose: Poses, nodes: Vector) -> Vector:
    """Lengths (P, P) of the straight ways between nodes, longer where they come near the block."""
    u = np.linspace(0, 1, 25)[:, None, None, None]
    points = nodes[:, None] * (1 - u) + nodes[None] * u  # (25, P, P, 2)
    gap = clearance(pose, points.reshape(-1, 2)).reshape(points.shape[:3]).min(0)
    lengths = np.linalg.norm(nodes[:, None] - nodes[None], axis=-1)
    return lengths + 50.0 * (RADIUS + CLEAR - 1 - gap).clip(min=0)


def _shortest(nodes: Vector, lengths: Vector) -> list[int]:
    """Dijkstra from node 0 to node 1."""
    done: dict[int, int] = {}
    heap = [(0.0, 0, 0)]
    while heap:
        far, node, before = heapq.heappop(heap)
        if node in done:
            continue
        done[node] = before
        if node == 1:
            break
        for other in range(len(nodes)):
            if other not in done:
                heapq.heappush(heap, (far + float(lengths[node, other]), other, node))
    path = [1]
    while path[-1] != 0:
        path.append(done[path[-1]])
    return path[::-1]
