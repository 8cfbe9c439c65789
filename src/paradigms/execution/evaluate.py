"""The model as a solver calls it: one batch of rows in, denoised estimates out, counted, timed and checked.

    D[m] = read(model(show(x[m]), t[n[m]], condition[b[m]]))        m = 0..M-1 rows of any samples, in one call

Where the device has no room for all rows they are evaluated in pieces, see `chunked.py`; on several devices at once,
see `sharded.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..noise import reserved
from ..system import Coefficients, System
from .answer_rounding import AnswerRounding
from .chunked import Chunked, Model
from .clock import Clock
from .compiled import Compiled
from .direction import check_direction, direction_key, is_unchecked
from .model_check import Assumptions, undisturbed
from .model_known import known_assumptions
from .sharded import Sharded
from .team_clock import TeamClock
from .torch_modes import in_caller_modes, surrounding_modes


class NonFiniteError(ArithmeticError):
    """The model returned NaN or infinity; the message names the step, the timestep and the sample."""


class WindowRows(NamedTuple):
    """What is known of a batch that is a window whose samples all stand at row `first`: its states (W, B, ...), which
    are a view of the batch, and the table's numbers of its rows."""

    states: Tensor
    first: int
    rows: Coefficients


class Doubt(NamedTuple):
    """An answer D (M, ...), or (W, B, ...) of a window, at rows n (M,) of samples b (M,) that may not be finite; its
    total () tells."""

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
        self.modes = surrounding_modes()
        self.assumed = Assumptions(self.source, inner, self.dtype, self.modes.casts)
        # Whether the direction of a velocity is yet to be checked.
        self.undirected = self.team is None and is_unchecked(system, known_assumptions(self.source))
        self.evaluations = self.calls = 0
        self.reserved: Sequence[torch.Generator] = ()
        self.doubts: list[Doubt] = []  # answers that have not been checked yet to be finite
        self.answers = AnswerRounding(self.source)
        mine = getattr(model, "agreed_clock", Clock)  # a model whose time is computed brings its own
        self.clock: Clock = TeamClock(self.team) if self.team else mine()

    @property
    def seconds(self) -> float:
        """Seconds in the model."""
        return self.clock.seconds

    @property
    def rounding(self) -> float:
        """Relative, of what the model answers in; 0 where that is no coarser than the states."""
        return self.answers.relative

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

    def ask(self, x: Tensor, n: Tensor, b: Tensor, window: WindowRows | None = None) -> Tensor:
        """The same, without waiting for the device: whether D is finite is a doubt until `look` is given its total.

        window: what is known of the batch where it is one; then D is (W, B, ...).
        """
        shown = self.system.denoiser.show(x, n)
        # A model may keep what it is given, and write into it later: then it is not to be the states themselves.
        given = shown.to(self.dtype or x.dtype, copy=shown is x)
        given = given.detach() if given.requires_grad else given
        alone = window is not None and window.states.shape[1] == 1
        t = self.system.t[window.first : window.first + len(x)] if window is not None and alone else self.system.t[n]
        condition = {k: v[b] for k, v in self.condition.items()}
        with reserved(self.reserved), in_caller_modes(self.modes):
            if self.undirected:
                self._check_direction(x[n == 0], b[n == 0])
            after = self._checked(given, t, condition) if self.assumed.left(given, condition) else []
            self.clock.enter(x)
            m: Tensor = self.model(given, t, **condition)
            self.clock.leave(x)
        self.reserved = ()
        for judge in after:
            judge(m)
        self.evaluations, self.calls = self.evaluations + len(x), self.calls + 1
        self.answers.note(m, x.dtype)
        if window is not None and shown is not x:
            window = window._replace(states=shown.view(window.states.shape))
        D = self._read(shown, m.to(x.dtype), n, window)
        self.doubts.append(Doubt(D.sum(), D, n, b))  # one pass; a sum is finite only if its terms are
        return D

    def _read(self, shown: Tensor, m: Tensor, n: Tensor, window: WindowRows | None) -> Tensor:
        """D of what the model was shown and said (M, ...)."""
        reader = self.system.denoiser
        if window is None:
            return reader.read(shown, m, n)
        states, _, rows = window
        if reader.threshold:  # of each state alone
            return reader.read(shown, m, n).view(states.shape)
        return reader.read_rows(states, m.reshape(states.shape), rows.p, rows.q, rows.gain)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Within it the model is called for a check: in no window's time, and the few rows say little of the room."""
        self.clock.pause()
        most = self.room.most
        with in_caller_modes(self.modes):
            yield
        self.room.most = most
        self.clock.resume()

    def _check_direction(self, x: Tensor, b: Tensor) -> None:
        """Looks once at whether a velocity points the way of the chain, from first states x (B, ...)."""
        self.undirected = False

        def ask(shown: Tensor, t: Tensor, samples: Tensor) -> Tensor:
            condition = {k: v[samples] for k, v in self.condition.items()}
            answer: Tensor = self.model(shown.to(self.dtype or x.dtype), t, **condition)
            return answer.clone()

        if len(x):
            with self._beside(), undisturbed(self.source, x.device):
                check_direction(self.system, ask, x, b)
            known_assumptions(self.source).add(direction_key(self.system))

    def check_again(self) -> None:
        """Refuses a model whose answers have changed since it was first asked; a mesh asks nothing."""
        if self.team is None:
            with self._beside():
                self.assumed.again()

    def _checked(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> list[Callable[[Tensor], None]]:
        """What judges the answers to x that are about to be asked for."""
        after: list[Callable[[Tensor], None]] = []
        if isinstance(self.model, Sharded):
            self.model.first = lambda: after.append(self.assumed.before(x, t, condition))
        else:
            with self._beside():
                after += [self.assumed.beside(x, t, condition), self.assumed.before(x, t, condition)]
        return after


def weights_dtype(model: Model) -> torch.dtype | None:
    """The dtype of the first floating weight of a module, None where there is none."""
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.dtype for p in weights if p.is_floating_point()), None)


def refuse_nonfinite(system: System, doubt: Doubt) -> None:
    """Raises `NonFiniteError` for an answer that is not finite; finite terms may overflow in the sum, which is none."""
    bad = (~torch.isfinite(doubt.D)).reshape(len(doubt.n), -1).any(1).nonzero().flatten()
    if len(bad):
        first = bad[doubt.n[bad].argmin()]
        row, t = int(doubt.n[first]), system.t[doubt.n[first]].item()
        raise NonFiniteError(
            f"model: its output is not finite at row {row} of {len(system)} (t = {t:g}), "
            f"sample {int(doubt.b[first])}; check the weights, or run the model in float32 or bfloat16"
        )
