"""The pages on own methods and own steps: their code runs from top to bottom, and its own assertions hold."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_code_of_the_page_runs_and_finds_the_sequential_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "own-method.md").read_text(), re.S)
    assert len(blocks) == 4
    page = types.ModuleType("page")  # dataclasses look their annotations up in a module
    monkeypatch.setitem(sys.modules, "page", page)
    exec("\n".join(blocks), vars(page))


def test_the_code_of_the_page_on_own_steps_runs_and_keeps_its_tolerance() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "own-step.md").read_text(), re.S)
    exec(code, {})
