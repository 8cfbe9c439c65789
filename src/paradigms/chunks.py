"""A batch in as many pieces as the device has room for: where memory runs out the piece halves, and nothing is lost.

M rows = most + most + ... + rest,    most <- most / 2 where `most` did not fit
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Model = Callable[..., Tensor]  # x (M, ...), t (M,), **condition (M, ...) -> (M, ...)


class Room:
    """How many rows fit at once, as far as was found out: `most`, None until memory ran out."""

    def __init__(self) -> None:
        self.most: int | None = None

    def __call__(self, M: int, ask: Callable[[int, int, int], T], pad: int = 0) -> list[T]:
        """What `ask(first, last, R)` says of rows 0..M-1, piece by piece, R = max(last - first, pad) rows a batch.

        A batch that does not fit is asked again in halves. Raises torch.OutOfMemoryError where one row does not fit.
        """
        said: list[T] = []
        first = 0
        while first < M:
            most = M if self.most is None else self.most
            last = min(first + most, M)
            R = max(last - first, min(pad, self.most or pad))
            try:
                said.append(ask(first, last, R))
                first = last
                continue
            except torch.OutOfMemoryError:
                if R == 1:
                    raise
            self.most = R // 2  # not within `except`, which holds on to what did not fit
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return said


class Chunked(nn.Module):
    """A model made from a model: pieces that fit, one after the other. `room` remembers their size."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.room = model, Room()

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the model says of x (M, ...)."""

        def ask(first: int, last: int, _: int) -> Tensor:
            if last - first == len(x):
                said = self.model(x, t, **condition)
            else:
                said = self.model(x[first:last], t[first:last], **{k: v[first:last] for k, v in condition.items()})
            m: Tensor = getattr(said, "sample", said)  # a diffusers network's output holds the answer there
            if m.shape != x[first:last].shape:
                given = tuple(x[first:last].shape)
                raise ValueError(f"model: given {given}, it returned {tuple(m.shape)}; needed: the same shape")
            return m

        said = self.room(len(x), ask)
        return said[0] if len(said) == 1 else torch.cat(said)
