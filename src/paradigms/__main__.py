"""The program `paradigms`, also `python -m paradigms`."""

from __future__ import annotations

import sys

from .cli import interrupt


def main() -> None:
    """Runs the command line, or says which extra it needs; Ctrl-C ends it in one line, see `interrupt.py`."""
    interrupt.begin()
    try:
        from .cli.app import app
    except ModuleNotFoundError as missing:
        sys.exit(f"paradigms: the command line needs {missing.name}; type: pip install 'paradigms-sampling[cli]'")
    app()


if __name__ == "__main__":
    main()
