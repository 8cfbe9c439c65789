"""The program `python -m benchmarks`, run in the repository's folder."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from paradigms.cli import interrupt


def main() -> None:
    """Runs a benchmark; Ctrl-C ends it in one line. `gpu` needs torch alone, so it runs without typer, too."""
    interrupt.begin()
    if sys.argv[1:2] == ["gpu"] and find_spec("typer") is None:
        from .gpu.command import main as gpu

        sys.exit(gpu(sys.argv[2:]))
    from .app import bench

    bench(prog_name="python -m benchmarks")


if __name__ == "__main__":
    main()
