"""The paper's rows: the whole path on narrow random networks, the published lines, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from typer.testing import CliRunner

from benchmarks.app import bench
from benchmarks.images import gallery
from benchmarks.paper import main, robots
from benchmarks.paper.narrow import PIPELINES, Features
from benchmarks.paper.published import ROWS
from benchmarks.paper.ways import OURS, PAPER, SEQUENTIAL

PUBLISHED = {  # the speedups that the paper prints beside its seconds
    "sd2-ddpm": 3.1, "sd2-ddim": 1.8, "sd2-dpmsolver": 1.8, "church-ddpm": 2.9, "church-ddim": 1.9,
    "kitchen": 3.4, "kitchen-ddim": 1.8, "kitchen-dpmsolver": 2.0,
}  # fmt: skip


def call(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python -m benchmarks paper args`."""
    result = CliRunner().invoke(bench, ["paper", *args])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_seconds_have_the_published_speedup(name: str) -> None:
    one, two = ROWS[name].sequential, ROWS[name].parallel
    assert one is not None and two is not None
    assert round(one.seconds / two.seconds, 1) == PUBLISHED[name]
    assert one.evaluations == one.rounds == ROWS[name].steps


def test_a_row_without_published_numbers_says_so() -> None:
    assert [name for name, row in ROWS.items() if row.sequential is None] == ["square", "pusht"]


@pytest.mark.parametrize("name", ["sd2-dpmsolver", "church-ddpm"])
def test_an_image_row_in_small_has_three_ways_and_their_scores(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchmetrics")
    monkeypatch.setattr(main, "SMALL_STEPS", 4)
    monkeypatch.setattr(main, "SMALL_SAMPLES", 2)
    code, out, err = call("--row", name, "--small", "--device", "cpu", "--out", str(tmp_path))
    assert code == 0, err
    found: dict[str, Any] = json.loads((tmp_path / f"paper-{name}-small.json").read_text())["ways"]
    assert list(found) == [SEQUENTIAL, PAPER, OURS]
    assert all(told["quality"] is not None and len(told["seconds"]) == main.SMALL_SAMPLES for told in found.values())
    assert max(found[OURS]["errors"]) <= 0.02
    assert abs(found[OURS]["quality"] - found[SEQUENTIAL]["quality"]) <= 0.05 * (1 + found[SEQUENTIAL]["quality"])
    assert "published" in out and "random weights" in out


def test_a_row_of_a_users_weights_says_what_its_score_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIPELINES["church"]().save_pretrained(tmp_path / "church")
    monkeypatch.setitem(ROWS, "church-ddim", replace(ROWS["church-ddim"], steps=8, window=4))
    given = ["--weights", str(tmp_path / "church"), "--count", "1", "--device", "cpu", "--out", str(tmp_path)]
    code, out, err = call("--row", "church-ddim", *given)
    assert code == 0, err
    assert "FID: not measured, for no --reference DIR was given" in out
    assert json.loads((tmp_path / "paper-church-ddim.json").read_text())["ways"][OURS]["quality"] is None


def test_a_robot_row_without_its_simulator_has_times_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*given: Any) -> Any:
        raise ImportError("the simulator is missing. Type: pip install it")

    monkeypatch.setattr(robots.acting, "record", missing)
    code, out, err = call("--row", "kitchen-ddim", "--small", "--count", "1", "--device", "cpu", "--out", str(tmp_path))
    assert code == 0, err
    assert "Reward: not measured: the simulator is missing. Type: pip install it" in out
    found = json.loads((tmp_path / "paper-kitchen-ddim-small.json").read_text())["ways"]
    assert max(found[OURS]["errors"]) <= 0.05
    assert found[SEQUENTIAL]["rounds"] == [15] * robots.CHUNKS


def test_what_cannot_be_measured_is_refused_before_any_work(tmp_path: Path) -> None:
    for given, said in (
        (["--row", "sd3"], "type one of sd2-ddpm"),
        (["--row", "sd2-ddpm", "--dtype", "float8"], "type one of float32"),
        (["--row", "church-ddpm", "--reference", str(tmp_path)], "holds 0 pictures"),
    ):
        code, _, err = call(*given, "--out", str(tmp_path))
        assert code == 2
        assert said in err


def test_a_score_counts_a_picture_once_however_many_ranks_have_it() -> None:
    """torchmetrics gathers what ranks have seen, and here every rank has seen all."""
    pytest.importorskip("torchmetrics")
    sets = [torch.randint(k, 256, (9, 3, 16, 16), generator=torch.Generator().manual_seed(k), dtype=torch.uint8)
            for k in range(2)]  # fmt: skip
    found = []
    for ranks in (1, 4):
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        try:
            found.append(gallery.quality(gallery.frechet_metric(torch.device("cpu"), Features()), sets[0])(sets[1], ()))
        finally:
            dist.destroy_process_group()
    assert found[0] == found[1] is not None


def test_features_are_of_every_picture_alone() -> None:
    x = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.testing.assert_close(Features()(x)[1:2], Features()(x[1:2]))
