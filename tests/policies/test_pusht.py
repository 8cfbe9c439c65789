"""PushT: the physics' copy against the simulator, the expert, rollouts, and the shipped policies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("gym_pusht.envs.pusht", reason="needs: pip install 'paradigms-sampling[pusht]' (and libGL)")

from paradigms.policies import build, load_policy, load_task, rollout
from paradigms.policies.policy import few_steps
from paradigms.policies.store import shipped
from paradigms.policies.tasks.pusht_expert import GOAL, OUTLINE, Copy, clearance, error, place, read
from training.policies.corrections import corrections
from training.policies.demos import Demos, collect

TASK = load_task("pusht")


def test_an_observation_is_the_simulators_corners_and_agent() -> None:
    environment = TASK.environment()
    observation = environment.reset(3)
    _, pose = read(environment.simulator)
    corners = np.concatenate([place(pose, OUTLINE[[7, 0, 1, 2]]), place(pose, OUTLINE[[5, 6, 3, 4]])])
    found = {tuple(p) for p in observation[:16].reshape(8, 2).round(6)}
    inner = {tuple(p) for p in place(pose, np.array([(-15.0, 30.0), (15.0, 30.0)])).round(6)}
    assert found - inner <= {tuple(p) for p in corners.round(6)}
    assert observation.shape == (TASK.observation,)


def test_the_copy_replays_the_simulator() -> None:
    """From any state on, the copy of agent and block moves as gym-pusht's own does, to a thousandth of a pixel."""
    environment, copy = TASK.environment(), Copy()
    environment.reset(5)
    expert = TASK.expert()
    simulator = environment.simulator
    moved = 0.0
    for _ in range(60):
        agent, pose = read(simulator)
        copy.set(agent, pose)
        copy.agent.velocity = simulator.agent.velocity
        action = expert(environment)
        environment.step(action)
        for _ in range(10):
            pull = 100 * (np.array(action) - np.array(copy.agent.position)) - 20 * np.array(copy.agent.velocity)
            copy.agent.velocity = tuple(np.array(copy.agent.velocity) + 0.01 * pull)
            copy.space.step(0.01)
        now = np.array([*copy.block.position, copy.block.angle])
        np.testing.assert_allclose(now, read(simulator)[1], atol=1e-3)
        moved = max(moved, float(np.abs(now[:2] - pose[:2]).max()))
    assert moved > 1  # the block was pushed


def test_error_is_zero_at_the_goal_alone_and_clearance_is_a_distance() -> None:
    assert error(GOAL) == 0
    np.testing.assert_allclose(error(GOAL + np.array([3.0, 4.0, 0.0])), 5.0)
    pose = np.array([100.0, 200.0, 0.3])
    points = np.array([(0.0, -7.0), (0.0, 15.0), (40.0, 40.0), (25.0, 90.0), (63.0, -4.0)])
    np.testing.assert_allclose(clearance(pose, place(pose, points)), [7.0, -15.0, 10.0, 10.0, 5.0], atol=1e-9)


def test_the_expert_solves_fresh_seeds_with_noise_and_without() -> None:
    for noise in (0.0, 0.01):
        demos, scores = collect(TASK, range(500, 503), noise)
        assert scores == [1.0] * 3
        assert list(demos.seeds) == [500, 501, 502]
        assert demos.ends[-1] == len(demos.actions) == len(demos.observations)


def test_demonstrations_come_back_from_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    demos, _ = collect(TASK, range(1), 0.0)
    twice = demos + demos
    twice.save(tmp_path / "d.npz")
    again = Demos.load(tmp_path / "d.npz")
    assert list(again.ends) == [demos.ends[0], 2 * demos.ends[0]]
    np.testing.assert_allclose(again.actions, twice.actions, rtol=1e-6)


def test_an_episode_does_not_depend_on_who_shares_its_batch() -> None:
    torch.manual_seed(0)
    policy = few_steps(build(TASK, "mlp", width=16, depth=1, embed=8), 3)
    together = rollout(policy, TASK, [11, 12, 13], at_once=2)
    alone = [rollout(policy, TASK, [seed])[0] for seed in (11, 12, 13)]
    assert [e.seed for e in together] == [11, 12, 13]
    assert [e.score for e in together] == pytest.approx([e.score for e in alone], abs=1e-3)
    assert all(e.actions == 300 and e.chunks == 38 for e in together)


def test_a_policy_in_training_is_not_judged() -> None:
    with pytest.raises(ValueError, match="eval"):
        rollout(build(TASK, "mlp", width=16, depth=1, embed=8).train(), TASK, [0])


def test_corrections_begin_where_the_policy_got_to() -> None:
    policy = few_steps(build(TASK, "mlp", width=16, depth=1, embed=8), 2)
    demos = corrections(policy, TASK, range(2), [TASK.environment(), TASK.environment()])
    starts = {tuple(TASK.environment().reset(seed).round(3)) for seed in range(2)}
    first = [demos.observations[s] for s in (0, *demos.ends[:-1])]
    assert len(demos) >= 1
    assert not starts & {tuple(o.round(3)) for o in first}


@pytest.mark.parametrize("name", [n for n in shipped() if n.startswith("pusht")])
def test_the_shipped_policies_push(name: str) -> None:
    episodes = rollout(few_steps(load_policy(name), 5), TASK, [100_000])
    assert min(e.score for e in episodes) > FLOOR[name]


FLOOR = {"pusht-unet": 0.5, "pusht-mlp": 0.2}


def test_unknown_names_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="choose one of pusht, square, kitchen"):
        load_task("juggle")
    with pytest.raises(ValueError, match=r"no policy .*\.safetensors"):
        load_policy("pusht-giant")
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_policy(tmp_path / "x.safetensors")
