"""Whether a chain's nodes have room: at worst all rows are nodes, and a chain that draws noise is kept with it.

bytes = (STATES + 1 if noise is drawn) N B bytes(state) + N^2 scalars        <= SHARE of what is free
"""

from __future__ import annotations

import os

import torch

# Of a row's state: where it was evaluated, the answer there, e, the state now; and as much again twice while the chain
# is run on the surrogate. Counted in `stops.py` and `measure.py`.
STATES, SHARE = 10, 0.8


def bytes_needed(N: int, B: int, state: int, drawn: bool) -> int:
    """Bytes for N rows of B samples of `state` bytes each, all of them nodes."""
    return (STATES + drawn) * N * B * state + 3 * 8 * N * N


def bytes_free(device: torch.device) -> int | None:
    """Bytes that are free on a device, None where nobody can say."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as file:
            found = dict(line.split(":", 1) for line in file)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def why_no_room(N: int, B: int, state: int, drawn: bool, device: torch.device) -> str | None:
    """Why there is no room for the nodes, None where there is."""
    need, have = bytes_needed(N, B, state, drawn), bytes_free(device)
    if have is None or need <= SHARE * have:
        return None
    return f"the nodes of {N} rows may need {need / 2**30:.2g} GiB and {have / 2**30:.2g} are free"
