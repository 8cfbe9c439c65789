"""The noise of an SDE, drawn as rows enter the window: the same numbers that stepping draws, in O(window) memory.

z[n], n = 0, 1, 2, ...        one draw of (B, ...) a row, in row order, and none where c[n] = 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import torch
from torch import Tensor

from .system import System
from .validate import refusal

# On a CPU torch makes normal numbers in blocks of this many, one uniform number each. So rows of whole blocks are the
# same numbers whether they are drawn at once or one by one. Source: torch, ATen/native/cpu/DistributionTemplates.h.
RANDOM_BLOCK = 16
# The seed of generators while nobody may draw from them: one that no model is likely to set.
MARK = 7_305_118_264_931_577

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

    @property
    def sources(self) -> list[torch.Generator]:
        """The generators that rows are drawn from; none where no row draws, or all are given."""
        if self.silent or self.given is not None:
            return []
        return [self.generator] if isinstance(self.generator, torch.Generator) else list(self.generator)

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
        new = self._draw_rows(max(self.last, begin), end)
        if new or len(keep) < len(self.held):
            self.held = torch.cat([keep, *new])
        self.first, self.last = begin, max(end, begin, self.last)
        if not len(self.held):
            return self.x.new_zeros((*n.shape, *self.x.shape[1:]))
        if n.shape[1] == 1 and len(n) == len(self.held):
            return self.held  # one sample's rows, and all of them
        place = (n - self.first).clamp(0, len(self.held) - 1)
        return self.held[place, torch.arange(n.shape[1], device=n.device)]

    def _draw_rows(self, begin: int, end: int) -> list[Tensor]:
        """z (R, B, ...) of rows [begin, end), piece by piece: of rows that are all drawn or all not, where those drawn
        at once are the same numbers as those drawn one by one."""
        if self.given is not None:
            return [self.given[begin:end].to(self.x)] if begin < end else []
        alone = isinstance(self.generator, torch.Generator) and self.generator.device.type == "cpu"
        if not (alone and self.x.numel() % RANDOM_BLOCK == 0):
            return [self._draw(row) for row in range(begin, end)]
        runs = [(drawn, len(list(run))) for drawn, run in groupby(self.draws[begin:end])]
        return [self._draw_alike(drawn, R) for drawn, R in runs]

    def _draw(self, row: int) -> Tensor:
        """z (1, B, ...) of a row."""
        return self.given[row : row + 1].to(self.x) if self.given is not None else self._draw_alike(self.draws[row], 1)

    def _draw_alike(self, drawn: bool, R: int) -> Tensor:
        """z (R, B, ...) of rows that are drawn, or 0."""
        x, g = self.x, self.generator
        if not drawn:
            return x.new_zeros((R, *x.shape))
        if isinstance(g, torch.Generator):
            return draw_noise((R, *x.shape), g, x)
        return torch.cat([draw_noise((R, 1, *x.shape[1:]), each, x) for each in g], 1)


def draw_noise(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard noise of `shape` on the generator's own device, moved to `like`'s."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that torch.manual_seed seeds on `device`."""
    if device.type == "cuda":
        torch.cuda.init()
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    return torch.default_generator


@contextmanager
def reserved(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Within it nobody may draw from the generators of the noise; raises ValueError where a model did.

    A window draws the noise of its rows before the model is called, and stepping in between. They have a state of their
    own meanwhile, for a model that seeds them may leave them where they were.
    """
    states = [g.get_state() for g in generators]
    marked = [g.manual_seed(MARK).get_state() for g in generators]
    try:
        yield
        moved = [g for g, mark in zip(generators, marked, strict=True) if not torch.equal(g.get_state(), mark)]
    finally:
        for g, state in zip(generators, states, strict=True):
            g.set_state(state)
    if moved:
        own = any(g is default_generator(g.device) for g in moved)
        given = "torch's own random numbers" if own else "a generator"
        needed = "one that the noise of the rows alone is drawn from"
        typed = "generator=torch.Generator().manual_seed(0), or window=1"
        raise refusal("generator", f"{given}, which the model draws from, too", needed, typed)


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
