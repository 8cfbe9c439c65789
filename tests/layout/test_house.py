"""The layout and the direction of imports: a folder knows only the folders below it, and the core needs torch alone."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import paradigms

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "paradigms"
# From the bottom up: what each folder, or module at the root, may import of the package. A new entry is a decision.
CORE = ["validate", "schedule", "denoiser", "system", "rules", "noise"]
BELOW: dict[str, set[str]] = {
    "validate": set(),
    "schedule": {"validate"},
    "denoiser": {"validate"},
    "system": {"denoiser", "validate"},
    "rules": {"denoiser", "schedule", "system", "validate"},
    "noise": {"system", "validate"},
    "files": set(),
    "methods": {"system", "validate"},
    "stopping": {"methods", "system", "validate"},
    "distributed": set(),
    "execution": {"checks", "denoiser", "distributed", "noise", "problem", "system", "validate"},
    "window": {"execution", "methods", "noise", "stopping", "system", "validate"},
    "window/auto": {"execution", "methods", "stopping", "system", "window"},
    "checks": {"execution", "methods", "schedule", "stopping", "system", "validate", "window"},
    "problem": {"checks", "execution", "noise", "system"},
    "solution": {"distributed", "execution", "noise", "stopping", "system", "validate", "window"},
    "skeleton": {"execution", "methods", "stopping", "system", "validate", "window"},
    "solve": {*CORE, "checks", "execution", "methods", "problem", "skeleton", "solution", "stopping", "window"}
    | {"window/auto"},
    "steps": {
        "checks",
        "execution",
        "methods",
        "noise",
        "problem",
        "solution",
        "solve",
        "stopping",
        "system",
        "validate",
        "window",
    },
    "integrations": {*CORE, "methods", "solution", "solve", "stopping"},
    "adapters/schedulers": {*CORE, "adapters", "solve"},
    "adapters": {*CORE, "adapters/loops", "adapters/pipelines", "adapters/policies", "adapters/schedulers"}
    | {"checks", "distributed", "files", "methods", "stopping", "window"},
    "adapters/pipelines/code": {"adapters"},
    "adapters/pipelines/state": {"adapters/pipelines/code"},
    "adapters/pipelines/networks": {"adapters/pipelines/code", "adapters/pipelines/state", "adapters/schedulers"}
    | {"distributed", "execution", "methods", "system", "validate"},
    "adapters/pipelines/loop": {
        "adapters",
        "adapters/pipelines",
        "adapters/pipelines/code",
        "adapters/pipelines/networks",
    }
    | {"adapters/pipelines/state", "adapters/schedulers", "execution", "methods", "stopping", "system", "window"}
    | {"window/auto"},
    "adapters/pipelines": {*CORE, "adapters", "adapters/schedulers", "checks", "distributed", "execution", "methods"}
    | {f"adapters/pipelines/{part}" for part in ("code", "loop", "networks", "state")}
    | {"solve", "stopping", "window", "window/auto"},
    "adapters/loops": {
        *CORE,
        "adapters/pipelines",
        "adapters/pipelines/networks",
        "adapters/policies",
        "checks",
        "distributed",
        "execution",
    }
    | {"methods", "solution", "solve", "stopping", "window", "window/auto"},
    "adapters/policies": {*CORE, "adapters", "adapters/schedulers", "checks", "distributed", "methods", "solution"}
    | {"skeleton", "solve", "stopping", "window", "window/auto"},
    "models": {"files", "schedule", "system"},
    "models/latent": {"adapters", "files", "models"},
    "policies": {"files", "models", "policies/tasks"},
    "policies/tasks": {"policies"},
    "viz": {"distributed", "files", "solution", "window"},
    "race": {"methods", "policies", "policies/tasks", "solution", "solve", "stopping", "system", "viz", "window"},
    "cli": {*CORE, "adapters", "checks", "distributed", "execution", "files", "methods", "models", "models/latent"}
    | {"policies", "policies/tasks", "race"}
    | {"solution", "solve", "stopping", "viz", "window", "window/auto"},
}
FILES = sorted(PACKAGE.rglob("*.py"))
LONG = {"ParallelLoop"}  # yet to be made shorter


def place(file: Path) -> str:
    """The folder of a file of the package, or for one at the root its own name."""
    inside = file.relative_to(PACKAGE)
    return inside.parent.as_posix() if len(inside.parts) > 1 else inside.stem


def imports(file: Path) -> tuple[set[Path], set[str]]:
    """What a file imports: files of the package, and libraries outside of it."""
    inner: set[Path] = set()
    outer: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            outer |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            outer.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            at = file.parents[node.level - 1] / (node.module or "").replace(".", "/")
            for name in (a.name for a in node.names):
                found = [
                    p for p in (at / f"{name}.py", at.with_suffix(".py"), at / name / "__init__.py") if p.is_file()
                ]
                inner |= set(found[:1]) or {at / "__init__.py"}
    return inner, outer - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_imports_point_downward(file: Path) -> None:
    if (here := place(file)) in ("__init__", "__main__", "public"):
        return
    used = {place(f) for f in imports(file)[0]} - {here, "__init__", "public"}
    assert used <= BELOW[here], f"{here} may not import {sorted(used - BELOW[here])}"


def test_the_package_never_imports_benchmarks_or_training() -> None:
    for file in FILES:
        assert not imports(file)[1] & {"benchmarks", "training", "tests"}, file


@pytest.mark.parametrize(
    "folder", [*CORE, "checks", "problem", "solution", "solve", "methods", "stopping", "execution", "window"]
)
def test_the_core_needs_torch_alone(folder: str) -> None:
    files = [PACKAGE / f"{folder}.py"] if (PACKAGE / f"{folder}.py").is_file() else (PACKAGE / folder).rglob("*.py")
    for file in files:
        assert imports(file)[1] <= {"torch"}, file


def test_a_file_at_the_root_is_a_deliberate_act() -> None:
    at_root = {f.stem for f in PACKAGE.glob("*.py")} - {"__init__", "__main__", "public"}
    assert at_root == {*CORE, "files", "problem", "solution", "solve", "steps"} - {"rules"}


def test_importing_the_library_imports_torch_alone() -> None:
    code = "import sys, torch; before = set(sys.modules); import paradigms; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    third = {m.split(".")[0] for m in loaded} - set(sys.stdlib_module_names) - {"paradigms", "torch"}
    assert not third


def test_every_public_name_has_a_docstring() -> None:
    for name in paradigms.__all__:
        assert (getattr(paradigms, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_files_and_functions_are_short(file: Path) -> None:
    """Docstrings of functions and classes are not counted: arguments, shapes and errors take their room."""
    text = file.read_text()
    things = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    said = sum(map(docstring, things))
    assert len(text.splitlines()) - said <= 280
    for thing in things:
        if isinstance(thing, ast.FunctionDef):
            assert (thing.end_lineno or 0) - thing.body[0].lineno - docstring(thing) <= 60, thing.name
        elif thing.name not in LONG:
            assert (thing.end_lineno or 0) - thing.lineno + 1 - docstring(thing) <= 120, thing.name


@pytest.mark.parametrize("folder", ["src/paradigms", "benchmarks", "training"])
def test_functions_that_nobody_types_take_six_arguments_at_most(folder: str) -> None:
    """What a user types may take more: public functions and classes, commands, and the integrations' signatures."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        for name, function in functions_of(ast.parse(file.read_text())):
            typed = set(name.split(".")) & typed_names() or "integrations" in file.parts
            command = any("command" in ast.unparse(each) for each in function.decorator_list)
            count = len([a for a in ast.walk(function.args) if isinstance(a, ast.arg) and a.arg not in ("self", "cls")])
            assert count <= 6 or typed or command, f"{file.name}: {name} takes {count}"


