"""How a command ends: 0 where all is well, 1 where the work fails, 2 for bad input, 130 where it is stopped by hand.

An error is one line on standard error that says what to type; under torchrun it is one rank's, and ends all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from . import interrupt
from .output import loading

ZOO = ("accelerate", "diffusers", "peft", "tokenizers", "transformers")  # what pipelines need
WEB = ("starlette", "uvicorn")  # what the page needs
# Characters of a line of error. Chosen by hand.
LONGEST = 2000


def fail(code: int, message: str, team: Any = None, error: BaseException | None = None) -> NoReturn:
    """Ends the program with one line on standard error, of one rank if there are many."""
    from .launch import is_speaker, mark_reported

    line = (message.splitlines() or [""])[0]
    line = line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    if is_speaker(team, error):
        typer.echo(f"paradigms: {line}", err=True)
    mark_reported()
    if team is None:
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a group that has lost a rank cannot be taken apart in order


def missing_dependency(missing: ModuleNotFoundError, team: Any = None) -> NoReturn:
    """Ends the program that lacks a library, with the extra that brings it."""
    name = str(missing.name).partition(".")[0]
    extras = "cli,zoo" if name in ZOO else "web" if name in WEB else "cli"
    fail(2, f"this needs {name}; type: pip install 'paradigms-sampling[{extras}]'", team)


def validate_or_exit(check: Callable[[], Any], team: Any = None) -> Any:
    """What `check` returns, once it has ended well on every rank; whatever it raises is bad input."""
    from ..distributed.failures import RankError

    try:
        with loading():
            return check() if team is None else team.together(check)
    except KeyboardInterrupt:
        fail(interrupt.STOPPED, "stopped by hand", team)
    except ModuleNotFoundError as missing:
        exit_if_stopped(team)
        missing_dependency(missing, team)
    except (ValueError, ImportError) as error:
        exit_if_stopped(team)
        fail(2, str(error), team)
    except RankError as error:
        own = error.__cause__
        fail(2, str(own if isinstance(own, ValueError | ImportError) else error), team, error)
    except Exception as error:  # what no check has foreseen
        exit_if_stopped(team)
        fail(2, describe_error(error), team)


def run_or_exit(work: Callable[[], Any], team: Any = None) -> Any:
    """What `work` returns; any failure in it is told in one line."""
    from ..distributed.failures import RankError

    try:
        with interrupt.working():
            if team is None:
                return work()
            with team.told():
                return work()
    except KeyboardInterrupt:
        fail(interrupt.STOPPED, "stopped by hand", team)
    except RankError as error:
        exit_if_stopped(team)
        fail(1, str(error), team, error)
    except Exception as error:
        exit_if_stopped(team)
        fail(1, describe_error(error), team)


def exit_if_stopped(team: Any = None) -> None:
    """Ends the program where an error is only what became of Ctrl-C."""
    if interrupt.was_pressed():
        fail(interrupt.STOPPED, "stopped by hand", team)


def describe_error(error: BaseException) -> str:
    """An error with its kind."""
    return f"{type(error).__name__}: {error}"
