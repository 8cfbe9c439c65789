"""Where stepping is soonest, the policy's own loop steps sooner still: it has nothing to weigh.

A call under window="auto" that was stepped from end to end leaves the next ones to the policy's own loop; then it is
weighed anew. A call that used windows ends that.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

from ...window.auto.backoff import Backoff

MOST = 64  # calls in a row: of a policy that acts ten times a second, some seconds

_backoffs: WeakKeyDictionary[Any, dict[Hashable, Backoff]] = WeakKeyDictionary()


def backoff(network: Any, call: Hashable) -> Backoff:
    """What is known of calls like this one of a network; it dies with the network."""
    return _backoffs.setdefault(network, {}).setdefault(call, Backoff())


def weigh(known: Backoff, windows: tuple[int, ...], why: str | None = None) -> None:
    """A call came to these windows, and where it was stepped, for this reason."""
    known.why = why
    if max(windows, default=1) == 1:
        known.lengthen(MOST)
    else:
        known.end()
