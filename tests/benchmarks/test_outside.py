"""The benchmarks of other libraries' networks and of the server: what they count, and that they go on where cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.outside import server
from benchmarks.outside.cells import Cells
from benchmarks.outside.pictures import frechet
from benchmarks.outside.simulators import TASKS


def test_the_load_test_counts_calls_and_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "STEPS", 12)
    server.main(tmp_path, quick=True, repeats=1)
    cells = json.loads((tmp_path / "server.json").read_text())["cells"]
    assert [(c["users"], c["way"]) for c in cells] == [(n, way) for n in (1, 2) for way in server.WAYS]
    for cell in cells:
        assert cell["error"] < server.WAYS[cell["way"]]
        assert cell["calls"] <= 12 * cell["users"] and cell["rows"] >= cell["calls"]
    assert [c["calls"] for c in cells if c["way"] == "one by one"] == [12, 24]
    assert "one by one / this" in (tmp_path / "server.md").read_text()


def test_cells_that_are_kept_are_not_measured_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(name: str) -> Any:
        return lambda: (asked.append(name), {"value": name})[1]

    for until in (float("inf"), -1.0):
        cells = Cells(tmp_path, "page", until)
        for name in "ab" if until > 0 else "abc":
            cells(name, {"kind": "time"}, measure(name))
    assert asked == ["a", "b"] and cells.missing == ["c"]
    assert [c["value"] for c in cells.of("time")] == ["a", "b"]


def test_simulators_give_finite_data_of_their_parameters() -> None:
    for simulate, d, half in TASKS.values():
        x = simulate(half * (2 * torch.rand(50, d) - 1))
        assert x.shape[0] == 50 and bool(torch.isfinite(x).all()) and float(x.std(0).min()) > 0


def test_the_frechet_distance_is_that_of_gaussians() -> None:
    a, axes = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3)
    assert frechet(a, a, axes) == pytest.approx(0, abs=1e-5)
    assert frechet(a, a + torch.tensor([2.0, 0, 0]), axes) == pytest.approx(4, rel=1e-4)
    assert frechet(a, 3 * a, axes) == pytest.approx(4 * 3, rel=0.1)
