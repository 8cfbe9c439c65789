"""a. Seconds and peak memory of a call against its rows: T(1), T(2), T(4) ... until there is no room, or it takes long.

eager: as it is called. compiled: by torch.compile. captured: as a CUDA graph for each size, its inputs copied.
compiled, captured: a graph of the compiled network.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from .capture import Captured
from .device import summary
from .estimate import COMPILE, LOAD, Calls, total
from .networks import Network, load
from .settings import Bench, Settings

MODES = ("eager", "captured", "compiled", "compiled, captured")


def measure(bench: Bench, name: str, dtype: str, mode: str) -> dict[str, Any]:
    """Points of rising rows; raises MissingError where the network cannot be made."""
    device, settings = bench.device, bench.settings
    net = load(name, device.where, dtype, settings.small)
    model = device.compiled(net.model) if mode.startswith("compiled") else net.model
    points: list[dict[str, Any]] = []
    for M in settings.sizes:
        found = point(bench, net, model, M, mode)
        points.append(found)
        middle = found.get("seconds", {}).get("median", 0.0)
        if "no room" in found or middle > settings.longest or 3 * settings.repeats * middle > bench.left:
            break
    device.release()
    return {
        "network": name, "dtype": dtype, "mode": mode, "parameters": net.parameters, "shape": net.shape,
        "points": points, "sizes not tried": [M for M in settings.sizes if points[-1]["rows"] < M],
    }  # fmt: skip


def point(bench: Bench, net: Network, model: Any, M: int, mode: str) -> dict[str, Any]:
    """A call of M rows: what the first took, the others' median and spread, and the bytes of one."""
    device = bench.device
    try:
        given = net.batch(M, device.where)
        asked = Captured(model, device, [M]) if mode.endswith("captured") else model

        def call() -> None:
            with torch.no_grad():
                asked(**given)

        began = time.perf_counter()
        memory = device.peak(call)  # the first call, captures and compiles included
        first = time.perf_counter() - began
        seconds = summary(device.timed(call, bench.settings.repeats))
        if mode == "eager":
            memory = device.peak(call)  # without what cuDNN and others set up once
    except device.no_room as error:
        return {"rows": M, "no room": str(error).splitlines()[0][:200]}
    finally:
        device.release()
    return {"rows": M, "seconds": seconds, "first": first, "memory": memory}


def assumed(settings: Settings, name: str, dtype: str, mode: str) -> float:
    """Seconds of the row."""
    way = "compiled" if mode == "compiled" else "captured" if mode.endswith("captured") else "eager"
    calls = [
        Calls(name, M, settings.repeats + 4, dtype, way)
        for M in settings.sizes
        if Calls(name, M, 1, dtype, way).seconds <= settings.longest
    ]
    compiles = COMPILE.get(name, 10.0) * 2 if mode.startswith("compiled") else 0.0  # one row, and any other number
    return total(calls, 0.5 + 0.15 * len(calls) + LOAD.get(name, 0.5) + compiles)
