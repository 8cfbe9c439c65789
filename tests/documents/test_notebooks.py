"""The notebooks: cells run from top to bottom, and print what the notebook holds, but for numbers of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 150_000  # bytes of a notebook with its outputs


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if path.stem == "robot":
        pytest.importorskip("gym_pusht")
    matplotlib.use("Agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names: dict[str, Any] = {}
    for cell in code(path):
        exec("".join(cell["source"]), names)
        held = "".join(text for output in cell["outputs"] if "text" in output for text in output["text"])
        form = re.sub(r"\d[\d.]*", r"[\\d.]+", re.escape(held).replace(r"\.", "."))
        assert re.fullmatch(form, capsys.readouterr().out), held
    names["plt"].close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_shows_pictures_but_no_warnings(path: Path) -> None:
    outputs = [output for cell in code(path) for output in cell["outputs"]]
    assert path.stat().st_size <= LARGEST
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)


def test_there_are_two_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["images", "robot"]
