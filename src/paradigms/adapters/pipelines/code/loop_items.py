"""What a loop runs over: all of it is known before the first step, or the loop is not run in windows.

| a loop over                                                   | is read                                         |
| lists, tensors, ranges, progress bars                         | at once                                         |
| `enumerate`, `zip` and the like of these, made for the loop   | at once                                         |
| a generator, any other iterator, one that a local holds too   | never: what comes next may depend on the steps  |

A list is watched: a step that changes it changes the steps that follow.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable
from typing import Any

from ...report import ProgressBar
from .rewrite import UnparallelError

EAGER = (enumerate, zip, reversed, itertools.islice, itertools.chain,
         *map(type, (iter([]), iter(()), iter(range(0)), iter({}), iter({}.values()), iter({}.items()))))  # fmt: skip


class LoopItems:
    """The items of a loop; raises UnparallelError for what cannot be read at once. held: the locals around the loop."""

    def __init__(self, items: Any, held: Iterable[Any]) -> None:
        if hasattr(type(items), "__next__") and any(v is items for v in held):
            raise UnparallelError(f"its loop runs over an iterator ({type(items).__name__}) that its steps can reach")
        self.lists = [(v, list(v)) for v in lists_below(items)]

    def check(self) -> None:
        """Raises UnparallelError where a list that the loop runs over is another by now."""
        for now, was in self.lists:
            if len(now) != len(was) or any(v is not w for v, w in zip(now, was, strict=True)):
                raise UnparallelError("its steps change the list that its loop runs over")


def lists_below(items: Any) -> list[list[Any]]:
    """The lists that something takes its items from."""
    found, waiting = [], [items]
    while waiting:
        v = waiting.pop()
        if isinstance(v, list):
            found.append(v)
        elif isinstance(v, EAGER):
            below = gc.get_referents(v)
            below += [w for pair in below if isinstance(pair, tuple) for w in pair if hasattr(type(w), "__next__")]
            waiting += [w for w in below if isinstance(w, list) or hasattr(type(w), "__next__")]
        elif hasattr(type(v), "__next__"):
            raise UnparallelError(
                f"its loop runs over an iterator ({type(v).__name__}), which its steps may decide about"
            )
        elif isinstance(v, ProgressBar):
            waiting.append(v.items)
        elif hasattr(type(v), "__iter__") and hasattr(v, "iterable"):  # tqdm's bars
            waiting.append(v.iterable)
    return found
