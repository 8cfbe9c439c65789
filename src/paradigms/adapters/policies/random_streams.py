"""The random streams that a call may draw from, kept and put back: torch's, NumPy's, Python's, given generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...noise import Generators, default_generator


class RandomStreams:
    """Where the streams stand now."""

    def __init__(self, device: torch.device, generator: Generators | None = None) -> None:
        several = generator if isinstance(generator, Sequence) else [generator]
        self.generators = [(g, g.get_state()) for g in several if isinstance(g, torch.Generator)]
        self.torch, self.python = torch.get_rng_state(), random.getstate()
        self.device = device
        self.state = stream_position(device)
        self.numpy: Any = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None

    def restore(self) -> None:
        """Puts them back to where they stood."""
        for generator, state in self.generators:
            generator.set_state(state)
        torch.set_rng_state(self.torch)
        random.setstate(self.python)
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.state, self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(self.state)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


def stream_position(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Where the stream stands that a call on `device` draws from: its generator's, or torch's own."""
    if generator is not None:
        return generator.get_state()
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def positions(device: torch.device, generator: torch.Generator | None) -> list[Any]:
    """Where all streams stand that a call on `device` may draw from, in values that can be compared."""
    now = RandomStreams(device)
    numpy = repr([v.tolist() if hasattr(v, "tolist") else v for v in now.numpy or ()])
    torchs = [stream_position(device, g).tolist() for g in (None, generator)]
    return [torchs, now.python, numpy]


def seed_streams(device: torch.device, number: int) -> None:
    """Seeds torch's own streams that a call on `device` draws from, and no other device's."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        default_generator(device).manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)
