"""Ctrl-C at the k-th line: a KeyboardInterrupt raised by the interpreter's own tracing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paradigms

HOUSE = str(Path(paradigms.__file__).parent)
REWOUND = (
    "pipelines/stable_diffusion/pipeline_stable_diffusion.py"  # where the lines of the rewritten loop are told to be
)


def interrupted(call: Callable[[], Any], k: int, within: tuple[str, ...] = ()) -> tuple[BaseException | None, int]:
    """Makes a call with an interrupt at the k-th line of ours; what it raised, and how many lines had run.

    within: names of functions whose lines alone count; all if there are none.
    """
    count = 0

    def ours(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count == k:
                raise KeyboardInterrupt(f"line {frame.f_lineno} of {frame.f_code.co_filename}, {frame.f_code.co_name}")
        return ours

    def every(frame: Any, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if within and frame.f_code.co_name not in within:
            return None
        return ours if name.startswith(HOUSE) or name.endswith(REWOUND) else None

    before = sys.gettrace()
    sys.settrace(every)
    try:
        call()
    except BaseException as error:
        return error, count
    finally:
        sys.settrace(before)
    return None, count
