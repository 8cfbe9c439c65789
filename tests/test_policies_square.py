"""Square: the observation against robosuite's own sensors, its seeds, the expert, and a policy's episode."""

from __future__ import annotations

import builtins
import importlib.util

import numpy as np
import pytest
import torch

from paradigms.policies import build, load_policy, load_task, rollout
from paradigms.policies.demos import collect
from paradigms.policies.policy import few_steps
from paradigms.policies.store import shipped

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
def test_a_seed_is_an_episode(square) -> None:  # type: ignore[no-untyped-def]
    """The same seed starts and goes on alike, whatever was before; another places the nut elsewhere."""
    action = np.array([0.2, 0.5, -0.8, 0.0, 0.0, 0.4, -1.0])
    first = [square.reset(7), *(square.step(action)[0] for _ in range(5))]
    other = square.reset(8)
    again = [square.reset(7), *(square.step(action)[0] for _ in range(5))]
    np.testing.assert_array_equal(first, again)
    assert np.abs(other[7:14] - first[0][7:14]).max() > 0.01


@simulated
def test_the_expert_puts_the_nut_on_the_peg_with_noise_and_without() -> None:
    for noise in (0.0, 0.05):
        demos, scores = collect(TASK, range(500, 502), noise)
        assert scores == [1.0] * 2
        assert demos.observations.shape[1:] == (TASK.observation,)
        assert np.abs(demos.actions).max() <= 1


@simulated
def test_a_nut_beside_the_peg_is_no_success(square) -> None:  # type: ignore[no-untyped-def]
    square.reset(0)
    for _ in range(10):
        _, reward, done = square.step(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]))
        assert (reward, done, square.score, square.success) == (0.0, False, 0.0, False)


@simulated
def test_a_policys_episode_is_run_and_scored() -> None:
    torch.manual_seed(0)
    policy = few_steps(build(TASK, "mlp", width=16, depth=1, embed=8), 2)
    (episode,) = rollout(policy, TASK, [1])
    assert (episode.score, episode.success, episode.actions, episode.chunks) == (0.0, False, 300, 38)


@simulated
@pytest.mark.skipif("square-unet" not in shipped(), reason="no weights in this tree")
def test_the_shipped_policy_puts_nuts_on_pegs() -> None:
    assert any(e.success for e in rollout(few_steps(load_policy("square-unet"), 10), TASK, range(100_000, 100_003)))


def test_without_robosuite_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "robosuite")
    with pytest.raises(ImportError, match=r"pip install 'paradigms\[square\]'.*constraints-robots\.txt"):
        TASK.environment()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package impossible to import, whether it is installed or not."""
    real = builtins.__import__

    def fail(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", fail)
