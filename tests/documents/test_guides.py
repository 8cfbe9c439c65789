"""The guides: the Python of each page runs from top to bottom in one namespace, and its own assertions hold."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = {
    "own-rule": 2, "report": 3, "paper": 1, "questions": 1, "models": 8, "pipelines": 1, "policies": 1, "index": 1,
    "integrations": 1, "skeleton": 1,
}  # fmt: skip
ELSEWHERE = {"own-method", "own-step", "recipes", "start"}  # in the other files of this folder
LEFT_OUT = {
    "pusht": "twenty episodes in the simulator take minutes",
    "robots": "its simulators have an environment of their own, see make robots",
}


def test_no_code_is_left_out_without_a_reason() -> None:
    pages = {page.stem for page in DOCS.glob("*.md") if "```python" in page.read_text()}
    assert pages == set(GUIDES) | ELSEWHERE | set(LEFT_OUT)


@pytest.mark.parametrize("name", GUIDES)
def test_the_code_of_a_guide_runs_as_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.S)
    assert len(blocks) == GUIDES[name]
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("page")  # dataclasses look their annotations up in a module
    monkeypatch.setitem(sys.modules, "page", page)
    exec("\n".join(blocks), vars(page))
