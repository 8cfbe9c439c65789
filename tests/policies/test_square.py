"""Square: the observation against robosuite's own sensors, its seeds, the expert, and a policy's episode."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from paradigms.policies import load_policy, load_task, rollout
from paradigms.policies.policy import few_steps
from paradigms.policies.store import shipped
from robots import assert_a_seed_is_an_episode, assert_the_expert_succeeds, untrained_episode, without

TASK = load_task("square")
simulated = pytest.mark.skipif(
    importlib.util.find_spec("robosuite") is None,
    reason="needs robosuite, in an environment of its own (numpy < 2): make robots",
)


@pytest.fixture(scope="module")
def square():  # type: ignore[no-untyped-def]
    return TASK.environment()


@simulated
def test_an_observation_is_robosuites_own_sensors(square) -> None:  # type: ignore[no-untyped-def]
    """object-state, eef position, eef quaternion, fingers, each quaternion up to its sign."""
    simulator = square.simulator
    square.reset(3)
    for name in simulator.observation_names:
        simulator.modify_observable(name, "enabled", True)
    simulator.step(np.array([0.3, -0.2, -0.5, 0.1, 0.2, -0.3, 1.0]))
    for _ in range(2):  # a sensor of a relative pose reads the poses that were measured before
        raw = simulator._get_observations(force_update=True)
    observation = square._vector()
    p, q = raw["SquareNut_to_robot0_eef_pos"], raw["SquareNut_to_robot0_eef_quat"]
    n, m = raw["SquareNut_pos"], raw["SquareNut_quat"]
    parts = [p, q, n, m, raw["robot0_eef_pos"], raw["robot0_eef_quat"], raw["robot0_gripper_qpos"]]
    at = 0
    for part in parts:
        found = observation[at : at + len(part)]
        at += len(part)
        if len(part) == 4 and found @ part < 0:
            part = -part
        np.testing.assert_allclose(found, part, atol=1e-6)
    assert at == TASK.observation


@simulated
def test_a_seed_is_an_episode_and_places_the_nut(square) -> None:  # type: ignore[no-untyped-def]
    first, other = assert_a_seed_is_an_episode(square, np.array([0.2, 0.5, -0.8, 0.0, 0.0, 0.4, -1.0]))
    assert np.abs(other[7:14] - first[7:14]).max() > 0.01


@simulated
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_expert_puts_the_nut_on_the_peg(noise: float) -> None:
    assert_the_expert_succeeds(TASK, noise)


@simulated
def test_a_nut_beside_the_peg_is_no_success(square) -> None:  # type: ignore[no-untyped-def]
    square.reset(0)
    for _ in range(10):
        _, reward, done = square.step(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]))
        assert (reward, done, square.score, square.success) == (0.0, False, 0.0, False)


@simulated
def test_a_policys_episode_is_run_and_scored() -> None:
    episode = untrained_episode(TASK)
    assert (episode.score, episode.success, episode.actions, episode.chunks) == (0.0, False, 300, 38)


@simulated
@pytest.mark.skipif("square-unet" not in shipped(), reason="no weights in this tree")
def test_the_shipped_policy_puts_nuts_on_pegs() -> None:
    assert any(e.success for e in rollout(few_steps(load_policy("square-unet"), 10), TASK, range(100_000, 100_003)))


def test_without_robosuite_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "robosuite")
    with pytest.raises(ImportError, match=r"pip install 'paradigms-sampling\[square\]'.*constraints-robots\.txt"):
        TASK.environment()
