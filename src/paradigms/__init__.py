"""Parallel-in-time sampling of diffusion models: many denoising steps at once, iterated until they agree."""

import importlib
from typing import TYPE_CHECKING, Any

from .cli import interrupt

__version__ = "0.1.0"

_program = interrupt.is_program()
if _program:  # its help, its version and completions of a shell need no torch, which takes seconds
    interrupt.begin()  # Ctrl-C while the imports of its commands take theirs is one line too
else:
    from .public import *  # noqa: F403
    from .public import __all__ as __all__


if not TYPE_CHECKING:  # a checker would take any name for a public one

    def __getattr__(name: str) -> Any:
        """A public name, in the program, where the names are imported once one is asked for."""
        if _program and (name == "__all__" or not name.startswith("__")):
            public = importlib.import_module(".public", __name__)  # `from . import` would ask here for it
            globals().update({k: getattr(public, k) for k in ("__all__", *public.__all__)})
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]


def __dir__() -> list[str]:
    """The public names alone: folders of this package are not part of the interface."""
    return [*importlib.import_module(".public", __name__).__all__, "__version__"]
