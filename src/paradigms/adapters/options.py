"""How a pipeline or a policy is to sample in parallel: what the user asked for, the same for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..methods.base import AbstractMethod
from ..methods.spectral import Spectral
from ..stopping.base import AbstractStop
from ..stopping.final_error import FinalError
from ..window.controller import WindowController


@dataclass(frozen=True)
class Options:
    """The arguments of `parallelize`; None stands for a default that depends on what is made parallel.

    method: how states are corrected. tolerance: relative error of latents or actions, or a stopping rule. window: steps
    evaluated at once, or "auto". batched: for pipelines, False calls their networks for one step at a time. warm_start:
    for policies, begin from the last chunk of actions. mesh: ranks that share each batch. compare: also make each call
    step by step.
    """

    method: AbstractMethod | None = None
    tolerance: float | AbstractStop | None = None
    window: int | str | WindowController = "auto"
    batched: bool = True
    warm_start: bool = False
    mesh: Any = None
    compare: bool = False

    def check(self) -> None:
        """Raises ValueError for what is no method, no tolerance or no switch, with what to type."""
        check_method(self.method)
        if self.tolerance is not None:
            check_tolerance(self.tolerance)
        for name in ("batched", "warm_start"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name}: given {value!r}; needed: True or False")

    def solver(self, tolerance: float) -> tuple[AbstractMethod, AbstractStop]:
        """The method and the stopping rule, whose tolerance is this one if none was given."""
        given = tolerance if self.tolerance is None else self.tolerance
        return self.method or Spectral(), given if isinstance(given, AbstractStop) else FinalError(given)


def check_method(method: Any) -> None:
    """Raises ValueError for what is no method, with what to type."""
    if method is None or isinstance(method, AbstractMethod):
        return
    needed = "a method such as paradigms.Spectral(), or none"
    if isinstance(method, int | float | AbstractStop):
        needed += f"; for a tolerance type tolerance={method!r}"
    elif isinstance(method, type) and issubclass(method, AbstractMethod):
        needed += f"; type {method.__name__}()"
    raise ValueError(f"method: given {method!r}; needed: {needed}")


def check_tolerance(tolerance: Any) -> None:
    """Raises ValueError for what is no tolerance."""
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool) and 0 <= tolerance < float("inf")
    if not (number or isinstance(tolerance, AbstractStop)):
        needed = "a relative error such as 0.003, 0 for none, or a criterion"
        raise ValueError(f"tolerance: given {tolerance!r}; needed: {needed}")
