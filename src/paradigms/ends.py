"""How a command ends: 0 where all is well, 1 where the work fails, 2 for bad input, 130 where it is stopped by hand.

An error is one line on standard error that says what to type; under torchrun it is one rank's, and ends all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

ZOO = ("accelerate", "diffusers", "peft", "tokenizers", "transformers")  # what pipelines need


def fail(code: int, message: str, team: Any = None, error: BaseException | None = None) -> NoReturn:
    """Ends the program with one line on standard error, of one rank if there are many."""
    from .launch import speaks

    lines = message.splitlines() or [""]
    if speaks(team, error):
        typer.echo(f"paradigms: {lines[0]}", err=True)
    if team is None:
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a group that has lost a rank cannot be taken apart in order


def needs(missing: ModuleNotFoundError, team: Any = None) -> NoReturn:
    """Ends the program that lacks a library, with the extra that brings it."""
    extras = "cli,zoo" if str(missing.name).partition(".")[0] in ZOO else "cli"
    fail(2, f"this needs {missing.name}; type: pip install 'paradigms[{extras}]'", team)


def refused(check: Callable[[], Any], team: Any = None) -> Any:
    """What `check` returns, once it has ended well on every rank; its ValueError is bad input."""
    from .roll import RankError

    try:
        return check() if team is None else team.together(check)
    except ModuleNotFoundError as missing:
        needs(missing, team)
    except (ValueError, ImportError) as error:
        fail(2, str(error), team)
    except RankError as error:
        own = error.__cause__
        fail(2, str(own if isinstance(own, ValueError | ImportError) else error), team, error)


def attempted(work: Callable[[], Any], team: Any = None) -> Any:
    """What `work` returns; any failure in it is told in one line."""
    from .roll import RankError

    try:
        if team is None:
            return work()
        with team.told():
            return work()
    except KeyboardInterrupt:
        fail(130, "stopped by hand", team)
    except RankError as error:
        fail(1, str(error), team, error)
    except Exception as error:
        fail(1, f"{type(error).__name__}: {error}", team)
