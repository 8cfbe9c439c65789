"""Extra arguments of a model's call: what belongs to a sample goes with its rows, the rest stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def rows_of(
    extra: dict[str, Any], B: int
) -> tuple[dict[str, Tensor], Callable[[Mapping[str, Tensor]], dict[str, Any]]]:
    """The tensors (B, ...) within extra arguments, by a name each, and what puts rows of them in their places again."""
    found: dict[str, Tensor] = {}

    def taken(v: Any) -> Callable[[Mapping[str, Tensor]], Any]:
        if isinstance(v, Tensor) and v.ndim and len(v) == B:
            found[name := f"extra_{len(found)}"] = v
            return lambda rows: rows[name]
        if isinstance(v, dict):
            of_each = {k: taken(w) for k, w in v.items()}
            return lambda rows: {k: w(rows) for k, w in of_each.items()}
        if type(v) in (list, tuple):
            parts = [taken(w) for w in v]
            return lambda rows: type(v)(w(rows) for w in parts)
        return lambda rows: v

    rebuilt = taken(extra)
    return found, rebuilt
