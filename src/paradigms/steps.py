"""Evaluate rows for me: a solver that yields the rows it wants evaluated and is sent their answers.

    solver = steps(system, x)                    a generator
    rows = next(solver)                          rows.x (M, ...), rows.t (M,), rows.condition: what a model is given
    rows = solver.send(model(rows.x, rows.t))    the next, until StopIteration, whose value is the Solution

Whoever drives it may merge the rows of many solvers into one batch, ask a model over a wire, or on another device: see
`together`, and `examples/server.py`. The rows, and so the sample, are those of `sample` with the same arguments.

Under the generator is `sample` itself, on a thread of its own, whose model is a channel: only one of the two runs at a
time, and a solver that is closed or forgotten ends its thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from .checks.solver import check_solver
from .execution.model_output import output_tensor
from .methods.base import AbstractMethod
from .noise import Generators
from .problem import Problem
from .solution import Solution
from .solve import TOLERANCE, sample
from .stopping.base import AbstractStop
from .system import System
from .validate import check_whole, in_words, named_arguments, refusal
from .window.controller import WindowController


@dataclass(frozen=True, eq=False)
class Rows:
    """M rows to be evaluated, each by itself: answer with `model(x, t, **condition)` (M, ...).

    Attributes:
        x: (M, ...), the states as the model is shown them.
        t: (M,), what it is told.
        row: (M,), the rows of the chain, 0 the first.
        sample: (M,), the samples of the batch.
        condition: (M, ...) by name, the condition of each row's sample.
    """

    x: Tensor
    t: Tensor
    row: Tensor
    sample: Tensor
    condition: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.x)


Solver = Generator[Rows, Tensor, Solution]


@named_arguments
def steps(
    system: System,
    x: Tensor,
    method: AbstractMethod | None = None,
    *,
    window: int | Callable[[], int] = 32,
    tolerance: float | AbstractStop = TOLERANCE,
    generator: Generators | None = None,
    noise: Tensor | None = None,
    condition: Mapping[str, Tensor] | None = None,
    max_rounds: int | None = None,
) -> Solver:
    """A solver that asks for rows: a generator of `Rows`, sent the model's answers (M, ...), that returns a `Solution`.

    Args:
        system, x, method, tolerance, generator, noise, condition, max_rounds: as `sample`'s.
        window: rows of a sample evaluated at once, or a function that says so before each round, for servers whose
            windows shrink as their queue grows. It is no "auto": what a row costs, only who evaluates it knows.

    Returns:
        The generator. `next` begins it, `send` answers it, `close` gives it up; an error thrown into it is the model's.

    Raises:
        ValueError: for arguments that `sample` would refuse, before anything runs. What `sample` assumes of a
            model (rows that do not depend on each other, the direction of a velocity) is not checked here.

    Source: Shih et al. 2023.
    """
    Problem(_nothing, system, x, generator, noise, condition)  # refuses what is none
    if isinstance(window, str) or not (callable(window) or (type(window) is int and window >= 1)):
        needed = "a whole number of rows, at least 1, or a function that gives one"
        raise refusal("window", in_words(window), needed, "window=32")
    pace = _Asked(window) if callable(window) else window
    check_solver(method, pace, tolerance)
    how = {"window": pace, "tolerance": tolerance, "generator": generator, "noise": noise, "max_rounds": max_rounds}
    return _solver(_Channel(system, x, dict(condition or {})), x, method, how)


def _nothing(x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
    """Stands for the model where arguments are checked."""
    return x


def _solver(channel: _Channel, x: Tensor, method: AbstractMethod | None, how: dict[str, Any]) -> Solver:
    """Begins the thread, hands its rows out and answers in, and returns or raises what it ends with."""
    worker = threading.Thread(target=channel.run, args=(x, method, how), name="paradigms.steps", daemon=True)
    worker.start()
    try:
        while isinstance(said := channel.asked.get(), Rows):
            try:
                answer: Any = yield said
            except Exception as error:  # thrown in by who drives: the model's own error
                answer = error
            channel.answers.put(answer)
    finally:
        channel.answers.put(_Closed())
        worker.join()
    if isinstance(said, BaseException):
        raise said
    return said


class _Closed(BaseException):
    """Ends the thread of a solver that was closed."""


class _Asked(WindowController):
    """The window that a function gives, asked before each round."""

    def __init__(self, window: Callable[[], int]) -> None:
        self.window = window

    def next(self, row: int) -> tuple[int, int]:
        window = self.window()
        return (max(window, 1) if type(window) is int else window), 1  # what is no number is refused as a plan


class _Channel:
    """A model that hands its rows to another thread and waits for their answers."""

    trusted = True  # no rows are asked beside those of the chain, see `execution/model_check.py`

    def __init__(self, system: System, x: Tensor, condition: dict[str, Tensor]) -> None:
        moved = system.to(x.device, torch.promote_types(x.dtype, torch.float32))
        self.t, self.condition = moved.t, condition
        self.system = replace(system, t=torch.arange(len(system)))  # the model is told which row it is
        self.samples = torch.arange(len(x), device=x.device)
        self.asked: SimpleQueue[Rows | Solution | BaseException] = SimpleQueue()
        self.answers: SimpleQueue[Tensor | BaseException] = SimpleQueue()

    def __call__(self, x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        self.asked.put(Rows(x, self.t[t], t, given.pop("_sample"), given))
        answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run(self, x: Tensor, method: AbstractMethod | None, how: dict[str, Any]) -> None:
        """`sample` from beginning to end; what it ends with is the last thing that is handed over."""
        try:
            condition = self.condition | {"_sample": self.samples}
            self.asked.put(sample(self, self.system, x, method, condition=condition, **how))
        except BaseException as error:
            self.asked.put(error)


def together(model: Callable[..., Tensor], solvers: Sequence[Solver], most: int | None = None) -> list[Solution]:
    """Runs several solvers to their ends, the rows that they ask for at a time in one call of the model.

    Args:
        model: as `sample`'s, one for all.
        solvers: as `steps` makes them, not begun; with states of one shape and conditions of the same names.
        most: rows of a call at most; None puts all into one.

    Returns:
        The solutions in the order of the solvers.

    Raises:
        ValueError: where their rows do not fit together; and whatever the model raises.
    """
    if not all(isinstance(each, Generator) for each in solvers):
        raise refusal("solvers", in_words(solvers), "a list of solvers", "[steps(system, x), steps(system, y)]")
    if most is not None:
        check_whole("most", most, "a whole number of rows, at least 1, or None", 1)
    found: dict[int, Solution] = {}
    asked: dict[int, Rows] = {}

    def advance(k: int, answer: Tensor | None) -> None:
        try:
            asked[k] = next(solvers[k]) if answer is None else solvers[k].send(answer)
        except StopIteration as end:
            found[k] = end.value
            asked.pop(k, None)

    try:
        for k in range(len(solvers)):
            advance(k, None)
        while asked:
            turn = list(asked.items())
            for (k, _), answer in zip(turn, evaluate_together(model, [rows for _, rows in turn], most), strict=True):
                advance(k, answer)
    finally:
        for solver in solvers:
            solver.close()
    return [found[k] for k in range(len(solvers))]


def evaluate_together(model: Callable[..., Tensor], asked: Sequence[Rows], most: int | None = None) -> list[Tensor]:
    """The model's answers to the rows of several solvers, in one call, or in calls of at most so many rows.

    Raises ValueError where rows are of several shapes or have conditions of several names.
    """
    first = asked[0]
    for rows in asked:
        if rows.x.shape[1:] != first.x.shape[1:] or set(rows.condition) != set(first.condition):
            given = f"rows {tuple(rows.x.shape[1:])} with {sorted(rows.condition)}"
            raise refusal("rows", given, f"{tuple(first.x.shape[1:])} with {sorted(first.condition)}, as the others")
    x, t = torch.cat([rows.x for rows in asked]), torch.cat([rows.t for rows in asked])
    condition = {k: torch.cat([rows.condition[k] for rows in asked]) for k in first.condition}
    size, parts = len(x) if most is None else most, list[Tensor]()
    with torch.no_grad():
        for i in range(0, len(x), size):
            some = slice(i, i + size)
            m = output_tensor(model(x[some], t[some], **{k: v[some] for k, v in condition.items()}), x[some])
            parts.append(m if size >= len(x) else m.clone())  # a model may reuse the memory of its answer
    return list(torch.cat(parts).split([len(rows) for rows in asked]))
