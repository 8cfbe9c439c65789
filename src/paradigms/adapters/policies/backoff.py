"""Where stepping is soonest, the policy's own loop steps sooner still: it has nothing to weigh.

A call under window="auto" that was stepped from end to end leaves the next ones to the policy's own loop, at first one,
then twice as many each time, at most MOST; then it is weighed anew. A call that used windows ends that.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

MOST = 64


@dataclass
class Rest:
    """How many calls are left to the policy's own loop, how many were the last time, and why."""

    left: int = 0
    span: int = 0
    why: str | None = None

    def weighed(self, windows: tuple[int, ...], why: str | None = None) -> None:
        """A call came to these windows, and where it was stepped, for this reason."""
        self.why = why
        self.span = min(2 * self.span or 1, MOST) if max(windows, default=1) == 1 else 0
        self.left = self.span


_rests: WeakKeyDictionary[Any, dict[Hashable, Rest]] = WeakKeyDictionary()


def rest(network: Any, call: Hashable) -> Rest:
    """What is known of calls like this one of a network; it dies with the network."""
    return _rests.setdefault(network, {}).setdefault(call, Rest())
