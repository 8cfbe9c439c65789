"""What pip is told holds: ranges begin at what `make floor` runs; one name; warnings are errors (C2, C5)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

tomllib = pytest.importorskip("tomllib")  # Python 3.11
ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROBOTS = {"square", "kitchen"}  # in an environment of their own, make robots
TEXTS = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.md")]


def requirements(extras: set[str] | None = None) -> dict[str, Requirement]:
    """What the project needs, by name; of some extras, or of all that go with the main environment."""
    chosen = PROJECT["optional-dependencies"]
    wanted = [r for name, rs in chosen.items() if (name in extras if extras else name not in ROBOTS) for r in rs]
    found = [Requirement(r) for r in (*PROJECT["dependencies"], *wanted)]
    return {r.name.lower().replace("_", "-"): r for r in found if r.name != PROJECT["name"]}


def pins(name: str) -> dict[str, Version]:
    """The versions of a constraints file."""
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {key.lower().replace("_", "-"): Version(version.split()[0]) for key, version in pairs}


def floor(requirement: Requirement) -> Version:
    """The oldest version of a range."""
    return min(Version(s.version) for s in requirement.specifier if s.operator in (">=", "=="))


FLOORS = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "typer", "rich", "matplotlib",
          "numpy", "pillow", "scikit-learn")  # fmt: skip


@pytest.mark.parametrize("name", FLOORS)
def test_the_oldest_of_a_range_is_what_make_floor_runs(name: str) -> None:
    """C2."""
    requirement, oldest = requirements()[name], pins("constraints-floor.txt")[name]
    begins = floor(requirement)
    assert oldest.release[: len(begins.release)] == begins.release, (begins, oldest)


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt", "constraints-floor.txt"])
def test_every_version_that_is_run_is_in_its_range(file: str) -> None:
    """C2."""
    known = pins(file)
    for name, requirement in requirements().items():
        if name in known:
            assert requirement.specifier.contains(known[name], prereleases=True), (name, known[name])


def test_robots_are_in_their_ranges() -> None:
    known = pins("constraints-robots.txt")
    for name, requirement in requirements(ROBOTS).items():
        assert name in known and requirement.specifier.contains(known[name]), name


def test_no_ceiling_is_below_the_next_minor_release_of_what_is_run() -> None:
    """C2: `<0.43` on diffusers broke with its next release."""
    known = pins("constraints.txt")
    for name in ("diffusers", "torch", "peft", "accelerate", "safetensors"):
        version = known[name]
        following = Version(f"{version.major}.{version.minor + 1}.0")
        assert requirements()[name].specifier.contains(following), name


def test_pythons_are_those_that_were_run() -> None:
    """C2: make floor runs the first, make test the one that has constraints, the newest by hand."""
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert min(map(Version, named)) == floor(Requirement(f"python{PROJECT['requires-python']}"))
    assert "FLOOR_PYTHON ?= python" + min(named, key=Version) in (ROOT / "Makefile").read_text()
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in named)


def test_whatever_says_pip_install_says_the_distributions_name() -> None:
    """C5: `paradigms` is another project's on PyPI."""
    assert PROJECT["name"] == "paradigms-sampling"
    for path in TEXTS:
        for what in re.findall(r"pip install [^\n`]*", path.read_text()):
            assert not re.search(r"\bparadigms(?!-sampling|\.)\b", what), (path.name, what)
    own = [r for extra in PROJECT["optional-dependencies"].values() for r in extra if r.startswith("paradigms")]
    models = tomllib.loads((ROOT / "weights" / "pyproject.toml").read_text())["project"]
    assert own and all(r.startswith(("paradigms-sampling[", f"paradigms-models=={models['version']}")) for r in own)


def test_warnings_are_errors_but_for_named_ones() -> None:
    """C5: each of those is a third party's, by its module and its message, with the reason beside it."""
    text = (ROOT / "pyproject.toml").read_text()
    rules = tomllib.loads(text)["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert rules[0] == "error"
    assert all(rule.startswith("ignore:") and len(rule.split(":")[1]) > 10 for rule in rules[1:])
