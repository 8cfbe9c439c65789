"""Python of the README runs as printed; in every page commands exist, and what is linked is there."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import commands

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("weights/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```", re.S)
CODE = BLOCK.findall(README)
FIRST = BLOCK.findall((ROOT / "docs" / "start.md").read_text())
MOST = 900  # words; what is beyond belongs to the site


@pytest.mark.parametrize("code", CODE)
def test_python_runs_as_printed(code: str, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ran.returncode == 0, ran.stderr
    for line in re.findall(r"# prints: (.*)", code):
        assert line in ran.stdout, f"the page promises {line!r}; this printed {ran.stdout!r}"


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST


def test_the_readme_begins_with_an_animation_and_the_command_that_makes_it() -> None:
    animation, command = README.index(".gif)"), README.index("--gif")
    assert animation < command < README.index("## ")


def test_other_projects_are_linked_by_whole_addresses() -> None:
    outside = re.findall(r"\]\((https?://[^)]+)\)", README)
    assert {link.split("/")[2] for link in outside} == {"arxiv.org", "github.com"} and len(outside) >= 8


def test_there_is_python_to_run_and_the_first_is_at_most_ten_lines() -> None:
    assert CODE and len([line for line in CODE[0].splitlines() if line.strip()]) <= 10


def test_the_first_sample_prints_what_the_page_shows(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```text\n(1 sample.*?)```", (ROOT / "docs" / "start.md").read_text(), re.S)
    code = [sys.executable, "-c", FIRST[0]]
    ran = subprocess.run(code, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=True)
    form = re.sub(r"(?<![\w(])\d[\d.e-]*|\\\.\\\.\\\.", r"[\\d.e+-]+", re.escape(shown).replace("\\-", "-"))
    assert re.fullmatch(form, ran.stdout), (form, ran.stdout)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_named_is_one(page: Path) -> None:
    known = commands()
    text = page.read_text().replace("python -m benchmarks ", "paradigms bench ")
    for name, rest in re.findall(r"paradigms (sample|plan|demo|race|models|bench [a-z]+)\b([^\n`]*)", text):
        assert name in known, name
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest)) <= known[name], (name, rest)
    for module in re.findall(r"python -m ((?:paradigms|training)[\w.]*\w)", page.read_text()):
        assert importlib.util.find_spec(module), module


def test_there_are_commands_to_check() -> None:
    assert len(re.findall(r"paradigms (?:sample|plan|race|models)", README)) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_and_file_linked_is_there(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert all((page.parent / link).exists() for link in links), links
