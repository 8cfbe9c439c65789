"""`python -m benchmarks auto` on a chain of a few rows: what it compares, what it writes, where it goes on."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import paradigms as pd
from benchmarks.core import auto, busy
from problems import LINEAR
from toy import Mixture


def tiny(name: str) -> auto.Cell:
    """Six rows of the exact mixture."""
    return auto.chain(name, Mixture(), pd.ddim(LINEAR, 6), (6,), {}, 2)


def test_names_are_of_a_model_a_number_of_samples_and_a_rule_and_no_two_are_alike() -> None:
    names = [name for name, _ in auto.cells()]
    assert len(set(names)) == len(names) and all(len(name.split(", ")) == 3 for name in names)
    assert {name.split(", ")[0] for name in names} >= {"digits", "digits-guided", "scenes", "mixture-64", "MLP"}


def test_a_call_with_any_window_is_the_plain_one_within_the_tolerance() -> None:
    cell = tiny("toy, 2, DDIM-6")
    for window in (1, 4, "auto"):
        x, windows = cell.call(window, 3)
        assert float((x - cell.plain(3)).norm() / x.norm()) < 0.01
        assert sum(windows()) >= cell.rows
    assert not torch.equal(cell.plain(3), cell.plain(4)), "a seed is a sample"


def test_cells_that_were_measured_are_kept_and_the_table_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def cells() -> Any:
        for name in ("toy, 2, A", "toy, 2, B"):
            yield name, lambda name=name: made.append(name) or tiny(name)

    for name, value in (("cells", cells), ("CALLS", (2, 2)), ("TIMES", (1, 1)), ("LIVES", (1, 1)), ("TURNS", 1)):
        monkeypatch.setattr(auto, name, value)
    auto.main(tmp_path, "toy, 2, A")
    auto.main(tmp_path)
    assert made == ["toy, 2, A", "toy, 2, B"]
    found = json.loads((tmp_path / "auto.json").read_text())["cells"]
    assert found.keys() == {"toy, 2, A", "toy, 2, B"} and all(
        [len(life) for life in m["lives"]] == [2] for m in found.values()
    )
    text = (tmp_path / "auto.md").read_text()
    assert "2 of 2 cells measured" in text and text.count("| toy ") == 2
    assert "2 of 2 cells" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("turns", "share", "seconds"),
    [
        ([(4, 2, 1), (4, 2, 1), (4, 8, 9)], 0.5, 11 / 12),  # the best window is twice as fast, but for one slow call
        ([(4, 8, 9), (4, 8, 9), (4, 4, 1)], 0.5, 12 / 20),  # a window that loses: stepping is the best there is
    ],
)
def test_auto_is_held_against_the_faster_of_stepping_and_the_best_window(
    turns: list[tuple[float, ...]], share: float, seconds: float
) -> None:
    measured = {"lives": [[(4.0, 2.0)]], "turns": turns, "best": 8, "errors": [0.0], "windows": ["8 x 1", "8 x 1"]}
    line = dict(zip(auto.HEAD, auto.row("toy, 1, A", measured), strict=True))
    assert (line["of the best"], line["in seconds"]) == pytest.approx((share, seconds))
    assert line["auto: first call"] == line["median of calls"] == 2.0


def test_windows_are_told_in_runs() -> None:
    assert auto.told([1, 1, 32, 32, 32, 1]) == "1 x 2, 32 x 3, 1 x 1"
    assert auto.told([1, 2] * 5).endswith(", ...")


def test_the_busy_bench_counts_rounds_of_fresh_calls_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = iter([20, 22, 21, 40, 14])
    found = {"seconds": 1.0, "windows": "1 x 4, 16 x 16", "reason": "the first 4 steps were timed"}
    monkeypatch.setattr(busy, "fresh", lambda name: {"rounds": next(made), **found})
    monkeypatch.setattr(busy, "loaded", lambda cores: contextlib.nullcontext())
    monkeypatch.setattr(busy, "BUSY", ("toy, 2, A", "toy, 2, B"))
    busy.main(tmp_path, "toy, 2, A", processes=3)
    busy.main(tmp_path, processes=2)
    assert next(made, None) is None, "what is there is not measured again"
    cells = json.loads((tmp_path / "auto-busy.json").read_text())["cells"]
    assert [run["rounds"] for run in cells["toy, 2, A"]] == [20, 22, 21]
    assert busy.spread([20, 22, 21]) == pytest.approx(2 / 21)
    assert "In 1 of 2 cells" in capsys.readouterr().out


def test_the_first_call_of_a_process_says_its_rounds_and_why_it_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "cells", lambda: iter([("toy, 2, A", lambda: tiny("toy, 2, A"))]))
    said = busy.first("toy, 2, A")
    assert said["rounds"] == 6 and said["windows"] == "1 x 6" and said["reason"]
