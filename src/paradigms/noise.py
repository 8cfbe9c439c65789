"""The noise of an SDE, drawn as rows enter the window: the same stream as stepping draws, in O(window) memory.

z[n], n = 0, 1, 2, ...        one draw of (B, ...) a row, in row order, and none where c[n] = 0
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .system import System

Generators = torch.Generator | Sequence[torch.Generator]


class Noise:
    """Rows of z for states like x (B, ...), from one generator, from one a sample, or from given rows (N, B, ...)."""

    def __init__(self, system: System, x: Tensor, generator: Generators | None, given: Tensor | None) -> None:
        self.draws = system.drawn
        self.silent = not any(self.draws)
        self.x, self.given = x, None if given is None else given.detach()
        self.generator = default_generator(x.device) if generator is None else generator
        self.first = self.last = 0  # rows held: first <= n < last
        self.held = x.new_empty((0, *x.shape))

    def rows(self, n: Tensor, begin: int, end: int) -> Tensor | None:
        """z (W, B, ...) at rows n (W, B) of which those in [begin, end) matter; rows before `begin` are forgotten.

        One sample's n counts up from `begin`. Rows before the first `begin` are drawn, too, so that the stream is that
        of stepping. Raises ValueError for a row that is forgotten.
        """
        if self.silent:
            return None
        if begin < self.first:
            raise ValueError(f"noise: given row {begin}; needed: {self.first} or later, for rows before are forgotten")
        for row in range(self.last, begin):
            self._draw(row)
        keep = self.held[begin - self.first :]
        new = [self._draw(row) for row in range(max(self.last, begin), end)]
        if new or len(keep) < len(self.held):
            self.held = torch.cat([keep, *new])
        self.first, self.last = begin, max(end, begin, self.last)
        if not len(self.held):
            return self.x.new_zeros((*n.shape, *self.x.shape[1:]))
        if n.shape[1] == 1 and len(n) == len(self.held) and (n.device.type != "cpu" or int(n[0, 0]) == begin):
            return self.held  # one sample's rows, and all of them
        place = (n - self.first).clamp(0, len(self.held) - 1)
        return self.held[place, torch.arange(n.shape[1], device=n.device)]

    def _draw(self, row: int) -> Tensor:
        """z (1, B, ...) of a row."""
        if self.given is not None:
            return self.given[row : row + 1].to(self.x)
        if not self.draws[row]:
            return torch.zeros_like(self.x[None])
        if isinstance(self.generator, torch.Generator):
            return draw_noise((1, *self.x.shape), self.generator, self.x)
        return torch.cat([draw_noise((1, 1, *self.x.shape[1:]), g, self.x) for g in self.generator], 1)


def draw_noise(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard noise of `shape` on the generator's own device, moved to `like`'s."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that torch.manual_seed seeds on `device`."""
    if device.type == "cuda":
        torch.cuda.init()
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    return torch.default_generator


def replica_generators(generator: Generators | None, device: torch.device) -> Generators:
    """Generators that will draw what `generator` is about to draw, without advancing it; one that is given twice is
    one there, too."""
    if generator is None:
        generator = default_generator(device)
    if isinstance(generator, torch.Generator):
        return copied_generator(generator)
    copies = {id(g): copied_generator(g) for g in generator}
    return [copies[id(g)] for g in generator]


def copied_generator(generator: torch.Generator) -> torch.Generator:
    """A generator in the same state."""
    copy = torch.Generator(generator.device)
    copy.set_state(generator.get_state())
    return copy
