"""How many rows a round takes: the interface that the solver asks, and a controller whose window never changes.

Before each round the solver tells the controller the row of the slowest sample, and the controller answers with a
window. After the round the solver tells it what the round cost and how far it moved. A window of 1 is stepping, the
sequential sampler itself; the controller also says how many steps are taken until it is asked again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Protocol

from ..execution.clock import Clock
from ..validate import check_whole, counted, in_words, refusal
from .expected import Expected

# A window is given up if its rounds are more than this share of the steps that would have moved as far. Chosen by hand.
LARGEST_ROUNDS_SHARE = 0.8


class HasClock(Protocol):
    """What has a clock."""

    @property
    def clock(self) -> Clock:
        """The seconds so far."""


Plan = tuple[int, int]  # the window of the next round; if that is 1, the single steps before the next question


def check_plan(plan: Plan) -> Plan:
    """The plan of somebody's controller. Raises ValueError where it is none."""
    ok = isinstance(plan, tuple) and len(plan) == 2 and all(type(each) is int and each >= 1 for each in plan)
    if not ok:
        given = str(plan) if isinstance(plan, tuple | list) else in_words(plan)
        needed = "(window, steps), whole numbers of at least 1 each"
        raise refusal("window", f"a controller whose `next` gives {given}", needed, "return 32, 1")
    return plan


class WindowController(ABC):
    """The windows of one call; it may remember what it saw of the call. `only`: all that it answers, 0 if they vary."""

    only = 0

    @abstractmethod
    def next(self, row: int) -> Plan:
        """The window of the next round, and for a window of 1 the steps before the next question."""

    def on_steps(self, row: int, steps: int, evaluate: HasClock) -> None:  # noqa: B027
        """`steps` single rows from `row` on were stepped through."""

    def on_round(self, row: int, window: int, asked: int, count: int, evaluate: HasClock) -> None:  # noqa: B027
        """A round from `row` evaluated `asked` rows of all samples; the slowest sample moved by `count`."""

    def reason(self) -> str | None:
        """Why rows were stepped through one by one so far; None where none was, or where nobody can say."""
        return None

    def expected(self) -> Expected | None:
        """What the window that suits the chain best was expected to take; None where nothing was measured."""
        return None


class FixedWindow(WindowController):
    """The same window in every round.

    Args:
        window: Its rows; 1 for stepping.
        steps: Single steps before it is asked again, where the window is 1.
        why: The reason for stepping, for `Solution.reason`.
        what: The forecast that the reason comes from.
    """

    def __init__(self, window: int, steps: int = 1, why: str | None = None, what: Expected | None = None) -> None:
        check_whole("window", window, "a whole number of rows, at least 1", 1)
        check_whole("steps", steps, "a whole number of single steps, at least 1", 1)
        self.answer, self.only = (window, steps), window
        self.why, self.what = why or ("window=1 was given" if window == 1 else None), what

    def next(self, row: int) -> Plan:
        return self.answer

    def reason(self) -> str | None:
        return self.why

    def expected(self) -> Expected | None:
        return self.what


class YieldingWindow(WindowController):
    """A window of W rows that gives way to single steps while a network of low precision makes its rounds slow.

    If W rounds moved the slowest sample by less than W / LARGEST_ROUNDS_SHARE rows, about as many steps would have done
    the same, exactly and with a W-th of the evaluations. Then W rows are stepped through, the next time 2 W and so on.
    In between a window is tried again, because later rows may be easier. This is done only if the network answers in
    fewer bits than the states have. Elsewhere slow rounds are a sign of growth, which steps do not measure: with steps
    there a clipped chain was 50 times the tolerance off without a sign of it.
    """

    def __init__(self, window: int) -> None:
        self.window, self.stretch, self.due = window, window, 0
        self.given = 0  # rows that were stepped through
        self.moved: deque[int] = deque(maxlen=window)  # rows, by the last rounds

    def next(self, row: int) -> Plan:
        steps = min(self.due, self.window)  # no longer than a window, for whoever watches is given their states
        self.due -= steps
        return (1, steps) if steps else (self.window, 1)

    def on_steps(self, row: int, steps: int, evaluate: HasClock) -> None:
        self.given += steps

    def on_round(self, row: int, window: int, asked: int, count: int, evaluate: HasClock) -> None:
        self.moved.append(count)
        near = len(self.moved) == self.window and LARGEST_ROUNDS_SHARE * sum(self.moved) < self.window
        if near and getattr(evaluate, "rounding", 0.0) > 0:
            self.due, self.stretch = self.stretch, 2 * self.stretch
            self.moved.clear()

    def reason(self) -> str | None:
        if not self.given or self.stretch == self.window:  # it gave way to none
            return None
        slow = f"rounds of a window of {self.window} finished hardly more than a step each"
        return f"{slow} ({counted(self.given, 'step')} taken one by one)"
