"""The devices of this machine, by the names that `--device` takes: cpu, cuda, cuda:1, mps, xpu."""

from __future__ import annotations

import torch

from ..files import brief_name


def available_devices() -> list[str]:
    """The names of all devices that can be used, the CPU first."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{k}" for k in range(1, torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    if torch.xpu.is_available():
        found += ["xpu", *(f"xpu:{k}" for k in range(1, torch.xpu.device_count()))]
    return found


def device_named(name: str | None) -> torch.device:
    """The device of a name, of None the first CUDA GPU or else the CPU; raises ValueError that names what is there."""
    known = available_devices()
    if name is None:
        return torch.device("cuda" if "cuda" in known else "cpu")
    if name not in known and name.removesuffix(":0") not in known:
        raise ValueError(f"--device is {brief_name(name)}, which is not here; type {' or '.join(known)}")
    found = torch.device(name)
    try:
        torch.empty(1, device=found)
    except RuntimeError as error:  # a GPU that is taken, or broken
        why = " ".join(str(error).split())[:160]
        raise ValueError(f"--device is {name!r}, which cannot be used ({why}); type {' or '.join(known)}") from error
    return found
