"""The program `python -m benchmarks`, run in the repository's folder."""

from __future__ import annotations

from paradigms.cli import interrupt


def main() -> None:
    """Runs a benchmark; Ctrl-C ends it in one line."""
    interrupt.begin()
    from .app import bench

    bench(prog_name="python -m benchmarks")


if __name__ == "__main__":
    main()
