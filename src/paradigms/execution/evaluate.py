"""The model as a solver calls it: one batch of rows in, denoised estimates out, counted, timed and checked.

    D[m] = read(model(show(x[m]), t[n[m]], condition[b[m]]))        m = 0..M-1 rows of any samples, in one call

Where the device has no room for all rows they are evaluated in pieces, see `chunked.py`; on several devices at once,
see `sharded.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..noise import check_unmoved
from ..system import System
from .chunked import Chunked, Model
from .clock import Clock
from .compiled import Compiled
from .direction import applies, check_direction, direction_key
from .model_check import Assumptions, known_assumptions, undisturbed
from .model_modules import modules_of
from .model_output import grain
from .sharded import Sharded
from .team_clock import TeamClock
from .torch_modes import in_caller_modes, surrounding_modes


class NonFiniteError(ArithmeticError):
    """The model returned NaN or infinity; the message names the step, the timestep and the sample."""


class Doubt(NamedTuple):
    """An answer D (M, ...) at rows n (M,) of samples b (M,) that may not be finite; its total () tells."""

    total: Tensor
    D: Tensor
    n: Tensor
    b: Tensor


class Evaluator:
    """The denoiser that a solver calls. It runs `model` on rows, in the floating dtype of the model's own weights, and
    gives denoised estimates in the dtype of the states, without a graph.

    Attributes:
        condition: Tensors (B, ...), indexed by sample and passed to the model by name.
        source: The model that it was made from.
        team: The ranks that share its rows, None without a mesh.
        evaluations: Rows so far; those of the checks are not counted.
        calls: Calls of the model so far, likewise.
        answers: The dtype that the model last answered in.
        assumed: The checks of the model, see `model_check.py`.
        reserved: Generators that the model must not draw from; looked at in its first call.

    Raises:
        ValueError: The answer is no tensor like the states, see `model_output.py`, or the model fails a check.
        NonFiniteError: The answer is not finite.
        RankError: A rank of the team failed.
    """

    def __init__(self, model: Model, system: System, condition: Mapping[str, Tensor] | None = None) -> None:
        self.model: Sharded | Chunked = model if isinstance(model, Sharded) else Chunked(model)
        self.team = model.team if isinstance(model, Sharded) else None
        self.graph = model if isinstance(model, Compiled) else None  # what compiles the rounds of this model
        inner = self.model.model if isinstance(self.model, Sharded) else self.model
        self.source, self.room = inner.model, inner.room
        self.system, self.condition = system, dict(condition or {})
        self.dtype = weights_dtype(model)
        self.answers: torch.dtype | None = None
        self.modes = surrounding_modes()
        self.assumed = Assumptions(self.source, inner, self.dtype, self.modes.casts)
        # Whether the direction of a velocity is yet to be checked.
        self.directed = (
            self.team is None and applies(system) and direction_key(system) not in known_assumptions(self.source)
        )
        self.evaluations = self.calls = 0
        self.reserved: Sequence[torch.Generator] = ()
        self.doubts: list[Doubt] = []  # answers that have not been checked yet to be finite
        self.rounding = 0.0  # relative, of what the model answers in, where that is coarser than the states
        self.rounded: bool | None = None  # whether answers are of a coarser dtype than they come in, once it is known
        mine = getattr(model, "agreed_clock", Clock)  # a model whose time is computed brings its own
        self.clock: Clock = TeamClock(self.team) if self.team else mine()

    @property
    def seconds(self) -> float:
        """Seconds in the model."""
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
                refuse_nonfinite(self.system, doubt)

    def ask(self, x: Tensor, n: Tensor, b: Tensor) -> Tensor:
        """The same, without waiting for the device: whether D is finite is a doubt until `look` is given its total."""
        shown = self.system.denoiser.show(x, n)
        # A model may keep what it is given, and write into it later: then it is not to be the states themselves.
        given, t = shown.to(self.dtype or x.dtype, copy=shown is x).detach(), self.system.t[n]
        condition = {k: v[b] for k, v in self.condition.items()}
        reserved, self.reserved = self.reserved if not self.assumed.vouched else (), ()
        states = [g.get_state() for g in reserved]
        if self.directed:
            self._direct(x[n == 0], b[n == 0])
        with in_caller_modes(self.modes):
            after = self._checked(given, t, condition) if self.assumed.left(given, condition) else []
            self.clock.enter(x)
            m: Tensor = self.model(given, t, **condition)
            self.clock.leave(x)
        check_unmoved(reserved, states)
        for judge in after:
            judge(m)
        self.evaluations, self.calls, self.answers = self.evaluations + len(x), self.calls + 1, m.dtype
        if m.dtype != x.dtype:
            self.rounding = max(self.rounding, coarser_rounding(m.dtype, x.dtype))
        elif self.rounded is None:
            self._detect_rounding(m)
        D = self.system.denoiser.read(shown, m.to(x.dtype), n)
        self.doubts.append(Doubt(D.sum(), D, n, b))  # one pass; a sum is finite only if its terms are
        return D

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
            known_assumptions(self.source).add(direction_key(self.system))

    def check_again(self) -> None:
        """Refuses a model whose answers have changed since it was first asked; a mesh asks nothing."""
        if self.team is None:
            self.clock.pause()
            most = self.room.most
            with in_caller_modes(self.modes):
                self.assumed.again()
            self.room.most = most
            self.clock.resume()

    def _detect_rounding(self, m: Tensor) -> None:
        """Finds the rounding of a network inside a function, from answers m that are in the dtype of the states."""
        found = network_rounding(m, self.source)
        if found is not None:
            self.rounding, self.rounded = max(self.rounding, found), found > 0

    def _checked(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> list[Callable[[Tensor], None]]:
        """What judges the answers to x that are about to be asked for; what it asks beside is no window's time."""
        after: list[Callable[[Tensor], None]] = []

        def check() -> None:
            most = self.room.most
            after.append(self.assumed.before(x, t, condition))
            self.room.most = most  # three rows that have no room say little of how many have

        if isinstance(self.model, Sharded):
            self.model.first = check
        else:
            self.clock.pause()
            after.append(self.assumed.beside(x, t, condition))
            check()
            self.clock.resume()
        return after


