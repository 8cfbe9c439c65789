"""What a solver takes for granted of a model, checked once for each model and shape of a state:

    f([a, b, a])[1] = f([c, b, c])[1]       a row's answer is that row's alone, and the same whenever it is asked
    f([a, b, a])[0] = f([a, b, a])[2]       wherever in a batch it is
    f(x)[row]       = f([a, b, a])[row]     and however long the batch, up to the rounding of other kernels
    f([a, b, a])    = f([a, b, a])          whatever was asked in between: no state is kept from call to call, and
                                            none has begun by the end of the first call of `sample`
    x afterwards    = x                     what it is given it leaves as it is

a, b, c are rows of the first batch that holds several timesteps, c another state; and of the first step, where windows
are allowed and may yet come, of functions that are alike (`identity.py`) once. Else stepping asks nothing, unless a
function may call a module that does not belong in training mode. The rows asked are in no count and in no time that a
window is judged by, and torch's random streams stay where they were. A model that is itself such a module is refused
without being asked.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from .chunked import changed
from .model_key import memory
from .model_output import precision
from .torch_modes import Casts

ROWS, LATER = 9, 9  # that a model is asked for, once; at the end of that call, once more
ROUNDING = {  # relative differences that rounding explains: at the same place, at another, in a batch of other length
    torch.float64: (1e-10, 5e-3, 0.02),  # where shapes differ, as wide as float32, which a network inside may be of
    torch.float32: (1e-5, 5e-3, 0.02),
    torch.float16: (1e-3, 1e-2, 0.1),
    torch.bfloat16: (8e-3, 2e-2, 0.1),
}
SMALL = 0.01  # of the state's norm: what an answer is measured by where it is smaller
FEW = 4  # numbers in a state, of which different ones may well have one answer
OTHER = -0.7  # times a row's state: what is beside a row the second time, for rows of a first guess may be copies
DROPS = ("p", "drop_prob", "drop_rate", "rate", "prob")
DROPPING = ("drop", "stochasticdepth")  # in the names of random modules

_known: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


class Assumptions:
    """What is assumed of one model, as far as it is not known; `rows` is what was asked of it for that.

    ask: the model, called with x (M, ...), t (M,), **condition. Raises ValueError where an assumption is wrong.
    """

    def __init__(self, model: Any, ask: Callable[..., Tensor], dtype: torch.dtype | None, casts: Casts) -> None:
        self.model, self.ask, self.rows = model, ask, 0
        self.known = known_assumptions(model)
        inside = modules_of(model)
        self.mode = getattr(model, "__func__", None), tuple(m.training for m in inside), casts
        self.suspect = next(
            (m for m in inside if unfit_module(m)), None
        )  # which may be called, so that steps are asked, too
        self.least = [cast for _, cast in casts] + ([] if dtype is None else [dtype])
        self.steps = True  # that rows are stepped through whatever is measured; else a window may come any time
        self.later: Callable[[], None] = all_checked  # what is to be asked again when all is done
        self.open: dict[str, Any] | None = None  # what is not known yet, and by which key it will be

    def left(self, x: Tensor, condition: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is to be checked yet, of states like x (M, ...)."""
        if self.open is None:
            shapes = (x.shape[1:], *sorted((k, v.shape[1:]) for k, v in condition.items()))
            kinds = ["input", "rows"] + ["suspect"] * (self.suspect is not None) + ["again"] * (not self.steps)
            keys = {what: (what, self.mode, shapes, x.dtype, x.device) for what in kinds}
            self.open = {what: key for what, key in keys.items() if key not in self.where(what)}
        return self.open

    def where(self, what: str) -> set[Any]:
        """Where it is remembered: with the model, or, of what changes no sample, with all functions that are alike."""
        if isinstance(self.known, Everything):
            return self.known
        kept, alike = memory(self.model)
        return kept.setdefault(("assumed", alike), set()) if what == "again" else self.known  # type: ignore[no-any-return]

    def found(self, what: str) -> None:
        """It holds, for this model and others of its kind of call."""
        if self.open and what in self.open:
            self.where(what).add(self.open.pop(what))

    def before(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Checks the model, which is about to be called; what it gives is to be called with the answer to x."""
        left, several = self.left(x, condition), len(x) > 1 and bool((t != t[0]).any())
        due = "suspect" in left or "again" in left or ("rows" in left and several)
        apart = self.rowwise(x, t, condition) if due else all_checked
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

    def rowwise(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Callable[[Tensor], None]:
        """Refuses a model whose rows are not each on their own, as far as nine rows and the answer to x tell."""
        a, b, c = int(t.argmin()), len(x) // 2, len(t) - 1 - int(t.flip(0).argmax())
        first, again = (functools.partial(self.asked, x, t, condition, rows) for rows in ([a, b, a], [c, b, c]))
        with undisturbed(self.model, x.device):
            f, g = first(), again(OTHER)
            same, place, longer = self.rounding(f)
            if (off := relative_difference(f[1], g[1], x[b])) > same:
                raise self.mixed(off) if relative_difference(first(), f, x[[a, b, a]]) <= same else self.random(off)
            if (off := relative_difference(first(), f, x[[a, b, a]])) > same:
                raise self.random(off)
            kept = torch.equal(f, g) and x[0].numel() > FEW  # a constant, or what was answered before
            if (
                kept
                and (off := relative_difference(self.asked(x, t, condition, [c, b], OTHER)[0], g[0], x[c])) > longer
            ):
                raise self.random(off)
        if (off := relative_difference(f[0], f[2], x[a])) > place:
            raise self.random(off)
        pairs = [(a, f[0]), (b, f[1])] + [(c, g[0])] * kept
        some = [a, b, c]
        held, ts, conditions = x[some], t[some], {k: v[some] for k, v in condition.items()}

        def later() -> None:
            with undisturbed(self.model, held.device):
                for rows, times, m in (([0, 1, 0], 1.0, f), ([2, 1, 2], OTHER, g), ([0, 1, 0], 1.0, f)):
                    now = self.asked(held, ts, conditions, rows, times)
                    if (off := relative_difference(now, m, held[rows])) > same:
                        raise self.random(off)

        def after(m: Tensor) -> None:
            if (off := max(relative_difference(m[i], v, x[i]) for i, v in pairs)) > longer:
                raise self.mixed(off) if len(pairs) == 2 else self.random(off)
            self.later = later

        return after

    def again(self) -> None:
        """Asks what was asked first once more, now that all is done: a state may have begun after some calls."""
        later, self.later = self.later, all_checked
        later()

    def asked(
        self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], rows: list[int], times: float = 1.0
    ) -> Tensor:
        """The answers to three rows, the outer states so many times theirs; copied, for a model may reuse a buffer."""
        self.rows += len(rows)
        some = x[rows]
        some[::2] *= times
        try:
            return self.ask(some, t[rows], **{k: v[rows] for k, v in condition.items()}).clone()
        except Exception as error:
            if hasattr(error, "add_note") and not str(error).startswith("model:"):  # Python 3.11
                needed = "needed: one that takes them, each with its own t; type window=1 if it takes one t alone"
                error.add_note(f"model: given x {tuple(some.shape)}, the rows of several steps; {needed}")
            raise

    def rounding(self, m: Tensor) -> tuple[float, ...]:
        """What rounding explains in the least precise dtype that is known to be used; TF32 is as precise as float16."""
        inside = {p.dtype for v in modules_of(self.model) for p in v.parameters(recurse=False) if p.is_floating_point()}
        used = {m.dtype, precision(m), *inside, *self.least}
        found = [ROUNDING.get(dtype, ROUNDING[torch.bfloat16]) for dtype in used]
        same, place, longer = (max(each) for each in zip(*found, strict=True))
        return same, place, longer if m.device.type == "cpu" else max(longer, ROUNDING[torch.float16][2])

    def random(self, off: float) -> ValueError:
        """The error of a model that answers otherwise when it is asked again."""
        return ValueError(
            f"model: asked the same row twice, its answers differ by {100 * off:.2g} %; needed: one answer to a row, "
            "whenever and wherever in a batch it is asked, no state kept between calls; "
            + self.advice("draw what is random before, as a condition, or type window=1")
        )

    def mixed(self, off: float) -> ValueError:
        """The error of a model whose rows depend on each other."""
        return ValueError(
            f"model: rows of a batch depend on each other: beside other rows one answer differs by {100 * off:.2g} %; "
            f"needed: an answer to each row of x and t alone; {self.advice('t and not t[0] in it, or type window=1')}"
        )

    def advice(self, otherwise: str) -> str:
        """What to type."""
        suspect = self.suspect or next((m for m in modules_of(self.model) if m.training), None)
        return f"its {type(suspect).__name__} is in training mode: type .eval()" if suspect is not None else otherwise


def relative_difference(m: Tensor, other: Tensor, x: Tensor) -> float:
    """The relative difference of answers to x; 0 where one is not finite, which is for others to refuse."""
    off, size = (m - other).double().norm(), torch.maximum(m.double().norm(), SMALL * x.double().norm())
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


def known_assumptions(model: Any) -> set[Any]:
    """What is known of a model; of a bound method, of its object. It dies with the model."""
    of = model.__self__ if isinstance(model, MethodType) else model
    if getattr(type(of), "trusted", False):
        return Everything()
    try:
        return _known.setdefault(of, set())
    except TypeError:  # it cannot be remembered
        return set()


def modules_of(model: Any, depth: int = 2) -> list[nn.Module]:
    """The modules that a model is made of, or a function, method or object that holds them."""
    found = list(model.modules()) if isinstance(model, nn.Module) else []
    return found + [m for v in modules_held_by(model) for m in modules_of(v, depth - 1)] if depth else found


def modules_held_by(model: Any) -> list[Any]:
    """What a function, method or object holds that may be the model that it calls."""
    if isinstance(model, functools.partial):
        return [model.func, *model.args, *model.keywords.values()]
    if isinstance(model, MethodType):
        return [model.__self__]
    if not inspect.isfunction(model):
        values = list(getattr(model, "__dict__", {}).values())
        return [
            v for v in values if inspect.isroutine(v) or (isinstance(v, nn.Module) and not isinstance(model, nn.Module))
        ]
    try:
        found = inspect.getclosurevars(model)
    except ValueError:  # a cell that is still empty
        return []
    values = [*found.nonlocals.values(), *found.globals.values(), *(model.__defaults__ or ())]
    return [v for v in values if isinstance(v, nn.Module | MethodType | functools.partial) or inspect.isfunction(v)]


def unfit_for_batches(model: Any) -> str | None:
    """Why a module of a model cannot be sampled with, None where none is known to be unfit.

    Looked into are a module and what is made of one alone; what else a function uses may not be what it calls.
    """
    while not isinstance(model, nn.Module):
        if isinstance(model, MethodType):
            model = model.__self__
        elif isinstance(model, functools.partial):
            model = model.func
        else:
            return None
    return next((why for m in model.modules() if (why := unfit_module(m))), None)


def unfit_module(m: nn.Module) -> str | None:
    """Why one module, whatever is in it, does not answer each row by itself and always the same."""
    name = type(m).__name__
    if isinstance(m, _BatchNorm) and m.running_mean is None:
        return f"{name} without running statistics, which mixes the rows of a batch"
    if not m.training:
        return None
    if isinstance(m, _NormBase) and (isinstance(m, _BatchNorm) or m.track_running_stats):
        mixes = "mixes the rows of a batch and " if isinstance(m, _BatchNorm) else ""  # an instance is one row
        return f"{name} in training mode, which {mixes}moves its statistics"
    if name == "_SpectralNorm":
        return "spectral_norm in training mode, which moves its estimate with every call"
    return f"{name} in training mode, whose answers are random" if random_in_training(m) else None


def random_in_training(m: nn.Module) -> bool:
    """Whether a module in training mode is random, as dropout is."""
    if isinstance(m, nn.RReLU):
        return m.lower != m.upper
    rate = getattr(m, "dropout", 0.0) if isinstance(m, nn.MultiheadAttention | nn.RNNBase) else 0.0
    if isinstance(rate, int | float) and rate > 0:
        return True
    if not any(part in type(m).__name__.lower() for part in DROPPING):
        return False
    return any(isinstance(v := getattr(m, name, 0), int | float) and v > 0 for name in DROPS)
