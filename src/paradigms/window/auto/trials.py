"""What calls with one window all along came to: facts that overrule the outlook.

    gain(W)    1 - seconds of the call / seconds of stepping,  the upper median of the last few

What is expected was counted with other windows, and of times with few rounds. So a few calls keep to the widest window
of those that are expected to gain most, to the one that gave free calls most rows, and to those next to the best in the
grid, again while chance may be all that they are behind by: calls with one window differ as samples do. The one that
gained most is kept, if that is more than free calls gain.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median, median_high

RECENT, ENOUGH = 15, 2  # calls that count, and those that a window needs to be believed
EVERY = 2, 4  # calls of which one is a trial, where it is not known which window pays, and where it is
FREE, LONG = 8, 100  # calls of which one is free; until all that spoke against windows is forgotten
MORE, FAR = 0.02, 0.2  # of the time of a call: what a window must gain over free calls; what one trial may be wrong by


class WindowTrials:
    """The gains of calls by the window that they kept, 0 for calls that were free."""

    def __init__(self, grid: Sequence[int]) -> None:
        self.grid, self.calls = grid, 0
        self.usual = 0  # the window of most rows in the last free call that had any
        self.gains: dict[int, deque[float]] = {}

    def record(self, W: int, gain: float, used: Mapping[int, int]) -> None:
        """A call that kept a window W, or was free and used windows for so many rows, gained so much."""
        self.gains.setdefault(W, deque(maxlen=RECENT)).append(gain)
        if not W and used:
            self.usual = max(used, key=lambda w: used[w])

    def gain(self, W: int) -> float:
        """What calls with W gain; what else a machine does only ever takes from it."""
        return median_high(self.gains[W]) if W in self.gains else -math.inf

    def next(self, W: int, hopes: Callable[[], Mapping[int, float]], affordable: bool, idle: bool) -> tuple[int, bool]:
        """The window that a call is to keep which would begin with W, or 0, and whether that is no trial: those are
        made where affordable, and in a call that would step where nothing was tried for long. hopes: what a call is
        expected to gain with each window."""
        best = max((w for w in self.gains if w), key=self.gain, default=0)
        sure = self.count(best) >= ENOUGH and self.gain(best) > max(self.gain(0), 0.0) + MORE
        if W == 1 and not sure and not idle:
            return 0, False
        self.calls += 1
        if self.calls % LONG == 0:
            self.gains = {w: self.gains[w] for w in self.gains if w in (0, best)}
        if self.usual and affordable and (self.calls % EVERY[sure] == 0 or (W == 1 and idle)):
            likely = dict.fromkeys(w for w in self.near(best, hopes()) if self.count(w) < RECENT)
            new = next((w for w in likely if self.promising(w)), 0)
            if new or (W == 1 and self.promising(best)):
                return new or best, False
        return (best, True) if sure and self.calls % FREE else (0, False)

    def promising(self, W: int) -> bool:
        """Whether W may yet be the best, as far as calls with one window differ."""
        n = self.count(W)
        return not n or self.gain(W) > max(map(self.gain, self.gains)) - (2 * self.spread() / n**0.5 if n > 1 else FAR)

    def spread(self) -> float:
        """How far a call is from the median of its window's, in the median."""
        several = [(found, median(found)) for found in self.gains.values() if len(found) > 1]
        return median([abs(v - usual) for found, usual in several for v in found])

    def near(self, best: int, hopes: Mapping[int, float]) -> list[int]:
        """The windows that may be best, the likeliest first."""
        most = max(hopes.values(), default=0.0)
        hoped = max((w for w, gain in hopes.items() if gain > most - MORE), default=self.usual)
        i = self.grid.index(best or hoped)
        near = best or hoped, hoped, self.usual, *self.grid[i + 1 : i + 2], *self.grid[max(i - 1, 0) : i]
        return [w for w in near if w == self.usual or w in hopes]

    def count(self, W: int) -> int:
        """How many calls are known of W."""
        return len(self.gains.get(W, ()))
