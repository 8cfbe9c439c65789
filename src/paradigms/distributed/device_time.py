"""The time, once a device has done its work: GPUs work asynchronously."""

from __future__ import annotations

import time

import torch


def now(device: torch.device | None) -> float:
    """Seconds, once a device has done what it was given; None: the GPU that is current, if one is in use."""
    if (torch.cuda.is_available() and torch.cuda.is_initialized()) if device is None else device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
