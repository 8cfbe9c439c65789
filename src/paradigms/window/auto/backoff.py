"""How long windows that do not pay are left alone: twice as long each time that they are tried in vain.

span  <-  min(2 span + 1, most),    calls in a row that are not asked; then one is
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Backoff:
    """Calls in a row that step and are not asked whether to.

    Args:
        left: how many of them are to come.
        span: how many there were the last time, 0 where windows paid.
        why: the reason, for a report.
        controller: what such a call is given in place of being asked.
    """

    left: int = 0
    span: int = 0
    why: str | None = None
    controller: Any = None

    def lengthen(self, most: int) -> None:
        """Windows were tried in vain: the next calls are left alone, at most so many."""
        self.span = self.left = min(2 * self.span + 1, most)

    def end(self) -> None:
        """The next call is asked, and if that is in vain the one after it is the only one left alone."""
        self.span = self.left = 0

    def skips(self) -> bool:
        """Whether a call is not asked; it is then one less that is to come."""
        skipped = self.left > 0
        self.left -= skipped
        return skipped
