"""The page on own methods: its code runs from top to bottom, in one namespace, and its own assertions hold."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "own-method.md"


def test_the_code_of_the_page_runs_and_finds_the_sequential_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 4
    page = types.ModuleType("page")  # dataclasses look their annotations up in a module
    monkeypatch.setitem(sys.modules, "page", page)
    exec("\n".join(blocks), vars(page))
