"""What calls with one window all along came to: facts that overrule the outlook.

    gain(W)    1 - seconds of the call / seconds of stepping,  the upper median of the last few

Rows that were looked at for long settle sooner than q says, which was counted with other windows. So a few calls keep
to the widest of those that are expected to gain most, to the one that gave free calls most rows, and to those next to
the best in the grid; from then on the one that gained most is kept, if that is more than free calls gain.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median_high

RECENT, ENOUGH = 5, 2  # calls that count, and those that a window needs to be believed
EVERY, FREE, LONG = 2, 8, 100  # calls: one is a trial, one is free, all but the best window is forgotten
MORE, FAR = 0.02, 0.1  # of a call's time: what a window must gain over free calls; what one trial is enough to tell


class Whole:
    """The gains of calls by the window that they kept, 0 for calls that were free."""

    def __init__(self, grid: Sequence[int]) -> None:
        self.grid, self.calls = grid, 0
        self.usual = self.widest = 0  # windows of the last free call that had any
        self.gains: dict[int, deque[float]] = {}

    def told(self, W: int, gain: float, used: Mapping[int, int]) -> None:
        """A call that kept a window W, or was free and used windows for so many rows, gained so much."""
        self.gains.setdefault(W, deque(maxlen=RECENT)).append(gain)
        if not W and used:
            self.usual, self.widest = max(used, key=lambda w: used[w]), max(used)

    def gain(self, W: int) -> float:
        """What calls with W gain; what else a machine does only ever takes from it."""
        return median_high(self.gains[W]) if W in self.gains else -math.inf

    def next(self, W: int, hopes: Callable[[], Mapping[int, float]], affordable: bool, idle: bool) -> int:
        """The window that a call is to keep which would begin with W, or 0; trials are made where affordable, and in
        one that would step where nothing was tried for long. hopes: what a call is expected to gain with each."""
        best = max((w for w in self.gains if w), key=self.gain, default=0)
        sure = self.count(best) >= ENOUGH and self.gain(best) > max(self.gain(0), 0.0) + MORE
        if W == 1 and not sure and not idle:
            return 0
        self.calls += 1
        if self.calls % LONG == 0:
            self.gains = {w: self.gains[w] for w in self.gains if w in (0, best)}
        if self.usual and affordable and (self.calls % EVERY == 0 or (W == 1 and idle)):
            least = max(map(self.gain, self.gains)) - FAR
            near = self.near(best, hopes())
            new = [w for w in near if not self.count(w) or (self.count(w) < ENOUGH and self.gain(w) > least)]
            if new or (W == 1 and self.gain(best) > least):
                return new[0] if new else best
        return best if sure and self.calls % FREE else 0

    def near(self, best: int, hopes: Mapping[int, float]) -> list[int]:
        """The windows that may be best, the likeliest first."""
        most = max(*hopes.values(), MORE)
        hoped = max((w for w, gain in hopes.items() if gain > most - MORE), default=self.usual)
        i = self.grid.index(best or hoped)
        all = best or hoped, hoped, self.usual, *self.grid[i + 1 : i + 2], *self.grid[max(i - 1, 0) : i]
        return [w for w in all if w in hopes or w <= self.widest]

    def count(self, W: int) -> int:
        """How many calls are known of W."""
        return len(self.gains.get(W, ()))
