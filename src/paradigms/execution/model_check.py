"""What a solver assumes of a model f, checked once for each model and shape of a state:

    f([a, b, a])[1] = f([c, b, c'])[1]      a row's answer depends on that row alone, and is the same at any time
    f([a, b, a])[0] = f([a, b, a])[2]       ... and at any place in a batch
    f(x)[kept]      = f(others and kept)    ... beside others in a batch of x's own length, see `model_rows.py`
    f(x)[row]       = f([a, b, a])[row]     ... and in a batch of any length, up to the rounding of other kernels
    f([a', b, a''])[1] = f([a, b, a])[1]    ... and beside other states at the same timesteps
    f([a, b, a])    = f([a, b, a])          ... and after other calls: the model keeps no state from call to call, and
                                            has begun none by the end of the first call of `sample`
    x afterwards    = x                     the model does not change its input

a, b and c are rows of the first batch that has several timesteps; the states of c are others. If windows are allowed
but the chain begins with steps, the first step is checked too, once for all functions that are alike (`model_key.py`).
What was found holds while the model's mode is the same (`model_mode.py`), for batches that are no longer, and is asked
again in calls 4, 16, 64 and so on, because a state may begin late; calls that only step are not counted. Otherwise
stepping checks nothing, unless a function may call a module that should not be in training mode. A model that is itself
such a module is refused without a call.
The rows of the checks are counted nowhere, their seconds are in no time that a window is judged by, and torch's random
streams are put back to where they were.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..validate import refusal
from .chunked import changed
from .model_differences import (
    LEAST_ANSWER,
    mixed_rows,
    relative_difference,
    rounding_differences,
    varying_answers,
)
from .model_known import ModelRecord
from .model_mode import unfit_calls
from .model_modules import modules_of, unfit_module
from .model_rows import OTHER_STATES, beside_others, largest_difference
from .torch_modes import Casts

# The rows that a model is asked for once: four calls of three rows. Two more where two states had the same answer, and
# a batch once more that has more rows than any before and several timesteps.
ROWS = 12
# The rows that it is asked for again at the end of that call of `sample`, likewise.
LATER = 9
# Different states of up to this many numbers may well have the same answer. Chosen by hand.
FEW_NUMBERS = 4
# The states of three rows are multiplied by these: as they are, or the outer ones made others.
AS_THEY_ARE, OTHERS = (1.0, 1.0, 1.0), (OTHER_STATES[0], 1.0, OTHER_STATES[1])


class RowAsker:
    """Asks a model for rows that are not the chain's: `ask` as `Assumptions` has it, its record and its modules."""

    def __init__(self, ask: Callable[..., Tensor], record: ModelRecord, inside: Sequence[nn.Module]) -> None:
        self.ask, self.record, self.inside = ask, record, inside

    def fit(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], rows: list[int]) -> Tensor:
        """The answers to some rows. Refuses a model that calls a module which is unfit for batches."""
        with unfit_calls(self.inside) as unfit:
            answers = self.asked(x, t, condition, rows)
        if unfit:
            needed = "one that says the same of a row whatever the batch"
            raise refusal("model", f"one that calls {unfit[0]}", needed, ".eval() of it")
        return answers

    def asked(
        self,
        x: Tensor,
        t: Tensor,
        condition: Mapping[str, Tensor],
        rows: list[int],
        times: Sequence[float] = AS_THEY_ARE,
    ) -> Tensor:
        """The answers to some rows, their states so many times theirs."""
        some = x[rows] * x.new_tensor(times).reshape(len(rows), *(1,) * (x.ndim - 1))
        return self.answers(some, t[rows], **{k: v[rows] for k, v in condition.items()})

    def answers(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The answers to rows that are not the chain's; copied, for a model may reuse a buffer."""
        self.record.count(len(x))
        try:
            return self.ask(x, t, **condition).clone()
        except Exception as error:
            if hasattr(error, "add_note") and not str(error).startswith("model:"):  # Python 3.11
                needed = "needed: one that takes them, each with its own t; type window=1 if it takes one t alone"
                error.add_note(f"model: given x {tuple(x.shape)}, the rows of several steps; {needed}")
            raise


class Assumptions:
    """What is assumed of one model, as far as it is not known.

    ask: the model, called with x (M, ...), t (M,), **condition. Raises ValueError where an assumption is wrong.
    """

    def __init__(self, model: Any, ask: Callable[..., Tensor], dtype: torch.dtype | None, casts: Casts) -> None:
        self.model, self.inside = model, modules_of(model)
        self.record = ModelRecord(model, self.inside, casts)
        self.asks = RowAsker(ask, self.record, self.inside)
        # A module that is unfit and may be called: then steps are checked, too.
        self.suspect = next((m for m in self.inside if unfit_module(m)), None)
        self.least = [cast for _, cast in casts] + ([] if dtype is None else [dtype])
        self.steps = True  # that rows are stepped through whatever is measured; else a window may come any time
        self.later: Callable[[], None] = all_checked  # what is to be asked again when all is done

    def left(self, x: Tensor, condition: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is to be checked yet, of states like x (M, ...)."""
        kinds = ["input", "rows"] + ["suspect"] * (self.suspect is not None) + ["again"] * (not self.steps)
        return self.record.left(kinds, self.steps, x, condition)

    def before(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Checks the model, which is about to be called; what it gives is to be called with the answer to x."""
        left, several = self.left(x, condition), len(x) > 1 and bool((t != t[0]).any())
        apart: Callable[[Tensor], None] = all_checked
        if "again" in left or ("rows" in left and several):
            apart = self.rowwise(x, t, condition)
        elif "suspect" in left:
            with undisturbed(self.model, x.device):
                self.asks.fit(x, t, condition, [0, 0, 0])
            self.record.found("suspect")
        old = x.clone() if "input" in left else None

        def after(m: Tensor) -> None:
            if old is not None:
                if not torch.equal(old, x) and not bool(old.isnan().any()):
                    raise changed("x")  # unseen by torch, as numpy does
                self.record.found("input")
            apart(m)
            if apart is not all_checked and bool(torch.isfinite(m).all()):
                self.record.found("suspect", "again", *["rows"] * several)

        return after

    def beside(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Refuses a model whose rows are not each on their own in a batch of this length."""
        if "length" not in self.left(x, condition) or bool((t == t[0]).all()):
            return all_checked
        with undisturbed(self.model, x.device):
            kept, other = beside_others(self.asks.answers, x, t, condition)

        def after(m: Tensor) -> None:
            same = rounding_differences(m, self.model, self.least)[0]
            if (off := largest_difference(m[kept], other[kept], x[kept], LEAST_ANSWER)) > same:
                raise mixed_rows(off, self.culprit())
            self.record.found_length(len(x))

        return after

    def rowwise(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Refuses a model whose rows are not each on their own, as far as twelve rows and the answer to x tell."""
        a, b, c = int(t.argmin()), len(x) // 2, len(t) - 1 - int(t.flip(0).argmax())
        first, again = (functools.partial(self.asks.asked, x, t, condition, rows) for rows in ([a, b, a], [c, b, c]))
        with undisturbed(self.model, x.device):
            f = self.asks.fit(x, t, condition, [a, b, a])
            same, place, longer = rounding_differences(f, self.model, self.least)
            g = again(OTHERS)
            off, varies = relative_difference(f[1], g[1], x[b]), relative_difference(first(), f, x[[a, b, a]])
            if max(off, varies) > same:
                raise (mixed_rows if varies <= same else varying_answers)(max(off, varies), self.culprit())
            h = first(OTHERS)  # other states at the timesteps that it was just asked
            if (off := relative_difference(f[1], h[1], x[b])) > same:
                repeats = relative_difference(first(), f, x[[a, b, a]]) <= same
                raise (mixed_rows if repeats else varying_answers)(off, self.culprit())
            many = x[0].numel() > FEW_NUMBERS
            kept = torch.equal(f, g) and many  # a constant, or what was answered before
            # Two states of a row have one answer: a constant, or within the model is kept what was computed before.
            for row, found, other in ((c, g[0], g[2]), (a, h[0], f[0])):
                alike = many and relative_difference(found, other, x[row]) <= place
                if alike or (kept and row == c):
                    m = self.asks.asked(x, t, condition, [row, b], OTHERS[:2])[0]
                    if (off := relative_difference(m, found, x[row])) > longer:
                        raise varying_answers(off, self.culprit())
        if (off := relative_difference(f[0], f[2], x[a])) > place:
            raise varying_answers(off, self.culprit())
        pairs = [(a, f[0]), (b, f[1])] + [(c, g[0])] * kept
        some = [a, b, c]
        held, ts, conditions = x[some], t[some], {k: v[some] for k, v in condition.items()}

        def later() -> None:
            with undisturbed(self.model, held.device):
                for rows, times, m in (
                    ([0, 1, 0], AS_THEY_ARE, f),
                    ([2, 1, 2], OTHERS, g),
                    ([0, 1, 0], AS_THEY_ARE, f),
                ):
                    now = self.asks.asked(held, ts, conditions, rows, times)
                    if (off := relative_difference(now, m, held[rows])) > same:
                        raise varying_answers(off, self.culprit())

        def after(m: Tensor) -> None:
            if (off := max(relative_difference(m[i], v, x[i]) for i, v in pairs)) > longer:
                raise (mixed_rows if len(pairs) == 2 else varying_answers)(off, self.culprit())
            self.later = later

        return after

    def again(self) -> None:
        """Asks what was asked first once more, now that all is done: a state may have begun after some calls."""
        later, self.later = self.later, all_checked
        later()

    def culprit(self) -> str | None:
        """What to type where a module in training mode may be the reason of a broken assumption."""
        if self.suspect is not None:
            return f"its {type(self.suspect).__name__} is in training mode: type .eval()"
        own = (m for m in self.inside if m.training and not type(m).__module__.startswith(__name__.split(".")[0]))
        training = next(own, None)
        return None if training is None else f"its {type(training).__name__} is in training mode: type .eval(), or "


@contextlib.contextmanager
def undisturbed(model: Any, device: torch.device) -> Iterator[None]:
    """Within it torch's random streams are drawn from and statistics move; afterwards they are as before."""
    moving = [b for m in modules_of(model) if isinstance(m, _NormBase) and m.training for b in m.buffers(recurse=False)]
    before = [b.clone() for b in moving]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for b, old in zip(moving, before, strict=True):
                b.copy_(old)


def all_checked(*_: Any) -> None:
    """Nothing is left to be checked."""
