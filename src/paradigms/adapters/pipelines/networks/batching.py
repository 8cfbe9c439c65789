"""R calls of one row as the arguments of one call of R rows, and back: the table in `joined_calls.py`.

join([args[0], .., args[R-1]])   ->   network   ->   [part 0, .., part R-1]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from .network_call import ListLeaf, NetworkCall, same_leaf


class BatchingError(Exception):
    """Why rows are no batch."""


def split_batches(calls: list[NetworkCall], layout: str) -> list[list[int]]:
    """The places of calls that one batch may hold, see `fit_one_batch`."""
    found: list[list[int]] = []
    for k, call in enumerate(calls):
        home = next((part for part in found if fit_one_batch(calls[part[0]], call, layout)), None)
        if home is None:
            found.append([k])
        else:
            home.append(k)
    return found


def fit_one_batch(a: NetworkCall, b: NetworkCall, layout: str) -> bool:
    """Whether two alike calls are told the same where a batch has room for one: what has no axis of the samples."""
    B = len(a.leaves[a.sample])

    def once(v: Any) -> bool:
        rows = isinstance(v, Tensor) and v.numel() > 1 and (v.shape[0] % B or (layout != "rows" and v.shape[0] != B))
        return bool(rows)

    return all(same_leaf(v, w) for v, w in zip(a.leaves, b.leaves, strict=True) if once(v))


def join_calls(calls: list[NetworkCall], halves: int, layout: str, R: int) -> list[Any]:
    """What the network says to one batch of the calls, of R rows; raises UnjoinedError where they are none."""
    first = calls[0]
    rows = calls + [calls[-1]] * (R - len(calls))
    B = len(first.leaves[first.sample])
    leaves = [
        join([c.leaves[i] for c in rows], B, halves, "rows" if i == first.sample else layout)
        for i in range(len(first.leaves))
    ]
    try:
        said, spec = tree_flatten(first.run(leaves))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a network says to a batch that it does not take
        raise BatchingError(describe_error(error)) from error
    parts = [split_leaf(v, R, B, halves) for v in said]
    return [tree_unflatten([p[r] for p in parts], spec) for r in range(len(calls))]


def describe_error(error: Exception) -> str:
    """An error in a line, and only its class where it cannot say what it is."""
    try:
        return f"{type(error).__name__}: {str(error)[:120]}"
    except Exception:  # an error whose words are made by code that fails
        return type(error).__name__


def join(values: list[Any], B: int, halves: int, layout: str) -> Any:
    """One argument of a batch, of the same argument of its rows."""
    v, R = values[0], len(values)
    if isinstance(v, ListLeaf):
        b = len(v) // halves
        return ListLeaf(x for g in range(halves) for w in values for x in w[g * b : (g + 1) * b])
    if not isinstance(v, Tensor):
        return v
    one = all(w is v or torch.equal(w, v) for w in values)
    if one and (layout == "shared" or (layout == "exact" and v.ndim and v.shape[0] != B)):
        return v
    if v.ndim == 0:
        if one:
            return v
        wide = torch.stack([w.expand(B) for w in values])  # (R, G b)
    elif v.shape[0] % B == 0:
        wide = torch.stack(values)  # (R, G b, ...)
    elif v.numel() == 1:
        wide = torch.stack([w.reshape(1).expand(B) for w in values])
    else:
        return v  # equal in all, see `fit_one_batch`
    return wide.unflatten(1, (halves, -1)).transpose(0, 1).flatten(0, 2) if R > 1 else values[0]


def split_leaf(v: Any, R: int, B: int, halves: int) -> list[Any]:
    """What a batch's output says of each of its R rows."""
    if not isinstance(v, Tensor):
        return [v] * R
    if v.ndim == 0 or v.shape[0] % (R * B):
        raise BatchingError(f"an output of shape {tuple(v.shape)} has no axis of {R} rows of {B} samples")
    return [w.flatten(0, 1) for w in v.unflatten(0, (halves, R, -1)).unbind(1)]