def weights_dtype(model: Model) -> torch.dtype | None:
    """The dtype of the first floating weight of a module, None where there is none."""
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.dtype for p in weights if p.is_floating_point()), None)


def refuse_nonfinite(system: System, doubt: Doubt) -> None:
    """Raises `NonFiniteError` for an answer that is not finite; finite terms may overflow in the sum, which is none."""
    bad = (~torch.isfinite(doubt.D)).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        first = bad[doubt.n[bad].argmin()]
        row, t = int(doubt.n[first]), system.t[doubt.n[first]].item()
        raise NonFiniteError(
            f"model: its output is not finite at row {row} of {len(system)} (t = {t:g}), "
            f"sample {int(doubt.b[first])}; check the weights, or run the model in float32 or bfloat16"
        )


def network_rounding(m: Tensor, source: Model) -> float | None:
    """The relative rounding of a network inside `source`, from its answers m and the dtypes of its weights.

    0 if it is none beyond that of m's dtype, None if the answers do not tell.
    """
    found = grain(m)
    if found == 0 and m.dtype == torch.float64 and not isinstance(source, nn.Module):  # answers may be scaled
        inside = {p.dtype for each in modules_of(source) for p in each.parameters() if p.is_floating_point()}
        if inside and torch.float64 not in inside:
            return torch.finfo(torch.float32).eps
    return found


def coarser_rounding(given: torch.dtype, than: torch.dtype) -> float:
    """The relative rounding of numbers that are coarser than others, 0 where they are not."""
    eps = torch.finfo(given).eps
    return eps if eps > torch.finfo(than).eps else 0.0
