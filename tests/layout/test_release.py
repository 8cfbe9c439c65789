"""What a release is made of: its files are whole and agree, and the workflows run what `.ci/run` runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

tomllib = pytest.importorskip("tomllib")  # Python 3.11
ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GITHUB = sorted((ROOT / ".github").rglob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


def read(path: str) -> Any:
    """A YAML file; its key `on` is read as true, as YAML 1.1 has it."""
    return yaml.safe_load((ROOT / path).read_text())


def steps(workflow: Any) -> list[Any]:
    """Of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_yaml_can_be_read(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    if path.parent.name == "workflows":
        assert {"name", True, "permissions", "jobs"} <= found.keys()
        assert all(("run" in step) != ("uses" in step) for step in steps(found))
        assert all(job["runs-on"] for job in found["jobs"].values())
    elif path.stem != "config":
        assert {"name", "description", "body"} <= found.keys()
        assert all(part["type"] == "markdown" or part["attributes"]["label"] for part in found["body"])


def test_the_test_workflow_runs_what_ci_runs() -> None:
    lines = re.findall(r"^make (?:-j2 -Otarget )?([a-z -]+)$", (ROOT / ".ci" / "run").read_text(), re.M)
    asked = {target for line in lines for target in line.split()}
    workflow = read(".github/workflows/test.yml")
    assert set(workflow["jobs"]["pinned"]["strategy"]["matrix"]["target"]) == asked <= TARGETS
    assert len(asked) >= 6


def test_the_matrix_is_the_range_of_pythons() -> None:
    newest = read(".github/workflows/test.yml")["jobs"]["newest"]["strategy"]["matrix"]["python"]
    assert newest == ["3.10", "3.11", "3.12", "3.13"] and PROJECT["requires-python"] == f">={newest[0]}"


@pytest.mark.parametrize("name", ["test", "docs", "release"])
def test_workflows_call_targets_that_there_are(name: str) -> None:
    called = re.findall(r"\bmake ([a-z-]+)", (ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    assert set(called) <= TARGETS


def test_a_release_needs_no_password_and_only_its_last_job_may_publish() -> None:
    workflow = read(".github/workflows/release.yml")
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
    may = {name: job.get("permissions", {}).get("id-token") for name, job in workflow["jobs"].items()}
    assert may == {"build": None, "publish": "write"} and workflow["jobs"]["publish"]["needs"] == "build"


def test_the_citation_names_the_paper_and_this_version() -> None:
    found = read("CITATION.cff")
    assert (found["cff-version"], found["version"], found["license"]) == ("1.2.0", PROJECT["version"], "MIT")
    paper = found["preferred-citation"]
    assert paper["title"] == "Parallel Sampling of Diffusion Models" and paper["url"] == PROJECT["urls"]["Paper"]
    assert all({"given-names", "family-names"} == author.keys() for author in paper["authors"])


def test_addresses_that_are_not_known_yet_are_marked() -> None:
    assert PROJECT["authors"] == [{"name": "the paradigms developers"}]
    assert all(".invalid" in url for name, url in PROJECT["urls"].items() if name != "Paper")
    assert "example.invalid" in (ROOT / ".github" / "workflows" / "release.yml").read_text()
