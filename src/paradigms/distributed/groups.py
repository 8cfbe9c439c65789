"""The process group of a mesh: how long it waits, and on which device its bytes travel."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.distributed as dist


def group_of(mesh: Any) -> Any:
    """The process group of a mesh; raises ValueError where it is none or has no dimension of its own for this."""
    if isinstance(mesh, str | int | float | list | tuple | dict):
        needed = "a DeviceMesh or a process group; type init_device_mesh('cuda', (ranks,))"
        raise ValueError(f"mesh: given {mesh!r}; needed: {needed}")
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError("mesh: torch.distributed is not initialized; needed: torch.distributed.init_process_group()")
    if isinstance(mesh, dist.ProcessGroup):
        return mesh
    names = getattr(mesh, "mesh_dim_names", None) or ()
    if "time" in names:
        return mesh.get_group("time")
    if getattr(mesh, "ndim", 0) == 1:
        return mesh.get_group()
    given = f"a mesh of {mesh.ndim} dimensions {tuple(names)}" if hasattr(mesh, "ndim") else type(mesh).__name__
    raise ValueError(f'mesh: given {given}; needed: a DeviceMesh of 1 dimension, or one called "time", or a group')


def timeout_of(group: Any) -> float:
    """Seconds that a group waits for a rank: nine tenths of its own timeout, after which NCCL would end the process."""
    for kind in (part.split(":")[0] for part in str(dist.get_backend_config(group)).split(",")):
        with contextlib.suppress(AttributeError, RuntimeError):
            return 0.9 * float(group._get_backend(torch.device(kind)).options._timeout.total_seconds())
    return 300.0


def transport_device(group: Any, device: torch.device) -> torch.device:
    """Where bytes must be for a group to send them: `device`, unless only another can."""
    kinds = dict(kind.split(":") for kind in str(dist.get_backend_config(group)).split(","))
    if kinds.get(device.type, "gloo") != "gloo":
        return device
    return torch.device("cpu" if kinds.get("cpu") else next(iter(kinds)))
