"""What the tests of the command line share: a tiny model in a file, a call of the program, the same on many ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import typer
from typer.testing import CliRunner

from benchmarks.app import bench
from paradigms import models
from paradigms.cli import app as cli
from paradigms.models.net import UNet

SHORT = ("--steps", "6", "--window", "4", "--batch", "2")
SHORT_DDPM = ("--rule", "ddpm", "--steps", "6", "--window", "3")


def tiny(path: Path, classes: int = 0, spoil: float = 0.0) -> Path:
    """A random U-Net in a file; nothing in it is zero, so that rows and classes matter."""
    torch.manual_seed(0)
    net = UNet(1, (8, 8), depth=1, patch=1, classes=classes, embed=8)
    for weight in net.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    net.head.weight.data[0, 0] += spoil
    models.save(path, net, name="tiny", shape=(1, 8, 8), prediction="epsilon")
    return path


def call(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `paradigms args`, or of `python -m benchmarks args`."""
    program, args = (bench, args[1:]) if args[:1] == ("bench",) else (cli.app, args)
    result = CliRunner().invoke(program, list(args))
    return result.exit_code, result.stdout, result.stderr


def torchrun(ranks: int, program: tuple[str, ...], *args: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """A job of so many ranks on this machine."""
    how = ("--nproc-per-node", str(ranks), "--max-restarts", str(restarts), "--rdzv-backend", "c10d")
    where = ("--rdzv-endpoint", "localhost:0", "--monitor-interval", "0.1")
    command = [sys.executable, "-m", "torch.distributed.run", *how, *where, *program, "sample", *args]
    environment = {k: v for k, v in os.environ.items() if k != "WORLD_SIZE"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)


def commands() -> dict[str, set[str]]:
    """The options of every command, by its name."""
    top: Any = typer.main.get_command(cli.app)
    benches: Any = typer.main.get_command(bench)
    others = {f"bench {name}": command for name, command in benches.commands.items()}
    return {
        name: {o for p in c.params for o in (*p.opts, *p.secondary_opts)} for name, c in (top.commands | others).items()
    }
