"""Evaluates a batch in chunks that fit in memory: where memory runs out, chunks are halved and the batch goes on.

M rows = most + most + ... + rest,    most <- most / 2 where `most` did not fit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from .model_output import output_tensor

T = TypeVar("T")
Model = Callable[..., Tensor]  # x (M, ...), t (M,), **condition (M, ...) -> (M, ...)


class BatchLimit:
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
    """A model made from a model: pieces that fit, one after the other. `room` remembers their size.

    Raises ValueError where the model returns no answer, see `model_output.py`, or changes what it is given, and
    RuntimeError from a StopIteration.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.room = model, BatchLimit()

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the model says of x (M, ...)."""

        def ask(first: int, last: int, _: int) -> Tensor:
            whole = last - first == len(x)
            given = {k: v if whole else v[first:last] for k, v in {"x": x, "t": t, **condition}.items()}
            before, more = tensor_versions(given), {k: given[k] for k in condition}
            try:
                returned = self.model(given["x"], given["t"], **more)
            except torch.OutOfMemoryError:
                check_unchanged(given, before)  # for it is asked again
                raise
            except StopIteration as error:  # in the generators that call it, it would say nothing of the model
                raise ended(self.model, error) from error
            check_unchanged(given, before)
            m = output_tensor(returned, given["x"])
            return m if whole else m.clone()  # a model may reuse the memory of its answer for the next piece

        said = self.room(len(x), ask)
        return said[0] if len(said) == 1 else torch.cat(said)


def ended(model: Model, error: StopIteration) -> RuntimeError:
    """The error of a model that raised StopIteration."""
    name = getattr(model, "__name__", type(model).__name__)
    needed = "needed: an answer; type next(..., None) if it asks an iterator"
    return RuntimeError(f"model: {name} raised {error!r}; {needed}")


def tensor_versions(given: Mapping[str, Tensor]) -> dict[str, int]:
    """How often each tensor was changed so far; torch does not count where nothing is ever differentiated."""
    return {k: v._version for k, v in given.items() if not v.is_inference()}


def check_unchanged(given: Mapping[str, Tensor], before: Mapping[str, int]) -> None:
    """Refuses a model that changed what it was given: its answer would depend on how often it is asked."""
    for name, version in tensor_versions(given).items():
        if version != before[name]:
            raise changed(name)


def changed(name: str) -> ValueError:
    """The error of such a model."""
    return ValueError(
        f"model: given {name}, it changed it in place; needed: a model that leaves its input as it is; "
        f"type {name} = {name}.clone() where it begins"
    )
