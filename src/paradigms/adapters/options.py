"""The options of `parallelize`, the same for a pipeline and for a policy, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..checks.solver import check_method, check_tolerance
from ..methods.base import AbstractMethod
from ..methods.spectral import Spectral
from ..stopping.base import AbstractStop
from ..stopping.final_error import FinalError
from ..validate import check_flag
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
        for name in ("batched", "warm_start", "compare"):
            check_flag(name, getattr(self, name))

    def solver(self, tolerance: float) -> tuple[AbstractMethod, AbstractStop]:
        """The method and the stopping rule, whose tolerance is this one if none was given."""
        given = tolerance if self.tolerance is None else self.tolerance
        return self.method or Spectral(), given if isinstance(given, AbstractStop) else FinalError(given)
