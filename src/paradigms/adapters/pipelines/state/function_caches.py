"""Functions with a cache of `functools`: which they are, and what their caches hold."""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Iterator
from typing import Any

CACHED: Any = type(functools.lru_cache(print))  # what lru_cache makes of a function


def cached_results(function: Any) -> Iterator[Any]:
    """What the cache of a function holds: its results, and keys that are no tuples."""
    bounded = function.cache_parameters()["maxsize"] is not None
    for v in gc.get_referents(function):
        if v is vars(function) or type(v) is object or isinstance(v, tuple | type | types.FunctionType):
            continue
        if isinstance(v, dict) and not bounded:
            yield from v.values()
        elif not (isinstance(v, dict) and all(type(w).__name__ == "_lru_list_elem" for w in v.values())):
            yield v
