"""A network, and a whole sequential step, as something that a GPU replays without Python.

    network, M rows of a size S >= M:    inputs[:M] <- x, t, condition;   replay;   outputs[:M]
    step:                                x <- a[n] x + b[n] D + c[n] z[n],   n <- n + 1

A graph has fixed shapes and fixed addresses, so inputs are copied into tensors that stay, and a batch of M rows is
padded to the next of a few sizes: rows are answered one by one, so what the others hold does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paradigms.execution.chunked import Model
from paradigms.system import System

from .device import Cpu


class Held(NamedTuple):
    """A captured call: the tensors that it reads, the one that it writes, and its replay."""

    given: dict[str, Tensor]
    said: list[Tensor]
    replay: Callable[[], object]


class Captured:
    """A network whose calls are captured, once for each of some batch sizes; larger batches get their own.

    calls: how many were replayed. One at a time, for all calls share their memory.
    """

    def __init__(self, model: Model, device: Cpu, sizes: Sequence[int]) -> None:
        self.model, self.device, self.sizes = model, device, sorted(sizes)
        self.held: dict[Any, Held] = {}
        self.pool, self.calls = device.pool(), 0

    def __call__(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the network says of x (M, ...)."""
        M, given = len(x), {"x": x, "t": t, **condition}
        size = next((s for s in self.sizes if s >= M), M)
        key = size, *((k, v.dtype, tuple(v.shape[1:])) for k, v in given.items())
        if key not in self.held:
            self.held[key] = self.hold(given, size)
        held = self.held[key]
        for k, v in given.items():
            held.given[k][:M].copy_(v)
        held.replay()
        self.calls += 1
        return held.said[0][:M].clone()  # the next replay writes there again

    def hold(self, given: Mapping[str, Tensor], size: int) -> Held:
        """A captured call of so many rows, at first all of them the first of what is given."""
        kept = {k: v[:1].expand(size, *v.shape[1:]).clone() for k, v in given.items()}
        said: list[Tensor] = []

        def work() -> None:
            with torch.no_grad():
                said[:] = [self.model(kept["x"], kept["t"], **{k: kept[k] for k in kept if k not in ("x", "t")})]

        return Held(kept, said, self.device.capture(work, self.pool))


class CapturedSteps:
    """The sequential sampler, each step one replay: what stepping can be made of at best.

    Raises ValueError for a rule that needs more than the last output of the network.
    """

    def __init__(
        self, model: Model, system: System, x: Tensor, device: Cpu, condition: Mapping[str, Tensor] | None = None
    ) -> None:
        if system.taps > 1:
            raise ValueError(f"steps: given a rule of {system.taps} taps; needed: one of 1, such as ddpm or ddim")
        self.model, self.condition, self.N = model, dict(condition or {}), len(system)
        self.system = system.to(x.device, x.dtype)
        self.x, self.n = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.z = x.new_zeros(self.N, *x.shape)
        self.replay = device.capture(self.step)

    def step(self) -> None:
        """One step, in place."""
        system, n = self.system, self.n
        with torch.no_grad():
            shown = system.denoiser.show(self.x, n)
            m = self.model(shown, system.t[n], **self.condition).to(self.x.dtype)
            D = system.denoiser.read(shown, m, n)
            self.x.copy_(system.step(self.x[None], D[None], self.z.index_select(0, n[:1]), n[None])[0])
            n.add_(1)

    def __call__(self, x: Tensor, z: Tensor | None) -> Tensor:
        """The sample of starting noise x (B, ...) and the noise z (N, B, ...) of its steps, if it has any."""
        self.x.copy_(x)
        self.n.zero_()
        if z is not None:
            self.z.copy_(z)
        for _ in range(self.N):
            self.replay()
        return self.x.clone()
