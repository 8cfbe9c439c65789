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
    "given": set(),
    "ambient": set(),
    "answer": {"given"},
    "assume": {"ambient", "chunks"},
    "schedule": {"given"},
    "denoiser": {"given"},
    "system": {"denoiser", "given"},
    "grids": {"denoiser", "given", "schedule", "system"},
    "rules": {"given", "grids", "schedule", "system"},
    "carry": {"system"},
    "spectrum": set(),
    "method": {"carry", "given", "spectrum", "system"},
    "anderson": {"carry", "given", "method", "stop", "system"},
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
    "chunks": {"answer"},
    "shard": {"chunks", "given", "team"},
    "over": {"check", "noise", "roll", "shard", "system", "team"},
    "execute": {"ambient", "answer", "assume", "chunks", "clock", "given", "shard", "system", "team"},
    "check": {"assume", "execute", "given", "method", "noise", "pace", "schedule", "stop", "system"},
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
    "solution": {"execute", "noise", "pace", "retry", "shares", "stop", "system", "trace"},
    "plan": set(),
    "parareal": {"carry", "method", "stop", "system"},
    "speculation": {"method", "system"},
    "precision": {"method"},
    "growth": {"carry", "method", "precision", "spectrum", "system"},
    "stop": {"carry", "given", "growth", "method", "precision", "spectrum", "system"},
    "frame": {"execute", "method", "trace"},
    "heap": set(),
    "rounds": {"carry", "execute", "frame", "heap", "method", "pace", "slide", "stop", "system"},
    "retry": {"frame", "noise", "pace", "precision", "rounds", "stop", "trace"},
    "interrupt": set(),
    "device": {"show.files"},
    "muster": set(),
    "trust": {"show.files"},
    "show/answer": set(),
    "solve": {
        "ambient",
        "auto",
        "check",
        "execute",
        "frame",
        "given",
        "identity",
        "method",
        "noise",
        "over",
        "pace",
        "precision",
        "retry",
        "rounds",
        "skeleton",
        "solution",
        "spectral",
        "stop",
        "system",
        "trace",
    },
    "adapt/levels": {"denoiser"},
    "adapt/probe": {"levels"},
    "adapt/prepared": {"given", "probe", "schedule", "system"},
    "adapt/scheduler": {"denoiser", "given", "levels", "prepared", "probe", "solve", "system"},
    "adapt/parallel": {None, "method", "pace", "pipelines", "policies.policy", "stop"},
    "adapt/policies/alone": {"system"},
    "adapt/policies/arguments": set(),
    "adapt/policies/call": {
        "alone",
        "inpaint",
        "method",
        "pace",
        "seam",
        "solution",
        "solve",
        "stop",
        "system",
        "warm",
    },
    "adapt/policies/inpaint": {"method", "system"},
    "adapt/policies/loop": {
        "arguments",
        "call",
        "place",
        "report",
        "rest",
        "seam",
        "solution",
        "streams",
        "table",
        "trial",
        "warm",
    },
    "adapt/policies/mark": set(),
    "adapt/policies/place": set(),
    "adapt/policies/policy": {
        "call",
        "check",
        "loop",
        "method",
        "pace",
        "place",
        "report",
        "seam",
        "spectral",
        "stop",
        "table",
        "trial",
    },
    "adapt/policies/report": {"pipelines.report"},
    "adapt/policies/rest": set(),
    "adapt/policies/seam": {"noise"},
    "adapt/policies/streams": {"noise"},
    "adapt/policies/table": {"mark", "scheduler", "system"},
    "adapt/policies/trial": {"arguments", "call", "mark", "scheduler", "seam", "streams", "table", "twin"},
    "adapt/policies/twin": {"noise", "seam"},
    "adapt/policies/warm": {"carry", "frame", "method", "noise", "pace", "stop", "system"},
    "adapt/pipelines/attempt": {
        "doubt",
        "intercept",
        "network",
        "paced",
        "report",
        "results",
        "rewrite",
        "snapshot",
        "swap",
        "team",
        "watch",
    },
    "adapt/pipelines/belief": {"anderson", "method", "spectral", "system"},
    "adapt/pipelines/call": set(),
    "adapt/pipelines/contents": set(),
    "adapt/pipelines/course": {"denoiser", "levels", "probe", "system"},
    "adapt/pipelines/doubt": {"report", "retry", "stop"},
    "adapt/pipelines/evidence": {"visit"},
    "adapt/pipelines/fast": {"execute", "frame", "hooks", "report", "scheduler", "snapshot", "solve", "system"},
    "adapt/pipelines/fields": set(),
    "adapt/pipelines/finite": {"call", "execute"},
    "adapt/pipelines/hooks": {
        "call",
        "course",
        "fields",
        "finite",
        "heap",
        "judge",
        "network",
        "pace",
        "paced",
        "report",
        "rewrite",
        "snapshot",
        "standin",
        "visit",
    },
    "adapt/pipelines/intercept": {"fast", "loop", "network", "outside", "report", "rewrite"},
    "adapt/pipelines/joining": {"call"},
    "adapt/pipelines/judge": {
        "course",
        "evidence",
        "method",
        "precision",
        "slide",
        "standin",
        "stop",
        "system",
        "visit",
    },
    "adapt/pipelines/loop": {"call", "doubt", "hooks", "rewrite", "standin", "visit"},
    "adapt/pipelines/memory": {"contents", "snapshot"},
    "adapt/pipelines/network": {"call", "chunks", "clock", "fields", "joining", "remembers", "spread", "team"},
    "adapt/pipelines/outside": {"contents", "rewrite", "wrappers"},
    "adapt/pipelines/paced": {"auto", "experience", "network", "pace", "report"},
    "adapt/pipelines/pipeline": {
        "attempt",
        "belief",
        "check",
        "intercept",
        "method",
        "pace",
        "report",
        "solve",
        "spectral",
        "stop",
        "team",
        "together",
        "watch",
    },
    "adapt/pipelines/remembers": {"call", "memory", "rewrite"},
    "adapt/pipelines/report": {"method", "pace", "shares", "stop"},
    "adapt/pipelines/results": set(),
    "adapt/pipelines/rewrite": {"wrappers"},
    "adapt/pipelines/snapshot": {"contents", "rewrite"},
    "adapt/pipelines/spread": {"call", "team", "wire"},
    "adapt/pipelines/standin": {"belief", "call", "course", "method"},
    "adapt/pipelines/swap": {"intercept", "network", "probe", "rewrite"},
    "adapt/pipelines/together": {"over", "team"},
    "adapt/pipelines/visit": {"call", "report"},
    "adapt/pipelines/watch": {"intercept", "rewrite"},
    "adapt/pipelines/wrappers": set(),
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

    assert paradigms.__version__ == version("paradigms-sampling")
