"""Kitchen: the observation against the simulator's state, its seeds, the expert, and a policy's episode."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from paradigms.policies import load_policy, load_task, rollout
from paradigms.policies.policy import few_steps
from paradigms.policies.store import shipped
from paradigms.policies.tasks.kitchen import START, SUBTASKS
from robots import assert_a_seed_is_an_episode, assert_the_expert_succeeds, untrained_episode, without
from training.policies.demos import collect

TASK = load_task("kitchen")
simulated = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gymnasium_robotics", "mink")),
    reason="needs gymnasium-robotics and mink: make robots",
)


@pytest.fixture(scope="module")
def kitchen():  # type: ignore[no-untyped-def]
    return TASK.environment()


@simulated
def test_an_observation_is_the_simulators_state_within_its_sensor_noise(kitchen) -> None:  # type: ignore[no-untyped-def]
    kitchen.reset(3)
    observation, _, _ = kitchen.step(np.array([0.5, -0.5, 0.2, 0.8, -0.3, 0.1, 0.4, -1.0, -1.0]))
    data = kitchen.simulator.data
    state = np.concatenate([data.qpos[:9], data.qvel[:9], data.qpos[9:], data.qvel[9:]])
    assert observation.shape == state.shape == (TASK.observation,)
    # 0.01 of amplitudes of 0.1 for the robot, 0.0005 of at most 0.1 for the rest
    np.testing.assert_allclose(observation[:18], state[:18], atol=1e-3)
    np.testing.assert_allclose(observation[18:], state[18:], atol=5e-5)


@simulated
def test_a_seed_is_an_episode_and_moves_the_arms_start_alone(kitchen) -> None:  # type: ignore[no-untyped-def]
    first, other = assert_a_seed_is_an_episode(kitchen, np.linspace(-0.5, 0.5, 9))
    assert np.abs(other[:7] - first[:7]).max() > 0.01
    np.testing.assert_allclose(other[18:39], first[18:39], atol=1e-4)
    kitchen.reset(8)
    assert np.abs(kitchen.simulator.data.qpos[:7] - kitchen.start[:7]).max() <= START


@simulated
@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_the_expert_does_all_subtasks(noise: float) -> None:
    assert_the_expert_succeeds(TASK, noise)


@simulated
def test_the_expert_closes_its_fingers_twice_and_keeps_what_it_holds() -> None:
    demos, _ = collect(TASK, range(700, 704), 0.0)
    for fingers in np.split(demos.actions[:, -1], demos.ends[:-1]):
        assert (np.diff(np.sign(fingers)) != 0).sum() == 3  # on the bar, off it, on for pushing


@simulated
def test_the_score_is_the_share_of_subtasks_that_the_simulator_counts(kitchen) -> None:  # type: ignore[no-untyped-def]
    kitchen.reset(500)
    expert, rewards, seen = TASK.expert(), 0.0, []
    done = False
    while not done:
        _, reward, done = kitchen.step(expert(kitchen))
        rewards += reward
        seen.append(kitchen.score)
        assert kitchen.score == pytest.approx(rewards / len(SUBTASKS))
        assert kitchen.success == done
    assert sorted(set(np.round(seen, 3))) == [0.0, 0.333, 0.667, 1.0]


@simulated
def test_a_policys_episode_is_run_and_scored() -> None:
    episode = untrained_episode(TASK)
    assert (episode.score, episode.success, episode.actions, episode.chunks) == (0.0, False, 280, 35)


@simulated
@pytest.mark.skipif("kitchen-unet" not in shipped(), reason="no weights in this tree")
def test_the_shipped_policy_does_subtasks() -> None:
    episodes = rollout(few_steps(load_policy("kitchen-unet"), 10), TASK, range(100_000, 100_006))
    assert max(e.score for e in episodes) > 0


def test_without_the_simulator_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "gymnasium_robotics")
    with pytest.raises(ImportError, match=r"pip install 'paradigms-sampling\[kitchen\]'"):
        TASK.environment()


def test_without_mink_the_expert_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from paradigms.policies.tasks.kitchen_expert import InverseKinematics

    without(monkeypatch, "mink")
    with pytest.raises(ImportError, match=r"pip install 'paradigms-sampling\[kitchen\]'"):
        InverseKinematics(None, np.zeros(30))
