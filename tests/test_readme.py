"""The README's Python runs as printed, its commands exist, and its pictures are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", CODE, ids=[f"block {k}" for k in range(len(CODE))])
def test_python_runs_as_printed(code: str, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ran.returncode == 0, ran.stderr
    for line in re.findall(r"# prints: (.*)", code):
        assert line in ran.stdout, f"the README promises {line!r}; this printed {ran.stdout!r}"


def test_there_is_python_to_run_and_the_first_is_at_most_ten_lines() -> None:
    assert CODE and len([line for line in CODE[0].splitlines() if line.strip()]) <= 10


def test_every_command_and_option_named_is_one() -> None:
    lines = re.findall(r"paradigms (?:sample|demo|bench)[^\n`]*", README)
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(lines)))
    helps = [
        ["sample"],
        ["demo"],
        ["bench", "engine"],
        ["bench", "quality"],
        ["bench", "frontier"],
        ["bench", "overhead"],
        ["bench", "pipelines"],
        ["bench", "census"],
        ["bench", "policies"],
    ]
    known = ""
    for command in helps:
        asked = subprocess.run([sys.executable, "-m", "paradigms", *command, "--help"], capture_output=True, text=True)
        assert asked.returncode == 0
        known += asked.stdout
    assert used and all(option in known for option in used), used


def test_every_picture_and_file_linked_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links and all((ROOT / link).exists() for link in links), links
