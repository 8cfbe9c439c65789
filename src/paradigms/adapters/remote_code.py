"""Refuses code that comes with a pipeline's folder, unless `--trust-remote-code` was typed.

Some versions of diffusers run such code without being asked (0.31 to 0.37 do):

| what names code                                      | example                                     | runs           |
| model_index.json: a class that is a list             | "_class_name": ["pipeline", "Mine"]         | pipeline.py    |
| model_index.json: a pipeline of one's own            | "custom_pipeline": "mine"; or a None.py     | mine.py        |
| model_index.json: a component from any other library | "unet": ["unet_of_mine", "Mine"]            | unet/unet_...  |
| a library's name that a file beside it takes         | "unet": ["diffusers", "X"]; a diffusers.py  | unet/diffusers |
| any configuration: classes for transformers' Auto    | "auto_map": {"AutoModel": "model.Mine"}     | model.py       |

`check_folder` reads the folder and those of pipelines within it before anything is loaded; `remote_code_refused` shuts
the doors by which diffusers and transformers load code, for what a folder may name that is not in it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from ..files import brief_name, read_json

ASK = "read that code, and if you trust it type --trust-remote-code"
LIBRARIES = ("diffusers", "transformers", "onnxruntime.training")  # what components come from
DOOR = "get_cached_module_file"  # every file of code is fetched by it, before anything in it runs
HOUSES = ("diffusers.utils.dynamic_modules_utils", "transformers.dynamic_module_utils")
# At most this many folders are looked into. Chosen by hand.
MOST = 10_000


class UntrustedError(ValueError):
    """A folder or a hub names code of its own, and nobody has said that it may run."""


def check_folder(folder: str | Path) -> None:
    """Raises UntrustedError where a folder names code of its own, ValueError where it cannot be read."""
    for here, _, files in folders_within(Path(folder)):
        for name in sorted(files):
            if not name.endswith(("config.json", "model_index.json")):
                continue
            try:
                content = read_json(here / name)
            except ValueError as error:
                raise ValueError(f"folder {brief_name(folder)} cannot be loaded: {error}") from error
            if name.endswith("model_index.json"):
                check_index(here, name, content)
            if mapped := values_under(content, "auto_map"):
                refuse_code(here / name, f"auto_map: {brief_name(mapped, 60)}")


def check_index(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Raises UntrustedError where a pipeline's index names code of the folder."""
    where = folder / name
    if not isinstance(content.get("_class_name", ""), str):
        refuse_code(where, f"_class_name: {brief_name(content['_class_name'], 60)}")
    if content.get("custom_pipeline") is not None:
        refuse_code(where, f"custom_pipeline: {brief_name(content['custom_pipeline'], 60)}")
    if (folder / "None.py").exists():  # what the name of no custom pipeline makes
        refuse_code(folder / "None.py", "None.py")
    for part, entry in content.items():
        library = entry[0] if isinstance(entry, list) and entry else None
        if not isinstance(library, str):
            continue
        own = os.path.exists(os.path.join(folder, part, f"{library}.py"))
        if own or (len(entry) == 2 and library not in LIBRARIES and not is_diffusers_class(library)):
            refuse_code(where, f"{part}: {brief_name(entry, 60)}")


def is_diffusers_class(library: str) -> bool:
    """Whether diffusers has a folder of pipelines of that name, whose classes are its own."""
    places = getattr(importlib.util.find_spec("diffusers"), "submodule_search_locations", None) or ()
    return library.isidentifier() and any((Path(place) / "pipelines" / library).is_dir() for place in places)


def values_under(content: Any, key: str) -> Any:
    """What stands under a key at any depth of a JSON value, None where it does not."""
    rest = [content]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if value.get(key):
                return value[key]
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return None


def folders_within(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """A folder and those within it, through links too, each once; raises ValueError where there are too many."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if os.path.realpath(os.path.join(here, f)) not in seen]
        seen.add(os.path.realpath(here))
        if len(seen) > MOST:
            raise ValueError(
                f"{brief_name(folder)} holds more than {MOST} folders; type the path of a pipeline's folder"
            )
        yield Path(here), folders, files


def refuse_code(where: Path, what: str) -> NoReturn:
    """Raises the error of code that was not asked for."""
    raise UntrustedError(f"{brief_name(where)} names code of its own ({what}), which is not run unasked; {ASK}")


@contextlib.contextmanager
def remote_code_refused() -> Iterator[None]:
    """Within it neither diffusers nor transformers loads code of a folder or a hub: they raise UntrustedError."""

    def shut(source: Any, file: Any = "", *_: Any, **__: Any) -> NoReturn:
        refuse_code(Path(str(source)), str(file))

    with contextlib.ExitStack() as doors:
        for module in HOUSES:
            try:
                doors.enter_context(mock.patch.object(importlib.import_module(module), DOOR, shut))
            except ImportError:  # without that library nothing goes through its door
                continue
        yield
