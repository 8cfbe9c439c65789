"""Files appear whole or not at all: written under another name in the same folder, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` where the block ends well and removed where it does not."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def folder(path: Path) -> Path:
    """The folder, made if it has to be, once a file could be written there; raises ValueError where none can."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}.partial"
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValueError(f"--out {str(path)!r} cannot be written to ({why}); type the path of a folder") from error
    return path


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON; raises ValueError for NaN and infinity, which JSON does not have."""
    text = json.dumps(content, allow_nan=False)
    with whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
