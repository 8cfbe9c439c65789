"""The difference between the results of two calls: every picture, array and tensor in them as one vector.

error = |x - y| / |y|,     y the call step by step
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def error(made: Any, plain: Any) -> float:
    """The relative error of what a call made; infinity where it is of another form, or not finite."""
    a, b = list(result_tensors(made)), list(result_tensors(plain))
    if [v.shape for v in a] != [w.shape for w in b] or not a:
        return float("inf") if a or b else 0.0
    off, size = (sum(float(v.square().sum()) for v in vs) for vs in ([v - w for v, w in zip(a, b, strict=True)], b))
    value = (off / size) ** 0.5 if size else off**0.5
    return value if value == value else float("inf")


def result_tensors(v: Any) -> Iterator[Tensor]:
    """All that has numbers in what a call made, in float64."""
    if isinstance(v, Tensor):
        yield v.detach().to("cpu", torch.float64)
    elif hasattr(v, "__array_interface__"):  # pictures and arrays
        yield as_tensor(v)
    elif isinstance(v, Mapping):
        for x in v.values():
            yield from result_tensors(x)
    elif isinstance(v, list | tuple):
        for x in v:
            yield from result_tensors(x)
    elif hasattr(v, "values") and isinstance(v.values, Mapping):  # what a modular pipeline gives
        yield from result_tensors(v.values)


def as_tensor(v: Any) -> Tensor:
    """A picture or an array as a tensor."""
    if hasattr(v, "tobytes") and hasattr(v, "getbands"):
        return torch.frombuffer(bytearray(v.tobytes()), dtype=torch.uint8).double()
    return torch.as_tensor(v).double()
