"""What was found out of a model, and where it is remembered: it dies with the model, and holds for one mode of it.

asked again    where the mode, the shapes, the dtype or the device are others, where a batch is longer than any
               before, and in calls 4, 16, 64 and so on of those that may use windows, because a state may begin late
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from .model_key import memory
from .model_mode import mode_of
from .torch_modes import Casts

# A model is asked again in each call whose number is a power of this. Chosen by hand.
AGAIN_EVERY = 4

# A batch of this many rows or fewer is not asked for beside others: those of three rows are. Chosen by hand.
SHORT_BATCH = 3

_known: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


class ModelRecord:
    """What is known of one model, whose modules are `inside`, and what is not."""

    def __init__(self, model: Any, inside: list[nn.Module], casts: Casts) -> None:
        self.model, self.mode = model, (mode_of(model, inside), casts)
        self.known = known_assumptions(model)
        self.due = False  # that all is to be asked again
        self.longest: float = 0  # the most rows of a batch with several timesteps that was asked for beside others
        self.open: dict[str, Any] | None = None  # what is not known yet, and by which key it will be
        self.form: Hashable = None  # of the states that it is asked

    @property
    def vouched(self) -> bool:
        """Whether the model vouches for itself, and nothing is asked of it."""
        return isinstance(self.known, Everything)

    def left(self, kinds: list[str], steps: bool, x: Tensor, condition: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is to be checked yet of some kinds, of states like x (M, ...); steps: no window will come."""
        if self.open is None:
            shapes = (x.shape[1:], *sorted((k, v.shape[1:]) for k, v in condition.items()))
            self.form = self.mode, shapes, x.dtype, x.device
            keys = {what: (what, self.form) for what in kinds}
            self.open = {what: key for what, key in keys.items() if self.due or key not in self.where(what)}
            known = 0 if self.due else self.kept("lengths", dict).get(self.form, 0)
            self.longest = math.inf if self.vouched or steps else known
        return self.open | ({"length": None} if len(x) > max(self.longest, SHORT_BATCH) else {})

    def begin_call(self) -> None:
        """Counts a call of a solver that may use windows: in some all that was found out is asked again."""
        calls = self.kept("calls", lambda: [0])
        calls[0] += 1
        self.due = calls[0] > 1 and AGAIN_EVERY ** round(math.log(calls[0], AGAIN_EVERY)) == calls[0]

    def kept(self, what: str, make: Callable[[], Any]) -> Any:
        """What is remembered of all functions that are alike, by a name."""
        kept, alike = memory(self.model)
        return kept.setdefault((what, alike), make())

    def where(self, what: str) -> set[Any]:
        """Where it is remembered: with the model, or, of what changes no sample, with all functions that are alike."""
        if isinstance(self.known, Everything):
            return self.known
        return self.kept("assumed", set) if what == "again" else self.known  # type: ignore[no-any-return]

    def found(self, *kinds: str) -> None:
        """They hold, for this model and others of its kind of call."""
        for what in kinds:
            if self.open and what in self.open:
                self.where(what).add(self.open.pop(what))

    def found_length(self, rows: int) -> None:
        """Rows are each on their own in a batch of so many."""
        self.longest = self.kept("lengths", dict)[self.form] = rows

    def count(self, rows: int) -> None:
        """Counts rows that the checks ask beside those of a chain."""
        self.kept("beside", lambda: [0])[0] += rows


class Everything(set[Any]):
    """What is known of a model that vouches for itself by a class attribute `trusted`: nothing is left to be asked."""

    def __contains__(self, what: object) -> bool:
        return True


def rows_beside(model: Any) -> int:
    """The rows that the checks have asked of a model so far, which no `Solution` counts."""
    kept, alike = memory(model)
    return int(kept.get(("beside", alike), [0])[0])


def known_assumptions(model: Any) -> set[Any]:
    """What is known of a model; of a bound method, of its object. It dies with the model."""
    of = model.__self__ if isinstance(model, MethodType) else model
    if getattr(type(of), "trusted", False):
        return Everything()
    try:
        return _known.setdefault(of, set())
    except TypeError:  # it cannot be remembered
        return set()
