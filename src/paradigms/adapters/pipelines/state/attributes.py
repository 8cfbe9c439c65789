"""The attributes of classes and modules that may hold a loop's state: read, and put back by name.

Names of Python's own are none: `__doc__` and the like, and the account of an abstract class, `_abc_impl`.
"""

from __future__ import annotations

import types
from typing import Any

from torch import nn

CODE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, classmethod, staticmethod)


def is_pythons(name: str) -> bool:
    """Whether a name of a class or a module is Python's own."""
    return (name[:2] == "__" and name[-2:] == "__") or name == "_abc_impl"


def plain(v: Any) -> bool:
    """Whether what a class or a module names can be a state: no function, class or other part of a program."""
    return not isinstance(v, CODE) and not hasattr(type(v), "__get__") and not isinstance(v, nn.Module)


class Attributes:
    """The attributes of a class that can be a state."""

    def __init__(self, of: type) -> None:
        self.of = of

    def read(self) -> dict[str, Any]:
        """All but functions and what Python itself keeps there."""
        return {k: v for k, v in vars(self.of).items() if plain(v) and not is_pythons(k)}

    def write(self, was: dict[str, Any]) -> None:
        """Sets those that are others now, and removes those that were none."""
        for name, value in self.read().items():
            if name not in was:
                delattr(self.of, name)
            elif was[name] is not value:
                setattr(self.of, name, was[name])
        for name in was.keys() - vars(self.of).keys():
            setattr(self.of, name, was[name])


class Globals(Attributes):
    """The global variables of a module that can be a state; what they hold is found where code names it."""

    def __init__(self, of: dict[str, Any]) -> None:
        self.names = of

    def read(self) -> dict[str, Any]:
        """All but functions, classes, modules and what Python itself keeps there."""
        return {k: v for k, v in self.names.items() if plain(v) and not is_pythons(k)}

    def write(self, was: dict[str, Any]) -> None:
        """Sets those that are others now, and removes those that were none."""
        for name, value in self.read().items():
            if name not in was:
                del self.names[name]
            elif was[name] is not value:
                self.names[name] = was[name]
        for name in was.keys() - self.names.keys():
            self.names[name] = was[name]
