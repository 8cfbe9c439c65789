"""The benchmark of policies: what is paired is paired, what is missing is told, and it goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.plots.control import page, write_drives
from benchmarks.robots import acting, clock, policies, realtime
from paradigms.policies.policy import DiffusionPolicy, build
from paradigms.policies.tasks.task import Task

Vector = NDArray[np.float64]


class Point:
    """A point that goes where it is told, a tenth of the way a step, and is to come near the origin."""

    score, success = 0.0, False

    def reset(self, seed: int) -> Vector:
        """Somewhere."""
        self.at = np.random.default_rng(seed).uniform(-1, 1, 2)
        self.score, self.success = 0.0, False
        return self.at.copy()

    def step(self, action: Vector) -> tuple[Vector, float, bool]:
        """A tenth of the way."""
        self.at = self.at + 0.1 * (action - self.at)
        self.score = max(self.score, 1 - float(np.abs(self.at).max()))
        self.success = self.score > 0.99
        return self.at.copy(), self.score, self.success

    def image(self) -> NDArray[np.uint8]:
        """Grey, as bright as the score."""
        return np.full((8, 8, 3), 255 * max(self.score, 0), dtype=np.uint8)


TASK = Task("point", 2, (-1.0, -1.0), (1.0, 1.0), 24, 10.0, Point, lambda: lambda world: -world.at)  # type: ignore[attr-defined]


@pytest.fixture
def stage(tmp_path: Path) -> policies.Stage:
    """A small untrained policy of the point."""
    torch.manual_seed(0)
    policy = build(TASK, "mlp", width=32, depth=1)
    return policies.Stage(tmp_path, TASK, policy, quick=True)


def test_every_way_is_given_the_same_chunks_and_parallel_ones_are_near(stage: policies.Stage) -> None:
    for way in (acting.SEQUENTIAL, acting.OURS, acting.WARM):
        found = acting.chunks(stage.policy, TASK, acting.How("DDIM-15", way), stage.seen, stage.expected("DDIM-15"))
        assert len(found["seconds"]) == len(found["difference"]) == sum(len(s.obs) for s in stage.seen)
        assert max(found["difference"]) < (1e-5 if way == acting.SEQUENTIAL else 0.02)
        assert found["rounds"] == [15] * 4 if way == acting.SEQUENTIAL else max(found["rounds"]) < 15


@pytest.mark.parametrize("sampler", acting.samplers())
def test_within_acting_the_scheduler_is_the_samplers_and_comes_back(stage: policies.Stage, sampler: str) -> None:
    own = stage.policy.noise_scheduler
    with acting.acting(stage.policy, sampler, acting.SEQUENTIAL):
        assert stage.policy.num_inference_steps == int(sampler.split("-")[1])
    assert stage.policy.noise_scheduler is own and stage.policy.num_inference_steps == 100
    assert float(torch.stack(stage.expected(sampler)).abs().max()) <= 1.01  # for its data estimate is clipped


def test_it_goes_on_where_it_was_stopped_and_tells_what_is_missing(stage: policies.Stage) -> None:
    names = [name for name, _ in policies.jobs(stage, 4)]
    assert len(names) == len(set(names)) and "chunks DDPM-100 ours" in names
    data = policies.run(stage.out, stage, 4, "chunks DDIM-15 sequential")
    assert list(data["measured"]) == ["chunks DDIM-15 sequential"]
    text = policies.report(stage.out, data, stage)
    assert "not measured" in text and "| DDIM-15" in text and "DPMSolver-15 |" not in text
    before = json.loads((stage.out / "policies-point.json").read_text())["measured"]
    data = policies.run(stage.out, stage, 4, "DDIM-15 ours")
    assert data["measured"]["chunks DDIM-15 sequential"] == before["chunks DDIM-15 sequential"]
    assert set(data["measured"]) > set(before)
    data = policies.run(stage.out, stage, 4, "episodes DDIM-15 sequential")
    line = policies.row(data, TASK, "DDIM-15", acting.OURS)
    assert line is not None and line[6].endswith("(4)") and line[11] != "not measured"


def test_results_of_other_weights_are_not_taken_for_these(stage: policies.Stage) -> None:
    path = stage.out / "policies-point.json"
    path.write_text(json.dumps({"weights": "others", "measured": {"chunks": 1}}))
    assert policies.recall(path, stage.weights)["measured"] == {}
    path.write_text("[]")
    with pytest.raises(ValueError, match="no result to go on with"):
        policies.recall(path, stage.weights)


def test_the_same_episodes_give_the_same_scores_in_blocks_or_at_once(stage: policies.Stage) -> None:
    whole = acting.episodes(stage.policy, TASK, acting.How("DDIM-15", acting.OURS), 0, 4)
    parts = [acting.episodes(stage.policy, TASK, acting.How("DDIM-15", acting.OURS), k, 2) for k in (0, 2)]
    assert np.allclose(whole["score"], parts[0]["score"] + parts[1]["score"], atol=0.02)


def test_deadlines_met_are_ticks_with_an_action_of_their_own() -> None:
    assert clock.met([0.05, 0.09], 8) == 1.0
    assert clock.met([0.4], 8) == 8 / 12 and clock.met([0.05, 0.4], 8) == 16 / 20


def test_a_heavy_network_answers_as_the_light_one(stage: policies.Stage) -> None:
    light: Any = stage.policy.model
    heavy = clock.Heavy(light, build(TASK, "mlp", width=64, depth=1).model)
    x, seen = torch.randn(2, 16, 2), torch.randn(2, 4)
    assert torch.equal(heavy(x, 3, global_cond=seen), light(x, 3, global_cond=seen))


def test_timing_takes_turns_and_leaves_threads_and_policy_alone(
    stage: policies.Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "LEAST", 2)
    monkeypatch.setattr(clock, "MOST", 2)
    before = torch.get_num_threads()
    found = clock.timed(stage.policy, TASK, 1)
    assert {len(s) for s in found["seconds"].values()} == {2} and torch.get_num_threads() == before
    assert found["rounds"]["sequential"] == 100 > found["rounds"]["window 16"]
    assert "conditional_sample" not in vars(stage.policy)
    text = "".join(body for _, body in clock.sections({"clock this, 1 threads": found}))
    assert "window auto" in text and "GPU: not measured" in text


def test_the_world_goes_on_while_the_policy_thinks(
    stage: policies.Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = iter([0.0, 0.0, 0.25] + [0.25, 0.25] * 99)  # the first chunk takes 0.25 s, all others none
    monkeypatch.setattr(realtime.time, "perf_counter", lambda: next(times))
    policy: DiffusionPolicy = stage.policy
    monkeypatch.setattr(realtime, "chunk", lambda policy, seen, generator: [np.ones(2)] * 8)
    next(times)
    drive = realtime.drive(policy, TASK, acting.SEQUENTIAL, 0, 14)
    assert drive.thinking == [True] * 3 + [False] * 8 + [True] + [False] * 2
    assert len(drive.pictures) == len(drive.scores) == 14 and drive.seconds == [0.25, 0.0]
    write_drives(tmp_path / "a.gif", {"one": drive, "two": drive}, 10.0)
    assert (tmp_path / "a.gif").stat().st_size > 1000 and page({"one": drive}, 20, 10.0).width > 200


def test_chunks_above_the_error_that_was_asked_for_are_counted(stage: policies.Stage) -> None:
    """B10: DDIM-15 in a window of 8 at 1 %."""
    data = policies.run(stage.out, stage, 4, "kept DDIM-15 window 8")
    told = data["measured"]["kept DDIM-15 window 8"]
    assert len(told["error"]) == sum(len(s.obs) for s in stage.seen) == len(told["rounds"])
    assert min(told["error"]) >= 0 and max(told["rounds"]) <= 15
    text = policies.report(stage.out, data, stage)
    above = sum(e > 0.01 for e in told["error"])
    assert "The error that was asked for" in text and f"{above} of {len(told['error'])}" in text
