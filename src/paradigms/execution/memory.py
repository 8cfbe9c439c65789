"""Memory that one round frees is there for the next.

glibc gives a chunk above a threshold straight back to the system, which has to clear its pages anew when the next round
asks for as much. The threshold is the size of the largest chunk that was ever freed so, up to 32 MiB, and what is kept
free is at most twice that: one such chunk, never written to, raises both. Source: mallopt(3), M_MMAP_THRESHOLD.
"""

from __future__ import annotations

from functools import cache

import torch

LARGEST = 2**25 - 2**16  # bytes: the threshold grows no further


@cache
def raise_mmap_threshold() -> None:
    """Once in a process, before its first round; elsewhere than with glibc it does nothing."""
    torch.empty(LARGEST, dtype=torch.uint8, device="cpu")
