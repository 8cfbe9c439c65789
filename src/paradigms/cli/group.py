"""The command group: it tells every error of usage in one line, and exits with the code of `errors.py`."""

from __future__ import annotations

import sys
from typing import Any, cast

import typer
from typer.core import TyperGroup

from . import interrupt
from .errors import describe_error, exit_if_stopped, fail, missing_dependency

Refusal = cast(
    type[Exception], typer.BadParameter.__mro__[2]
)  # ClickException, which typer exports under no stable name


class Group(TyperGroup):
    """The commands, with every error of usage told in one line."""

    def main(self, *args: Any, **how: Any) -> Any:
        """Runs a command; exits with its code."""
        try:
            code = super().main(*args, **how | {"standalone_mode": False})
        except Refusal as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "paradigms"
            fail(2, f"{' '.join(error.format_message().split())}; type: {command} --help")  # type: ignore[attr-defined]
        except ModuleNotFoundError as missing:
            missing_dependency(missing)
        except typer.Abort:
            fail(interrupt.STOPPED, "stopped by hand")
        except Exception as error:  # what nobody has foreseen
            exit_if_stopped()
            fail(1, describe_error(error))
        sys.exit(code if isinstance(code, int) else 0)
