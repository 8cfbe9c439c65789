"""Models made from models: one batch of rows in, denoised estimates out, counted, timed, checked.

In pieces where the device has no room for all rows, see `chunks.py`; on many devices at once, see `shard.py`.

D[m] = read(model(show(x[m]), t[n[m]], condition[b[m]]))        m = 0..M-1 rows of any samples, in one call
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..system import System
from .chunked import Chunked, Model
from .clock import Clock
from .compiled import Compiled
from .direction import applies, check_direction
from .model_check import Assumptions, known_assumptions, undisturbed
from .model_modules import modules_of
from .model_output import grain
from .sharded import Sharded
from .team_clock import TeamClock
from .torch_modes import in_caller_modes, surrounding_modes


class NonFiniteError(ArithmeticError):
    """The model returned NaN or infinity; the message names the step, the timestep and the sample."""


class Doubt(NamedTuple):
    """The total () of an answer D (M, ...) at rows n (M,) of samples b (M,), which tells whether it is finite."""

    total: Tensor
    D: Tensor
    n: Tensor
    b: Tensor


class Evaluator:
    """The denoiser a solver calls: runs `model` on rows, and keeps `evaluations` (rows), `calls` and a `clock`.

    condition: tensors (B, ...), indexed by sample and passed to the model by name. A module's own floating dtype is
    what it is given; outputs come back in the state's, without a graph. source: the model that it was made
    from; team: the ranks that share its rows. answers: the dtype that it last answered in. assumed: what was asked of
    it beside, see `assume.py`, in no count. Raises ValueError for an answer that is none, see `answer.py`, for a model
    that breaks what is assumed of it, `NonFiniteError`, and RankError where a rank of a team fails.
    """

    def __init__(self, model: Model, system: System, condition: Mapping[str, Tensor] | None = None) -> None:
        self.model: Sharded | Chunked = model if isinstance(model, Sharded) else Chunked(model)
        self.team = model.team if isinstance(model, Sharded) else None
        self.graph = model if isinstance(model, Compiled) else None  # what compiles the rounds of this model
        inner = self.model.model if isinstance(self.model, Sharded) else self.model
        self.source, self.room = inner.model, inner.room
        self.system, self.condition = system, dict(condition or {})
        parameter = (
            next((p for p in model.parameters() if p.is_floating_point()), None)
            if isinstance(model, nn.Module)
            else None
        )
        self.dtype = None if parameter is None else parameter.dtype
        self.answers: torch.dtype | None = None
        self.modes = surrounding_modes()
        self.assumed = Assumptions(self.source, inner, self.dtype, self.modes.casts)
        self.directed = self.team is None and applies(system) and self._way() not in known_assumptions(self.source)
        self.evaluations = self.calls = 0
        self.doubts: list[Doubt] = []  # answers of which nobody has looked yet whether they are finite
        self.rounding = 0.0  # relative, of what the model answers in, where that is coarser than the states
        self.rounded: bool | None = None  # whether answers are of a coarser dtype than they come in, once it is known
        mine = getattr(model, "agreed_clock", Clock)  # a model whose time is computed brings its own
        self.clock: Clock = TeamClock(self.team) if self.team else mine()

    @property
    def seconds(self) -> float:
        """In the model."""
        return self.clock.inside

    @property
    def chunk(self) -> int | None:
        """How many rows the device has room for, None where it had room for all."""
        return self.room.most

    def part(self, samples: Tensor) -> Evaluator:
        """The same for some samples (M,) alone, with counts of its own and the same clock."""
        part = copy(self)
        part.condition = {k: v[samples.to(v.device)] for k, v in self.condition.items()}
        part.evaluations, part.calls, part.doubts = 0, 0, []
        return part

    def __call__(self, x: Tensor, n: Tensor, b: Tensor) -> Tensor:
        """D (M, ...) of states x (M, ...) at rows n (M,) of samples b (M,)."""
        D = self.ask(x, n, b)
        self.look([doubt.total.item() for doubt in self.doubts])
        return D

    def look(self, totals: Sequence[float]) -> None:
        """Refuses answers whose numbers do not add up to a finite one, by the `total` of each of the doubts."""
        doubts, self.doubts = self.doubts, []
        for doubt, total in zip(doubts, totals, strict=True):
            if not math.isfinite(total):
                self._refuse(doubt.D, doubt.n, doubt.b)

    def ask(self, x: Tensor, n: Tensor, b: Tensor) -> Tensor:
        """The same, without waiting for the device: whether D is finite is a doubt, until `look` is told."""
        shown = self.system.denoiser.show(x, n)
        given, t = shown.to(self.dtype or x.dtype).detach(), self.system.t[n]
        condition = {k: v[b] for k, v in self.condition.items()}
        if self.directed:
            self._direct(x[n == 0], b[n == 0])
        with in_caller_modes(self.modes):
            after = self._checked(given, t, condition) if self.assumed.left(given, condition) else []
            self.clock.enter(x)
            m: Tensor = self.model(given, t, **condition)
            self.clock.leave(x)
        for judge in after:
            judge(m)
        self.evaluations, self.calls, self.answers = self.evaluations + len(x), self.calls + 1, m.dtype
        if m.dtype != x.dtype:
            self.rounding = max(self.rounding, coarser_rounding(m.dtype, x.dtype))
        elif self.rounded is None:
            self._round(m)
        D = self.system.denoiser.read(shown, m.to(x.dtype), n)
        self.doubts.append(Doubt(D.sum(), D, n, b))  # one pass; a sum is finite only if its terms are
        return D

    def _way(self) -> tuple[object, ...]:
        """What a direction is remembered by: the units of time that the model is given."""
        t = self.system.t
        return "direction", self.system.denoiser.prediction, float(t[0]), float(t[-1])

    def _direct(self, x: Tensor, b: Tensor) -> None:
        """Looks once at whether a velocity points the way of the chain, from first states x (B, ...)."""
        self.directed = False

        def ask(shown: Tensor, t: Tensor, samples: Tensor) -> Tensor:
            condition = {k: v[samples] for k, v in self.condition.items()}
            answer: Tensor = self.model(shown.to(self.dtype or x.dtype), t, **condition)
            return answer.clone()

        if len(x):
            self.clock.pause()
            with in_caller_modes(self.modes), undisturbed(self.source, x.device):
                check_direction(self.system, ask, x, b)
            self.clock.resume()
            known_assumptions(self.source).add(self._way())

    def check_again(self) -> None:
        """Refuses a model whose answers have changed since it was first asked; a mesh asks nothing."""
        if self.team is None:
            self.clock.pause()
            most = self.room.most
            with in_caller_modes(self.modes):
                self.assumed.again()
            self.room.most = most
            self.clock.resume()

    def _round(self, m: Tensor) -> None:
        """Looks for the rounding of a network within a function, in its answers and in the dtype of its weights."""
        found = grain(m)
        if found == 0 and not isinstance(self.source, nn.Module):  # what it says may be scaled afterwards
            inside = (p.dtype for each in modules_of(self.source) for p in each.parameters() if p.is_floating_point())
            if m.dtype == torch.float64 and torch.float64 not in (dtypes := set(inside)) and dtypes:
                found = torch.finfo(torch.float32).eps
        if found is not None:
            self.rounding, self.rounded = max(self.rounding, found), found > 0

    def _checked(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> list[Callable[[Tensor], None]]:
        """What judges the answers to x that are about to be asked for; what it asks beside is no window's time."""
        after: list[Callable[[Tensor], None]] = []

        def check() -> None:
            after.append(self.assumed.before(x, t, condition))

        if isinstance(self.model, Sharded):
            self.model.first = check
        else:
            self.clock.pause()
            most = self.room.most
            check()
            self.room.most = most  # three rows that have no room say little of how many have
            self.clock.resume()
        return after

    def _refuse(self, D: Tensor, n: Tensor, b: Tensor) -> None:
        bad = (~torch.isfinite(D)).flatten(1).any(1).nonzero().flatten()
        if len(bad):  # else finite terms overflowed in the sum, which is no fault
            first = bad[n[bad].argmin()]
            row, t = int(n[first]), self.system.t[n[first]].item()
            raise NonFiniteError(
                f"model: its output is not finite at row {row} of {len(self.system)} (t = {t:g}), "
                f"sample {int(b[first])}; check the weights, or run the model in float32 or bfloat16"
            )


def coarser_rounding(given: torch.dtype, than: torch.dtype) -> float:
    """The relative rounding of numbers that are coarser than others, 0 where they are not."""
    eps = torch.finfo(given).eps
    return eps if eps > torch.finfo(than).eps else 0.0
