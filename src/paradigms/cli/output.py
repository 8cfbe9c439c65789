"""What a command prints on standard output: the paths of its files; or, with --json, one JSON object and nothing else.

The object has the numbers by name and "files", the paths. Whatever else is printed meanwhile, by a library or by a
pipeline, goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class CommandOutput:
    """Prints paths as files are written, or keeps them for the object of `numbers`."""

    def __init__(self, as_json: bool, out: TextIO) -> None:
        self.as_json, self.out = as_json, out
        self.files: list[str] = []

    def wrote(self, path: Path) -> None:
        """A file is there."""
        self.files.append(str(path))
        if not self.as_json:
            self.tell(str(path))

    def numbers(self, numbers: dict[str, Any]) -> None:
        """The numbers of the run; raises ValueError for NaN and infinity, which JSON does not have."""
        if self.as_json:
            self.tell(json.dumps(numbers | {"files": self.files}, allow_nan=False))

    def tell(self, line: str) -> None:
        """Prints a line; where nobody reads any more, as in `| head -1`, the work goes on and nothing is printed."""
        try:
            print(line, file=self.out, flush=True)
        except BrokenPipeError:
            with open(os.devnull, "w", encoding="utf-8") as nothing:
                os.dup2(nothing.fileno(), self.out.fileno())  # what is left in its buffer goes there


@contextlib.contextmanager
def command_output(as_json: bool) -> Iterator[CommandOutput]:
    """The answer of one command; within it, standard output is standard error where the answer is JSON."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield CommandOutput(as_json, out)


def say_loading() -> None:
    """Says on a terminal, without a line of its own, that the program and its models are loaded: it takes seconds."""
    if sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
        print("loading ...", end="\r", file=sys.stderr, flush=True)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """The same while something is checked and loaded; nothing of it stays."""
    say_loading()
    try:
        yield
    finally:
        if sys.stderr.isatty():
            print("\x1b[K", end="", file=sys.stderr, flush=True)
