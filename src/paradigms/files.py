"""Files: written completely or not at all, under another name in the same folder and then renamed.

JSON and PNG are read with care, because a file in a folder may be cut short, empty, another program's, or made to break
its reader.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# The largest JSON file that is read, in bytes (256 MiB), so that a wrong file does not fill the memory. Chosen by hand.
LARGEST_JSON = 1 << 28


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` where the block ends well and removed where it does not."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    finally:
        partial.unlink(missing_ok=True)  # twice is as once: Ctrl-C may have come between


def probe_folder(path: Path) -> None:
    """Writes a file without a name, so that nothing is left whenever this ends; raises OSError where that cannot be."""
    with tempfile.TemporaryFile(dir=path):
        pass


def make_folder(path: Path) -> Path:
    """The folder, made if it has to be, once a file could be written there; raises ValueError where none can."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe_folder(path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValueError(f"--out {brief_name(path)} cannot be written to ({why}); type the path of a folder") from error
    return path


def check_file_path(path: Path, option: str) -> None:
    """Raises ValueError where no file can be written to a path, before any work is done."""
    needed = "type the path of a file in a folder that is there"
    if is_folder(path):
        raise ValueError(f"{option} is {brief_name(path)}, which is a folder; {needed}")
    if not is_folder(path.parent):
        raise ValueError(f"{option} is {brief_name(path)}, whose folder is not there; {needed}")
    try:
        probe_folder(path.parent)
        with suppress(FileNotFoundError):
            path.with_name(f".{path.name}.{os.getpid()}.partial").lstat()  # a name as long as what is written first
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValueError(f"{option} {brief_name(path)} cannot be written to ({why}); {needed}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON; raises ValueError for NaN and infinity, which JSON does not have."""
    text = json.dumps(content, allow_nan=False)
    with write_whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; raises ValueError for any other file, in one line that says why."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(
                f"{brief_name(path)} has {path.stat().st_size} bytes; needed: a JSON file of at most {LARGEST_JSON}"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValueError(f"{brief_name(path)} cannot be read ({why}); type the path of a JSON file") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{brief_name(path)} is no JSON (it is no text); type the path of a file that we wrote"
        ) from error
    return parse_object(text, brief_name(path))


def parse_object(text: str, name: str) -> dict[str, Any]:
    """The object that JSON `text` is; raises ValueError for any other, calling it `name`."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name} is no JSON of ours (it is nested too deep); type the path of another") from error
    except ValueError as error:
        raise ValueError(f"{name} is no JSON ({error}); type the path of a file that we wrote") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds a {type(found).__name__}; needed: an object, as in the files that we write")
    return found


def is_png(path: Path) -> bool:
    """Whether a file is a PNG from its first byte to its last: all its parts are there, with the right sums."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as found:
                found.verify()
        with path.open("rb") as file:
            file.seek(-12, os.SEEK_END)
            return file.read() == b"\0\0\0\0IEND\xaeB`\x82"
    except Exception:  # whatever a reader of pictures says to what is none
        return False


def is_file(path: str | Path) -> bool:
    """Whether it is a file; a name that no file can have is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Whether it is a folder; a name that no folder can have is none."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def one_line(text: object, most: int = 120) -> str:
    """A text that a file holds as a terminal may show it: one line, nothing that moves the cursor or colours."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def brief_name(name: object, most: int = 120) -> str:
    """A name in quotes, as an error shows it: without line breaks, its middle left out where it is long."""
    text = str(name)
    return repr(text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}")


def shipped_weights(kind: str) -> Path:
    """The folder of the shipped weights of a kind.

    Args:
        kind: "images", "policies" or "latent".
    Returns:
        The folder's path.
    Raises:
        ImportError: if the distribution is not installed; it says what to type.
    """
    try:
        from paradigms_models import FOLDER
    except ImportError as error:
        raise ImportError(
            "the weights of the shipped models are missing; needed: the distribution paradigms-models; "
            "type: pip install 'paradigms-sampling[models]', in a clone: pip install ./weights"
        ) from error
    return FOLDER / kind
