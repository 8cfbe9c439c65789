"""torchvision of PyPI is of a CUDA build of torch and does not load beside a CPU's: where it does not, an empty one
stands in for it, for the libraries that ask for it need it for pictures that nobody here reads."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PARTS = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.utils",
         "torchvision.models", "torchvision.datasets", "torchvision.models.inception")  # fmt: skip


class Empty(ModuleType):
    """A module that has every name."""

    __path__: list[str] = []  # noqa: RUF012

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # other libraries ask whether it is there

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", type(name, (), {"__init__": lambda self, *_, **__: None}))


def ensure() -> None:
    """Makes `import torchvision` work, one way or the other."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules.update({name: Empty(name) for name in PARTS})
