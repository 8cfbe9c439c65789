"""Checks of the other arguments of a solver: method, window, tolerance, and those of `sample` for its report."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from ..methods.base import AbstractMethod
from ..methods.guess import Guess
from ..stopping.base import AbstractStop
from ..validate import check_flag, check_number, check_whole, closest_name, in_words, refusal, why_unbound
from ..window.controller import WindowController


def check_solver(method: Any = None, window: Any = "auto", tolerance: Any = 0.0, key: Any = None) -> None:
    """Raises ValueError for what is no way to solve a problem."""
    check_window(window)
    check_method(method)
    check_tolerance(tolerance)
    check_key(key)
    check_steady(method, window)


def check_account(verify: Any, compare: Any, max_rounds: Any, watch: Any) -> None:
    """Raises ValueError for what `sample` takes beside that."""
    check_flag("verify", verify)
    check_flag("compare", compare)
    if max_rounds is not None:
        check_whole("max_rounds", max_rounds, "a whole number, at least 1, or None for no limit", 1)
    check_watch(watch)


def check_watch(watch: Any) -> None:
    """Raises ValueError for what cannot be called with an iterator of frames alone."""
    needed, typed = "a function of an iterator of frames that gives one", "watch=tqdm.tqdm"
    if not callable(watch):
        raise refusal("watch", in_words(watch), needed, typed)
    if why := why_unbound(watch, None):
        raise refusal("watch", why[0], f"{needed}: {why[1]}", typed)


def check_window(window: Any) -> None:
    """Raises ValueError for what is no window."""
    if not ((isinstance(window, str) and window == "auto") or isinstance(window, WindowController)):
        needed, text = "a whole number of rows, at least 1, or 'auto'", str(window).lower()
        if isinstance(window, str | float) and (text == "auto" or text.removesuffix(".0").isdecimal()):
            typed = "'auto'" if text == "auto" else str(int(float(text)))
            raise refusal("window", in_words(window), needed, f"window={typed}")
        check_whole("window", window, needed, 1)


def check_method(method: Any) -> None:
    """Raises ValueError for what is no method; None is the default."""
    if method is None or isinstance(method, AbstractMethod):
        return
    names = typed_methods()
    if isinstance(method, type) and issubclass(method, AbstractMethod):
        raise refusal("method", in_words(method), "an instance of it", f"{method.__name__}()")
    if isinstance(method, AbstractStop):
        raise refusal(
            "method",
            in_words(method),
            "a method; a criterion is the tolerance",
            f"tolerance={type(method).__name__}(...)",
        )
    if isinstance(method, Guess):
        raise refusal(
            "method", in_words(method), "a method, which it is the guess of", f"Picard({type(method).__name__}())"
        )
    if isinstance(method, int | float) and not isinstance(method, bool):
        raise refusal(
            "method", in_words(method), f"one of {', '.join(names)}", f"tolerance={method} if it is the tolerance"
        )
    raise refusal(
        "method", in_words(method), f"one of {', '.join(names)}", closest_name(method, [n[:-2] for n in names], "{0}()")
    )


def check_steady(method: Any, window: Any) -> None:
    """Raises ValueError for windows that change, of a method whose window may not."""
    changes = isinstance(window, WindowController) and not window.only
    if changes and isinstance(method, AbstractMethod) and method.steady is not None:
        given = f"{type(method).__name__} beside a controller, {in_words(window)}, whose windows may change"
        raise refusal("window", given, "one window throughout", f"window={method.steady}")


def typed_methods() -> list[str]:
    """How each method is typed."""
    found, todo = set[str](), [AbstractMethod]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if not inspect.isabstract(kind) and kind.__module__.split(".")[0] == __name__.split(".")[0] and kind.__doc__:
            found.add(f"{kind.__name__}()")
    return sorted(found)


def check_tolerance(tolerance: Any) -> None:
    """Raises ValueError for what is neither a tolerance nor a criterion."""
    if isinstance(tolerance, AbstractStop):
        return
    if isinstance(tolerance, type) and issubclass(tolerance, AbstractStop):
        raise refusal("tolerance", in_words(tolerance), "an instance of it", f"{tolerance.__name__}(0.01)")
    needed = "a finite number, 0 (to rounding) or more, such as 0.003, or a criterion such as StepNoise(0.1)"
    check_number("tolerance", tolerance, needed, lambda v: 0 <= v < float("inf"))


def watched_frames(watch: Callable[[Iterator[Any]], Iterable[Any]], frames: Iterator[Any]) -> Iterator[Any]:
    """The frames that `watch` gives of frames; raises ValueError where it gives none, or something else."""
    needed, typed = (
        "an iterator of the frames that it is given",
        "watch=tqdm.tqdm, or a generator: for f in frames: yield f",
    )
    shown, last = watch(frames), 0
    if not isinstance(shown, Iterable):
        raise refusal("watch", f"one that gives {in_words(shown)}", needed, typed)
    for frame in shown:
        if not hasattr(frame, "record"):
            raise refusal("watch", f"one that gives {in_words(frame)}", needed, typed)
        if frame.round <= last:
            raise refusal("watch", f"one that gives round {frame.round} after round {last}", needed, typed)
        last = frame.round
        yield frame
    if not last:
        raise refusal("watch", "one that gives no frame", needed, typed)


def check_key(key: Hashable | None) -> None:
    """Raises ValueError for a key that cannot be looked up."""
    try:
        hash(key)
    except TypeError:
        raise ValueError(
            f"key: given {key!r}, which cannot be hashed; needed: a name under which measurements of the model are "
            "remembered; type key='my-model'"
        ) from None
