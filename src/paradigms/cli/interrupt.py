"""Ctrl-C ends the program with exit code 130 and one line, whenever it comes.

| while               | Ctrl-C                                                                                     |
| importing, checking | ends the process at once: an import that is torn apart would fail later, as another error  |
| working             | raises KeyboardInterrupt, so that half-written files are removed; `was_pressed` says so     |
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

LINE = "paradigms: stopped by hand"
# 128 + SIGINT, as shells report it.
STOPPED = 130
_state = {"came": False}


def is_program() -> bool:
    """Whether this process is `paradigms` or `python -m paradigms...`, and not one that imports the library."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # Python imports the packages around the module that it was told to run
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m").partition(".")[0] == "paradigms"
    return name in ("paradigms", "paradigms.exe", "paradigms-script.py")


def begin() -> None:
    """From here on Ctrl-C ends this process at once; nothing where somebody else decides what it does."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) in (
        signal.default_int_handler,
        interrupt_in_order,
    ):
        signal.signal(signal.SIGINT, exit_at_once)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Within it Ctrl-C raises KeyboardInterrupt, if `begin` was called."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is exit_at_once
    if mine:
        signal.signal(signal.SIGINT, interrupt_in_order)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, exit_at_once)


def was_pressed() -> bool:
    """Whether Ctrl-C was pressed, whatever became of its KeyboardInterrupt."""
    return _state["came"]


def interrupt_in_order(*_: Any) -> NoReturn:
    """Notes that Ctrl-C was pressed, and raises."""
    _state["came"] = True
    raise KeyboardInterrupt


def exit_at_once(*_: Any) -> NoReturn:
    """Ends this process, with its line unless it is one of many ranks and not the first."""
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            os.write(2, f"{LINE}\n".encode())
    os._exit(STOPPED)
