"""Keeps the memory that one round frees for the next round.

glibc gives a chunk above a threshold straight back to the system, and the system has to clear its pages anew when the
next round asks for as much. The threshold is the size of the largest chunk that was ever given back, up to 32 MiB, and
the memory that is kept free is at most twice that. One such chunk, never written to, raises both. Source: mallopt(3),
M_MMAP_THRESHOLD.
"""

from __future__ import annotations

from functools import cache

import torch

# The chunk that is freed once, in bytes: just below 32 MiB, beyond which the threshold grows no further (mallopt(3)).
LARGEST_CHUNK = 2**25 - 2**16


@cache
def raise_mmap_threshold() -> None:
    """Once in a process, before its first round; elsewhere than with glibc it does nothing."""
    torch.empty(LARGEST_CHUNK, dtype=torch.uint8, device="cpu")