@functools.cache
def typed_names() -> set[str]:
    """The names that the package's public.py and __init__ files import."""
    nodes = (
        node
        for file in (PACKAGE / "public.py", *PACKAGE.rglob("__init__.py"))
        for node in ast.walk(ast.parse(file.read_text()))
    )
    return {a.asname or a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


def functions_of(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function in a syntax tree, under its name and those of the classes and functions around it."""
    for node in ast.iter_child_nodes(tree):
        name = f"{owner}.{node.name}" if isinstance(node, ast.FunctionDef | ast.ClassDef) else owner
        if isinstance(node, ast.FunctionDef):
            yield name, node
        yield from functions_of(node, name)


def docstring(thing: ast.FunctionDef | ast.ClassDef) -> int:
    """The lines of a docstring, 0 without one."""
    first = thing.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(thing) else 0


def test_the_version_is_the_packages() -> None:
    assert paradigms.__version__ == version("paradigms-sampling")


def test_files_that_docstrings_name_are_there() -> None:
    """A name between backquotes that ends in .py, in the sources of the package and of the benchmarks."""
    sources = [*FILES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    known = [f.as_posix() for f in [*sources, *(ROOT / "examples").rglob("*.py"), *(ROOT / "training").rglob("*.py")]]
    for file in sources:
        for name in re.findall(r"`([\w/]+\.py)`", file.read_text()):
            assert any(path.endswith(f"/{name}") for path in known), f"{file.relative_to(ROOT)} names {name}"
