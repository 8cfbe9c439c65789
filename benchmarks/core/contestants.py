"""Who takes part in the frontier: a method, its criterion and the tolerances that it is swept over.

Every method of the field stands here with the criterion it was published with, some with `FinalError` too.
ABLATIONS are the default less one piece each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paradigms.methods.anderson import Anderson
from paradigms.methods.base import AbstractMethod
from paradigms.methods.guess import Copy, Extrapolate
from paradigms.methods.newton import QuasiNewton
from paradigms.methods.parareal import Parareal
from paradigms.methods.picard import Picard
from paradigms.methods.spectral import Spectral
from paradigms.methods.speculation import Speculation
from paradigms.skeleton import Skeleton
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError
from paradigms.stopping.step_noise import StepNoise

from .problems import Cell

HALF_DECADES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)
LARGE = ("scenes", "latent")
ERRORS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # for a criterion that takes the error of the sample


@dataclass(frozen=True)
class Contestant:
    """A method and its criterion at a tolerance; `rule` is what its rules' names begin with, all if empty.

    promises: the tolerance is the relative error of the sample. law: exact in law, so that its path is another and its
    error against `sequential` says nothing. ours: drawn in front. light: not on LARGE models, to save hours.
    """

    name: str
    make: Callable[[float], tuple[AbstractMethod, AbstractStop]]
    tolerances: tuple[float, ...] = HALF_DECADES
    rule: str = ""
    promises: bool = False
    law: bool = False
    ours: bool = False
    light: bool = False

    def runs(self, cell: Cell) -> bool:
        """Whether it takes part in a cell."""
        return cell.rule.startswith(self.rule) and not (self.light and cell.problem in LARGE)

    def settings(self, batch: int) -> str:
        """What results depend on, as a string: results with another are measured anew."""
        method, stop = self.make(self.tolerances[0])
        how = f"(margin={stop.margin:g}, overlap={stop.overlap:g})" if isinstance(stop, FinalError) else ""
        told = f"{type(stop).__name__}{how} {', '.join(f'{t:g}' for t in self.tolerances)}"
        return f"{method!r}; {told}; {batch} samples"


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("ParaDiGMS", lambda t: (Picard(Copy()), StepNoise(t))),
    Contestant("Picard, extrapolated", lambda t: (Picard(Extrapolate()), StepNoise(t))),
    Contestant("ParaTAA", lambda t: (Anderson(variance=math.inf), StepNoise(t))),
    Contestant("Anderson", lambda t: (Anderson(), StepNoise(t))),
    Contestant("quasi-DEER", lambda t: (QuasiNewton(), StepNoise(t)), light=True),
    Contestant("parareal", lambda t: (Parareal(tolerance=t), StepNoise(t))),  # the tolerance is its own
    Contestant("autospeculation", lambda t: (Speculation(), StepNoise(t)), (0.0,), rule="DDPM", law=True),
    Contestant(
        "Picard, final error", lambda t: (Picard(Extrapolate()), FinalError(t)), ERRORS, promises=True, light=True
    ),
    Contestant("Anderson, final error", lambda t: (Anderson(), FinalError(t)), ERRORS, promises=True, light=True),
    Contestant("spectral secant", lambda t: (Spectral(), FinalError(t)), (*ERRORS, 3e-4), promises=True, ours=True),
    Contestant(
        "skeleton", lambda t: (Skeleton(pooled=False), FinalError(t)), (*ERRORS, 3e-4), promises=True, ours=True
    ),
)


def ablation(name: str, method: AbstractMethod, **how: Any) -> Contestant:
    """A variant of the default method, under the default criterion."""
    return Contestant(name, lambda t: (method, FinalError(t)), ERRORS, promises=True, **how)


ABLATIONS: tuple[Contestant, ...] = (
    Contestant("ParaDiGMS", lambda t: (Picard(Copy()), StepNoise(t))),
    ablation("spectral secant", Spectral(), ours=True),
    ablation("no Anderson step", Spectral(most=0)),
    ablation("nothing learned", Spectral(weight=1e9)),
    ablation("one carry for all levels", Spectral(width=1e9)),
    ablation("nothing forgotten", Spectral(forget=1.0)),
    ablation("no prior", Spectral(weight=1e-9)),
    ablation("copied guess", Spectral(Copy())),
    Contestant("the paper's criterion", lambda t: (Spectral(), StepNoise(t))),
)
