"""The arithmetic of a rule that decides on the CPU: in plain numbers for few samples, in tensors for many.

A rule is written once, for the numbers of a window's rows. For few samples a column is one sample's list (W) of floats,
as calls of torch would take ten times as long; for many it is a float64 tensor (W, B) of all samples at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

Number = Any  # a float, or float64 (B,) on the CPU
Truth = Any  # a bool, or bool (B,) on the CPU
Column = Any  # W of these: a list, or (W, B)
DTYPE = torch.float64
# Of windows of at most this many rows of all samples each sample is computed alone, in plain numbers. At 32 rows a
# round takes about as long either way for 4 to 8 samples of 6 numbers, and 499 rows of one sample take twice as long in
# plain numbers; measured by hand with FEW at 0 and at 8192.
FEW = 256


class Arithmetic(NamedTuple):
    """What operators do not say, of numbers and of columns.

    Attributes:
        where, maximum, minimum, sqrt: Of numbers, or of columns within `rows`; no number where either is none.
        rows: A function of numbers, row by row.
        before: Of each row the number of the row before, 0 of the first.
        filled: A column, or none, made so many rows long by a number.
        sums: Running sums of a column, from a number on.
        recur: S[n+1] = rho[n] (S[n] + each[n]) of each row, from a number on.
        total: The sum of a column.
        largest: The largest of a column.
        at: The number at a row.
        leading: How many rows are true before the first that is not.
    """

    where: Callable[[Truth, Number, Number], Number]
    maximum: Callable[[Number, Number], Number]
    minimum: Callable[[Number, Number], Number]
    sqrt: Callable[[Number], Number]
    rows: Callable[..., Column]
    before: Callable[[Column], Column]
    filled: Callable[[Column, int, Number], Column]
    sums: Callable[[Number, Column], Column]
    recur: Callable[[Number, Column, Column], Column]
    total: Callable[[Column], Number]
    largest: Callable[[Column], Number]
    at: Callable[[Column, Any], Number]
    leading: Callable[[Column], Any]


def largest(one: float, other: float) -> float:
    """The larger of two numbers, and none where either is none."""
    return one if one >= other or one != one else other


def recur_tensors(start: Tensor, rho: Tensor, each: Tensor) -> Tensor:
    """S (W, B), see `Arithmetic.recur`; of few samples in plain numbers, for row by row they take less time."""
    if len(start) < len(rho) / 4:
        columns = zip(start.tolist(), rho.T.tolist(), each.T.tolist(), strict=True)
        return torch.tensor([NUMBERS.recur(*column) for column in columns], dtype=DTYPE).T
    S = [start]
    for r, e in zip(rho.unbind(), each.unbind(), strict=True):
        S.append(r * (S[-1] + e))
    return torch.stack(S[1:])


NUMBERS = Arithmetic(
    where=lambda c, a, b: a if c else b,
    maximum=largest,
    minimum=min,
    sqrt=math.sqrt,
    rows=lambda f, *columns: [f(*each) for each in zip(*columns, strict=True)],
    before=lambda v: [0.0, *v[:-1]],
    filled=lambda v, W, number: [*v, *[number] * (W - len(v))],
    sums=lambda start, v: list(accumulate(v, initial=start))[1:],
    recur=lambda start, rho, each: list(
        accumulate(zip(rho, each, strict=True), lambda S, row: row[0] * (S + row[1]), initial=start)
    )[1:],
    total=sum,
    largest=max,
    at=lambda v, row: v[row],
    leading=lambda v: next((w for w, true in enumerate(v) if not true), len(v)),
)
TENSORS = Arithmetic(
    where=torch.where,
    maximum=lambda a, b: a.clamp(min=b),
    minimum=lambda a, b: a.clamp(max=b),
    sqrt=torch.sqrt,
    rows=lambda f, *columns: f(*columns),
    before=lambda v: torch.cat([torch.zeros_like(v[:1]), v[:-1]]),
    filled=lambda v, W, number: torch.cat([*[v] * bool(len(v)), number.expand(W - len(v), *number.shape)]),
    sums=lambda start, v: torch.cat([start[None], v]).cumsum(0)[1:],
    recur=recur_tensors,
    total=lambda v: v.sum(0),
    largest=lambda v: v.amax(0),
    at=lambda v, row: v.gather(0, row[None])[0],
    leading=lambda v: v.cumprod(0).sum(0),
)


def of_window(W: int, B: int) -> Arithmetic:
    """The arithmetic for a window of W rows of B samples."""
    return NUMBERS if W * B <= FEW else TENSORS


def of_column(v: Column) -> Arithmetic:
    """The arithmetic that a column was made by."""
    return TENSORS if isinstance(v, Tensor) else NUMBERS


def side_by_side(found: list[Column]) -> Tensor:
    """Columns (W, B), of each sample or of all."""
    return found[0] if isinstance(found[0], Tensor) else torch.tensor(list(zip(*found, strict=True)), dtype=DTYPE)
