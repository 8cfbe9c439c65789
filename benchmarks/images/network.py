"""The paper's image networks as rows in, rows out: built by their published configurations, timed, weighed.

T(M) seconds of a call of M rows, and the bytes that it takes at its peak; a row of sd2 is two of the network's, with
and without the prompt.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paradigms.execution.chunked import Model
from paradigms.execution.guidance import Guided
from paradigms.rules import ddpm
from paradigms.schedule import linear, scaled_linear
from paradigms.system import System

from . import published

LONG = 5.0  # seconds from which on a call is timed once
MOST = 60.0  # and from which on no larger one is tried
REPEATS, GUIDANCE = 5, 7.5


@dataclass(frozen=True)
class Spec:
    """A published model: its hub id, its network's class in diffusers, its configuration, and a small one."""

    hub: str
    kind: str
    config: dict[str, Any]
    small: dict[str, Any]
    prediction: str
    guided: bool


SPECS = {
    "sd2": Spec(
        "stabilityai/stable-diffusion-2",
        "UNet2DConditionModel",
        published.SD2_UNET,
        published.SMALL_SD2,
        "v",
        True,
    ),
    **{
        name: Spec(f"google/ddpm-{name}-256", "UNet2DModel", published.CHURCH, published.SMALL_CHURCH, "epsilon", False)
        for name in ("church", "bedroom")
    },
}


@dataclass(frozen=True)
class Network:
    """A network on a device, rows x (M, *shape) in and outputs out, and the chain that it is sampled with."""

    name: str
    model: Model
    shape: tuple[int, int, int]
    system: System
    parameters: int
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Point:
    """A call of so many rows: its seconds, and the bytes it took at its peak, weights not counted."""

    rows: int
    seconds: float
    memory: int | None


def build(spec: Spec, *, small: bool = False, device: torch.device | str = "cpu") -> nn.Module:
    """The network by its published configuration, or the small one; on "meta" nothing is filled."""
    import diffusers

    with torch.device("meta"):
        net = getattr(diffusers, spec.kind)(**spec.config | (spec.small if small else {}))
    if torch.device(device).type == "meta":
        return net.eval()
    net = net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for weight in net.parameters():  # of the size that keeps activations finite; their values matter to nothing here
        fan = prod(weight.shape[1:]) if weight.ndim > 1 else 1
        weight.data.normal_(0, 0.5 / fan**0.5, generator=generator) if weight.ndim > 1 else weight.data.fill_(0.5)
    return net.to(device).eval()


def network(name: str, net: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> Network:
    """The network of a spec as the sampler calls it, guided where the published rows are."""
    spec = SPECS[name]
    net = (net if next(net.parameters()).dtype == dtype else net.to(dtype)).to(device).eval()
    config: Any = net.config
    side = int(config.sample_size)
    count = sum(p.numel() for p in net.parameters())

    def plain(x: Tensor, t: Tensor, **prompt: Tensor) -> Tensor:
        more = {"encoder_hidden_states": prompt["prompt"]} if prompt else {}
        return net(x.to(dtype), t, **more, return_dict=False)[0]

    model: Model = plain
    if spec.guided:
        words = torch.randn(2, 77, int(config.cross_attention_dim), generator=torch.Generator().manual_seed(0))
        some, none = words.to(device, dtype)
        guided = Guided(plain, GUIDANCE, prompt=none)

        def model(x: Tensor, t: Tensor) -> Tensor:
            return guided(x, t, prompt=some.expand(len(x), *some.shape))

    schedule = scaled_linear() if spec.guided else linear()
    system = ddpm(schedule, 1000, prediction=spec.prediction)
    shape = (int(config.in_channels), side, side)
    return Network(name, model, shape, system, count, device, dtype)


def call(net: Network, M: int) -> Callable[[], Tensor]:
    """A call of M rows of noise."""
    x = torch.randn(M, *net.shape, generator=torch.Generator().manual_seed(0)).to(net.device, net.dtype)
    t = net.system.t[torch.arange(M) % len(net.system)].to(net.device)

    def once() -> Tensor:
        with torch.no_grad():
            return net.model(x, t)

    return once


def measure(net: Network, rows: Iterable[int], tell: Callable[[str], None]) -> list[Point]:
    """Points of rising rows, until one takes too long or there is no room: the least of repeats after one call."""
    found: list[Point] = []
    for M in rows:
        try:
            once = call(net, M)
            once()  # to warm up
            gauge = Gauge(net.device)
            seconds = timed(once, net.device)
            memory = gauge.peak()
            if seconds < LONG:
                seconds = min(seconds, *(timed(once, net.device) for _ in range(REPEATS)))
        except (torch.cuda.OutOfMemoryError, MemoryError):
            tell(f"{M} rows: no room")
            break
        found.append(Point(M, seconds, memory))
        tell(f"{M} rows: {seconds:.3g} s" + ("" if memory is None else f", {memory / 2**20:.0f} MiB"))
        if seconds > MOST:
            break
    return found


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, to its end on the device."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Gauge:
    """Bytes taken above what there was at first: on a GPU torch's own count, on Linux the process's resident set."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.first: int | None = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back to the system
                Path("/proc/self/clear_refs").write_text("5")  # and the peak is counted anew
            self.first = resident("VmRSS")

    def peak(self) -> int | None:
        """Bytes; None where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - (self.first or 0)
        high = resident("VmHWM")
        return None if high is None or self.first is None else max(high - self.first, 0)


def resident(what: str) -> int | None:
    """VmRSS or VmHWM of this process in bytes, on Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(what)), None)
