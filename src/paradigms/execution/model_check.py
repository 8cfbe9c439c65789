"""What a solver assumes of a model f, checked once for each model and shape of a state:

    f([a, b, a])[1] = f([c, b, c'])[1]      a row's answer depends on that row alone, and is the same at any time
    f([a, b, a])[0] = f([a, b, a])[2]       ... and at any place in a batch
    f(x)[kept]      = f(others and kept)    ... beside others in a batch of x's own length, see `model_rows.py`
    f(x)[row]       = f([a, b, a])[row]     ... and in a batch of any length, up to the rounding of other kernels
    f([a, b, a])    = f([a, b, a])          ... and after other calls: the model keeps no state from call to call, and
                                            has begun none by the end of the first call of `sample`
    x afterwards    = x                     the model does not change its input

a, b and c are rows of the first batch that has several timesteps; the states of c are others. If windows are allowed
but the chain begins with steps, the first step is checked too, once for all functions that are alike (`model_key.py`).
What was found holds while the model's mode is the same (`model_mode.py`), for batches that are no longer, and is asked
again in calls 4, 16, 64 and so on, because a state may begin late. Otherwise stepping checks nothing, unless a function
may call a module that should not be in training mode. A model that is itself such a module is refused without a call.
The rows of the checks are counted nowhere, their seconds are in no time that a window is judged by, and torch's random
streams are put back to where they were.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from ..validate import refusal
from .chunked import changed
from .model_key import memory
from .model_mode import mode_of, unfit_calls
from .model_modules import modules_of, unfit_module
from .model_output import precision
from .model_rows import OTHER_STATES, beside_others, largest_difference
from .torch_modes import Casts

# The rows that a model is asked for once: three calls of three rows. Two more where the answers to them were the same,
# and a batch once more that has more rows than any before and several timesteps.
ROWS = 9
# The rows that it is asked for again at the end of that call of `sample`, likewise.
LATER = 9
# The relative differences that rounding explains: at the same place of a batch, at another place, in a batch of another
# length. Those of float64 are as wide as those of float32 where places or lengths differ, because a network inside may
# be in float32. Chosen by hand.
ROUNDING = {
    torch.float64: (1e-10, 5e-3, 5e-3),
    torch.float32: (1e-5, 5e-3, 5e-3),
    torch.float16: (1e-3, 1e-2, 0.1),
    torch.bfloat16: (8e-3, 2e-2, 0.1),
}
# Differences are relative to the answer's norm, or to this share of the state's norm where that is more. Chosen by
# hand.
LEAST_ANSWER = 0.01
# Different states of up to this many numbers may well have the same answer. Chosen by hand.
FEW_NUMBERS = 4
# The states of three rows are multiplied by these: as they are, or the outer ones made others.
AS_THEY_ARE, OTHERS = (1.0, 1.0, 1.0), (OTHER_STATES[0], 1.0, OTHER_STATES[1])
# A model is asked again in each call whose number is a power of this. Chosen by hand.
AGAIN_EVERY = 4

_known: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


class Assumptions:
    """What is assumed of one model, as far as it is not known.

    ask: the model, called with x (M, ...), t (M,), **condition. Raises ValueError where an assumption is wrong.
    """

    def __init__(self, model: Any, ask: Callable[..., Tensor], dtype: torch.dtype | None, casts: Casts) -> None:
        self.model, self.ask = model, ask
        self.known = known_assumptions(model)
        inside = modules_of(model)
        self.inside = inside
        self.mode = mode_of(model, inside), casts
        self.due = False  # that all is to be asked again
        self.longest: float = 0  # the most rows of a batch with several timesteps that was asked for beside others
        # A module that is unfit and may be called: then steps are checked, too.
        self.suspect = next((m for m in inside if unfit_module(m)), None)
        self.least = [cast for _, cast in casts] + ([] if dtype is None else [dtype])
        self.steps = True  # that rows are stepped through whatever is measured; else a window may come any time
        self.later: Callable[[], None] = all_checked  # what is to be asked again when all is done
        self.open: dict[str, Any] | None = None  # what is not known yet, and by which key it will be

    @property
    def vouched(self) -> bool:
        """Whether the model vouches for itself, and nothing is asked of it."""
        return isinstance(self.known, Everything)

    def left(self, x: Tensor, condition: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is to be checked yet, of states like x (M, ...)."""
        if self.open is None:
            shapes = (x.shape[1:], *sorted((k, v.shape[1:]) for k, v in condition.items()))
            kinds = ["input", "rows"] + ["suspect"] * (self.suspect is not None) + ["again"] * (not self.steps)
            keys = {what: (what, self.mode, shapes, x.dtype, x.device) for what in kinds}
            self.open = {what: key for what, key in keys.items() if self.due or key not in self.where(what)}
            self.lengths = self.kept("lengths", dict)
            self.length = (self.mode, shapes, x.dtype, x.device)
            known = 0 if self.due else self.lengths.get(self.length, 0)
            self.longest = math.inf if self.vouched or self.steps else known
        return self.open | ({"length": None} if len(x) > max(self.longest, len(OTHERS)) else {})

    def begin_call(self) -> None:
        """Counts a call of a solver: in some all that was found out is asked again."""
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

    def found(self, what: str) -> None:
        """It holds, for this model and others of its kind of call."""
        if self.open and what in self.open:
            self.where(what).add(self.open.pop(what))

    def before(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Checks the model, which is about to be called; what it gives is to be called with the answer to x."""
        left, several = self.left(x, condition), len(x) > 1 and bool((t != t[0]).any())
        apart: Callable[[Tensor], None] = all_checked
        if "again" in left or ("rows" in left and several):
            apart = self.rowwise(x, t, condition)
        elif "suspect" in left:
            with undisturbed(self.model, x.device):
                self.fit(x, t, condition, [0])
            self.found("suspect")
        old = x.clone() if "input" in left else None

        def after(m: Tensor) -> None:
            if old is not None:
                if not torch.equal(old, x) and not bool(old.isnan().any()):
                    raise changed("x")  # unseen by torch, as numpy does
                self.found("input")
            apart(m)
            if apart is not all_checked and bool(torch.isfinite(m).all()):
                self.found("suspect")
                self.found("again")
                if several:
                    self.found("rows")

        return after

    def beside(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Refuses a model whose rows are not each on their own in a batch of this length."""
        if "length" not in self.left(x, condition) or bool((t == t[0]).all()):
            return all_checked
        with undisturbed(self.model, x.device):
            kept, other = beside_others(self.answers, x, t, condition)

        def after(m: Tensor) -> None:
            same = rounding_differences(m, self.model, self.least)[0]
            if (off := largest_difference(m[kept], other[kept], x[kept], LEAST_ANSWER)) > same:
                raise mixed_rows(off, self.culprit())
            self.longest = self.lengths[self.length] = len(x)

        return after

    def rowwise(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Refuses a model whose rows are not each on their own, as far as nine rows and the answer to x tell."""
        a, b, c = int(t.argmin()), len(x) // 2, len(t) - 1 - int(t.flip(0).argmax())
        first, again = (functools.partial(self.asked, x, t, condition, rows) for rows in ([a, b, a], [c, b, c]))
        with undisturbed(self.model, x.device):
            f = self.fit(x, t, condition, [a, b, a])
            g = again(OTHERS)
            same, place, longer = rounding_differences(f, self.model, self.least)
            if (off := relative_difference(f[1], g[1], x[b])) > same:
                repeats = relative_difference(first(), f, x[[a, b, a]]) <= same
                raise (mixed_rows if repeats else varying_answers)(off, self.culprit())
            if (off := relative_difference(first(), f, x[[a, b, a]])) > same:
                raise varying_answers(off, self.culprit())
            kept = torch.equal(f, g) and x[0].numel() > FEW_NUMBERS  # a constant, or what was answered before
            if kept:
                m = self.asked(x, t, condition, [c, b], OTHERS[:2])[0]
                if (off := relative_difference(m, g[0], x[c])) > longer:
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
                    now = self.asked(held, ts, conditions, rows, times)
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

    def fit(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], rows: list[int]) -> Tensor:
        """The answers to some rows. Refuses a model that calls a module which is unfit for batches."""
        with unfit_calls(self.inside) as unfit:
            answers = self.asked(x, t, condition, rows, AS_THEY_ARE[: len(rows)])
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
        self.kept("beside", lambda: [0])[0] += len(x)
        try:
            return self.ask(x, t, **condition).clone()
        except Exception as error:
            if hasattr(error, "add_note") and not str(error).startswith("model:"):  # Python 3.11
                needed = "needed: one that takes them, each with its own t; type window=1 if it takes one t alone"
                error.add_note(f"model: given x {tuple(x.shape)}, the rows of several steps; {needed}")
            raise

    def culprit(self) -> str | None:
        """What to type where a module in training mode may be the reason of a broken assumption."""
        if self.suspect is not None:
            return f"its {type(self.suspect).__name__} is in training mode: type .eval()"
        own = (m for m in self.inside if m.training and not type(m).__module__.startswith(__name__.split(".")[0]))
        training = next(own, None)
        return None if training is None else f"its {type(training).__name__} is in training mode: type .eval(), or "


def rounding_differences(m: Tensor, model: Any, casts: list[torch.dtype]) -> tuple[float, ...]:
    """The `ROUNDING` of the least precise dtype that is known to be used; TF32 is as precise as float16."""
    inside = {p.dtype for v in modules_of(model) for p in v.parameters(recurse=False) if p.is_floating_point()}
    used = {m.dtype, precision(m), *inside, *casts}
    found = [ROUNDING.get(dtype, ROUNDING[torch.bfloat16]) for dtype in used]
    same, place, longer = (max(each) for each in zip(*found, strict=True))
    return same, place, longer if m.device.type == "cpu" else max(longer, ROUNDING[torch.float16][2])


def varying_answers(off: float, culprit: str | None) -> ValueError:
    """The error of a model that answers otherwise when it is asked again."""
    return ValueError(
        f"model: asked the same row twice, its answers differ by {100 * off:.2g} %; needed: one answer to a row, "
        "whenever and wherever in a batch it is asked, no state kept between calls; "
        + evaluation_advice(culprit, "draw what is random before, as a condition, or type window=1")
    )


def mixed_rows(off: float, culprit: str | None) -> ValueError:
    """The error of a model whose rows depend on each other."""
    advice = evaluation_advice(culprit, "t and not t[0] in it, or type window=1")
    return ValueError(
        f"model: rows of a batch depend on each other: beside other rows one answer differs by {100 * off:.2g} %; "
        f"needed: an answer to each row of x and t alone; {advice}"
    )


def evaluation_advice(culprit: str | None, otherwise: str) -> str:
    """What to type."""
    return (culprit or "") + (otherwise if culprit is None or culprit.endswith("or ") else "")


def relative_difference(m: Tensor, other: Tensor, x: Tensor) -> float:
    """The relative difference of answers to x; 0 where one is not finite, which is for others to refuse."""
    off, size = (m - other).double().norm(), torch.maximum(m.double().norm(), LEAST_ANSWER * x.double().norm())
    found = float(off / size.clamp(min=1e-30))
    return found if found < float("inf") else 0.0


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
