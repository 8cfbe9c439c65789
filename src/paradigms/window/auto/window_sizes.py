"""The windows to pick from, and the stretches of steps between two questions: what memory has room for."""

from __future__ import annotations

from functools import lru_cache

GRID = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
ROOM = 2**30  # bytes that the states of a window may take, of which a method holds about a dozen
MOST, KEPT = 256, 2**26  # steps and bytes of states between two questions while stepping


def longest_stretch(size: int) -> int:
    """The most steps in a row of samples of so many bytes, for all that they leave is kept until they are recorded."""
    return max(min(KEPT // (3 * size), MOST), 1)


@lru_cache
def candidate_windows(N: int, B: int, size: int, ranks: int = 1) -> tuple[int, ...]:
    """The windows there are for a chain of N rows and states of so many bytes; all ranks have the same work."""
    even = [W for W in GRID if W * B % ranks == 0] or GRID
    return tuple(W for W in even if W <= N and 12 * W * size <= ROOM)
