"""Ranks that cannot start name themselves, and where one is gone without a word those that are left say so (C3)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ranks
from command_line import SHORT_DDPM, tiny, torchrun

PROGRAM = Path(ranks.__file__).with_name("starting.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny(tmp_path_factory.mktemp("models") / "plain.safetensors"))


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the ranks said, without torchrun's own account."""
    return [line for line in done.stderr.splitlines() if line.startswith("paradigms: ")]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("refuses", "paradigms: rank 1: there is no room on this rank; type --device cpu"),
        ("rank 0 is killed at work", "paradigms: rank 0 of 2 ended or was killed without a word, so torchrun ends all"),
    ],
)
def test_a_rank_that_fails_is_named_once(what: str, line: str, model: str, tmp_path: Path) -> None:
    os.environ["STARTING"] = what
    try:
        done = torchrun(2, (str(PROGRAM),), model, *SHORT_DDPM, "--timeout", "20", "--out", str(tmp_path))
    finally:
        del os.environ["STARTING"]
    (said,) = lines(done)
    assert done.returncode and said.startswith(line), done.stderr
    assert "Traceback" not in "\n".join(lines(done)) and not list(tmp_path.iterdir())


def test_a_rank_that_finds_nobody_names_itself_and_where_it_looked(model: str, tmp_path: Path) -> None:
    """As after a wrong address on one of several machines."""
    where = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1"}
    environment = {**os.environ, **where, "MASTER_ADDR": "127.0.0.1"}
    command = [
        sys.executable,
        "-m",
        "paradigms",
        "sample",
        model,
        *SHORT_DDPM,
        "--timeout",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    (said,) = lines(done)
    assert done.returncode == 2 and said.startswith("paradigms: rank 3 of 4 did not find the others at 127.0.0.1:1")
