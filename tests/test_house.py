"""The walls: the core needs torch alone, rooms know only the rooms below them, the version is one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import paradigms

HOUSE = Path(paradigms.__file__).parent
KNOWS = {
    "schedule": set(),
    "denoiser": set(),
    "system": {"denoiser"},
    "rules": {"denoiser", "schedule", "system"},
    "carry": {"system"},
    "spectrum": set(),
    "method": {"carry", "spectrum", "system"},
    "anderson": {"carry", "method", "stop", "system"},
    "newton": {"anderson", "carry", "method", "system"},
    "spectral": {"anderson", "carry", "method", "spectrum", "stop", "system"},
    "latency": set(),
    "noise": {"system"},
    "roll": set(),
    "wire": set(),
    "mesh": set(),
    "shares": set(),
    "team": {"mesh", "roll", "shares", "wire"},
    "clock": {"team"},
    "chunks": set(),
    "shard": {"chunks", "team"},
    "over": {"check", "noise", "roll", "shard", "system", "team"},
    "execute": {"chunks", "clock", "shard", "system", "team"},
    "check": {"noise", "pace", "system"},
    "pace": {"clock"},
    "slide": {"execute", "method", "system"},
    "experience": {"identity", "latency", "pace"},
    "identity": set(),
    "grid": set(),
    "outlook": {"experience", "pace", "whole"},
    "ladder": {"experience", "pace"},
    "whole": set(),
    "auto": {"execute", "experience", "grid", "ladder", "method", "outlook", "pace", "stop", "whole"},
    "trace": set(),
    "solution": {"execute", "noise", "pace", "shares", "system", "trace"},
    "plan": set(),
    "parareal": {"carry", "method", "stop", "system"},
    "speculation": {"method", "system"},
    "stop": {"carry", "method", "spectrum", "system"},
    "frame": {"execute", "method", "trace"},
    "heap": set(),
    "rounds": {"carry", "execute", "frame", "heap", "method", "noise", "pace", "slide", "stop", "system"},
    "solve": {
        "auto",
        "check",
        "execute",
        "frame",
        "identity",
        "method",
        "noise",
        "over",
        "pace",
        "rounds",
        "solution",
        "spectral",
        "stop",
        "system",
        "trace",
    },
    "adapt/levels": {"denoiser"},
    "adapt/probe": {"levels"},
    "adapt/scheduler": {"denoiser", "levels", "probe", "solve", "system"},
    "adapt/parallel": {None, "method", "pipelines", "policies.policy"},
    "adapt/policies/inpaint": {"method", "system"},
    "adapt/policies/call": {
        "inpaint",
        "method",
        "pace",
        "pipelines.report",
        "seam",
        "solution",
        "solve",
        "stop",
        "system",
        "warm",
    },
    "adapt/policies/policy": {
        "call",
        "rest",
        "check",
        "method",
        "pace",
        "pipelines.report",
        "seam",
        "spectral",
        "stop",
        "table",
        "warm",
    },
    "adapt/policies/rest": set(),
    "adapt/policies/seam": {"noise"},
    "adapt/policies/table": {"scheduler", "system"},
    "adapt/policies/warm": {"carry", "method", "noise", "pace", "frame", "stop", "system"},
    "adapt/pipelines/belief": {"anderson", "method", "spectral", "system"},
    "adapt/pipelines/call": set(),
    "adapt/pipelines/course": {"denoiser", "levels", "probe", "system"},
    "adapt/pipelines/fast": {"hooks", "report", "frame", "scheduler", "snapshot", "solve", "system"},
    "adapt/pipelines/intercept": {"fast", "loop", "network", "report", "rewrite"},
    "adapt/pipelines/judge": {"call", "course", "method", "report", "slide", "standin", "stop"},
    "adapt/pipelines/hooks": {
        "call",
        "course",
        "heap",
        "judge",
        "network",
        "pace",
        "paced",
        "report",
        "rewrite",
        "snapshot",
        "standin",
    },
    "adapt/pipelines/loop": {"hooks", "judge", "rewrite", "standin"},
    "adapt/pipelines/network": {"call", "chunks", "clock", "snapshot", "spread", "team"},
    "adapt/pipelines/spread": {"call", "team", "wire"},
    "adapt/pipelines/together": {"over", "team"},
    "adapt/pipelines/paced": {"auto", "experience", "network", "pace", "report"},
    "adapt/pipelines/pipeline": {
        "belief",
        "check",
        "intercept",
        "method",
        "network",
        "pace",
        "paced",
        "report",
        "rewrite",
        "snapshot",
        "solve",
        "spectral",
        "stop",
        "team",
        "together",
    },
    "adapt/pipelines/report": {"method", "pace", "shares", "stop"},
    "adapt/pipelines/rewrite": set(),
    "adapt/pipelines/snapshot": set(),
    "adapt/pipelines/standin": {"belief", "call", "course", "method"},
}


@pytest.mark.parametrize("room", KNOWS)
def test_arrows_of_the_core(room: str) -> None:
    imports = [
        n for n in ast.walk(ast.parse((HOUSE / f"{room}.py").read_text())) if isinstance(n, ast.ImportFrom | ast.Import)
    ]
    known = {n.module for n in imports if isinstance(n, ast.ImportFrom) and n.level}
    outside = {a.name.split(".")[0] for n in imports if isinstance(n, ast.Import) for a in n.names}
    outside |= {str(n.module).split(".")[0] for n in imports if isinstance(n, ast.ImportFrom) and not n.level}
    assert known <= KNOWS[room]
    assert outside - set(sys.stdlib_module_names) <= {"torch"}


def test_importing_the_library_imports_torch_alone() -> None:
    code = "import sys, torch; before = set(sys.modules); import paradigms; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    third = {m.split(".")[0] for m in loaded} - set(sys.stdlib_module_names) - {"paradigms", "torch"}
    assert not third


def test_every_public_name_has_a_docstring_and_every_core_file_is_short() -> None:
    for name in paradigms.__all__:
        assert (getattr(paradigms, name).__doc__ or "").strip(), name
    for room in KNOWS:
        lines = (HOUSE / f"{room}.py").read_text().splitlines()
        assert len(lines) <= 270, room
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.body[0].lineno <= 50, f"{room}.{node.name}"


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert paradigms.__version__ == version("paradigms")
