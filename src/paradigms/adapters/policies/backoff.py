"""Leaves calls to the policy's own loop where stepping is fastest: that loop steps faster than a table does.

span  <-  min(2 span + 1, MOST),    calls in a row that are left to the policy's own loop; then one is weighed anew

A call under window="auto" that was stepped from end to end lengthens the span, one that used windows ends it. What
"auto" waits for before it tries windows goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

# Calls in a row: of a policy that acts ten times a second, some seconds. Chosen by hand.
MOST = 64


@dataclass
class Backoff:
    """Calls in a row that step and are not asked whether to.

    Args:
        left: how many of them are to come.
        span: how many there were the last time, 0 where windows paid.
        why: the reason, for a report.
    """

    left: int = 0
    span: int = 0
    why: str | None = None


_backoffs: WeakKeyDictionary[Any, dict[Hashable, Backoff]] = WeakKeyDictionary()


def backoff(network: Any, call: Hashable) -> Backoff:
    """What is known of calls like this one of a network; it dies with the network."""
    return _backoffs.setdefault(network, {}).setdefault(call, Backoff())


def weigh(known: Backoff, windows: tuple[int, ...], why: str | None = None) -> None:
    """A call came to these windows, and where it was stepped, for this reason."""
    known.why = why
    known.span = known.left = min(2 * known.span + 1, MOST) if max(windows, default=1) == 1 else 0
