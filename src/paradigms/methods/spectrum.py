"""A state by spatial frequency: an orthonormal cosine transform of its axes, and bands of similar frequencies.

    v = C x,   C = product over the axes of sqrt(2 / L) cos(pi (i + 1/2) k / L),   C C^T = 1
    f = |k / L| max L,   band 0: f = 0,   band j: f in [2^((j-1)/2), 2^(j/2))

Before anything is known of the data, a band's variance is that of natural pictures, lambda_f ~ 1 / (1 + f^2), scaled
so that a state's mean variance is 1/2. The axes, by the shape of one state:

| state              | axes transformed     |
| (C, H, W)          | H, W                 |
| (C, T, H, W)       | T, H, W              |
| (T, A)             | T: a row of actions  |
| (L, C), grid given | the grid of tokens   |
| (d,)               | none: one band       |
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Frequency bands an octave. Chosen by hand.
BANDS_AN_OCTAVE = 2
# The mean variance of the coordinates of data, before anything is known of them. Chosen by hand.
VARIANCE = 0.5
# States of up to this many places are transformed by one matrix over all axes, in place of one an axis. Chosen by hand.
SINGLE_MATRIX_PLACES = 256


@dataclass(frozen=True)
class Spectrum:
    """The transform of states of one shape; coordinates are (W, B, C, S), the S places of C channels.

    Attributes:
        shape: Of a state, with its tokens on their grid.
        places: The axes of the shape that are transformed.
        cosines: The transform C (L, L) of each such axis, or one of all of them.
        bands: (F, S), 1 where a place is in a band and 0 elsewhere.
        count: Coordinates in a band (F,).
        prior: Variance of one coordinate of a band (F,), before anything is known of the data.
    """

    shape: tuple[int, ...]
    places: tuple[int, ...]
    cosines: tuple[Tensor, ...]
    bands: Tensor
    count: Tensor
    prior: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Coordinates (W, B, C, S) of states x (W, B, ...)."""
        (W, B), v = x.shape[:2], x
        if self._moves:
            v = v.reshape(W, B, *self.shape).permute(self._there)
        lengths = self._lengths
        for axis in range(-1, -1 - len(lengths), -1):
            v = matrix_times(self.cosines[axis], self._transposed[axis], v, axis, lengths)
        return v.reshape(W, B, -1, math.prod(lengths))

    def inverse(self, v: Tensor, like: Tensor) -> Tensor:
        """States shaped as `like` (W, B, ...) of coordinates v (W, B, C, S)."""
        (W, B), x, lengths = v.shape[:2], v, self._lengths
        for axis in range(-1, -1 - len(lengths), -1):
            x = matrix_times(self._transposed[axis], self.cosines[axis], x, axis, lengths)
        if self._moves:
            x = x.reshape(W, B, *(self.shape[axis - 2] for axis in self._there[2:])).permute(self._back)
        return x.reshape(W, B, *like.shape[2:])

    def sums(self, u: Tensor, v: Tensor) -> Tensor:
        """sum of u v over each band (W, B, F), coordinates u, v (W, B, C, S)."""
        (W, B, C, S), square = u.shape, u * v
        if C > 1:
            square = square.sum(2)
        return (square.view(-1, S) @ self._bands).view(W, B, -1)

    def spread(self, c: Tensor) -> Tensor:
        """Coefficients of coordinates (..., 1, S) from those of bands (..., F)."""
        return c.unsqueeze(-2).index_select(-1, self.band)

    def alike(self, other: Spectrum) -> bool:
        """Whether the coordinates are the same."""
        return self.shape == other.shape and self.places == other.places

    @property
    def size(self) -> float:
        """The norm of a state before anything is known of it."""
        return math.sqrt(VARIANCE * math.prod(self.shape))

    @functools.cached_property
    def _bands(self) -> Tensor:
        """bands, as `sums` reads it."""
        return self.bands.T.contiguous()

    @functools.cached_property
    def band(self) -> Tensor:
        """The band (S,) of each place."""
        return self.bands.argmax(0)

    @functools.cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Of the axes that `cosines` transform."""
        return tuple(len(C) for C in self.cosines)

    @functools.cached_property
    def _transposed(self) -> tuple[Tensor, ...]:
        """What takes coordinates back."""
        return tuple(C.T for C in self.cosines)

    @functools.cached_property
    def _there(self) -> tuple[int, ...]:
        """The axes of (W, B, *shape) with those that are transformed at the end."""
        kept = (axis for axis in range(len(self.shape)) if axis not in self.places)
        return (0, 1, *(2 + axis for axis in (*kept, *self.places)))

    @functools.cached_property
    def _moves(self) -> bool:
        """Whether any axis does not lie where it is wanted."""
        return self._there != tuple(range(len(self._there)))

    @functools.cached_property
    def _back(self) -> tuple[int, ...]:
        return tuple(self._there.index(axis) for axis in range(len(self._there)))


def matrix_times(M: Tensor, M_T: Tensor, v: Tensor, axis: int, lengths: Sequence[int]) -> Tensor:
    """M v along an axis < 0 of v, whose last axes have such lengths; M_T: its transpose. The axes before may be joined.

    The last two axes by plain products, the fastest: axes of 96 and of 256 places take less time so than in halves.
    """
    if axis == -1:
        return v.reshape(-1, lengths[-1]) @ M_T
    if axis == -2:
        v = v.reshape(-1, *lengths[-2:])
        return torch.bmm(M.expand(len(v), -1, -1), v)
    return torch.tensordot(v.reshape(-1, *lengths), M, ([len(lengths) + axis + 1], [1])).movedim(-1, axis)


def spectrum_of(x: Tensor, grid: Sequence[int] | None = None) -> Spectrum:
    """The `Spectrum` of states x (B, ...); grid: how many tokens (L, C) lie along each axis of their picture.

    Raises ValueError where a grid does not hold the tokens.
    """
    check_grid(grid, x.shape[1])
    return _spectrum(tuple(x.shape[1:]), None if grid is None else tuple(grid), x.dtype, x.device)


@functools.lru_cache(maxsize=16)
def _spectrum(
    shape: tuple[int, ...], grid: tuple[int, ...] | None, dtype: torch.dtype, device: torch.device
) -> Spectrum:
    places = transformed_axes(shape)
    if grid is not None:
        shape, places = (*grid, *shape[1:]), tuple(range(len(grid)))
    lengths = [shape[axis] for axis in places]
    f = torch.zeros(lengths, dtype=torch.float64)
    for i, L in enumerate(lengths):
        k = torch.arange(L, dtype=torch.float64) * max(lengths) / L
        f = f + k.square().reshape([-1 if j == i else 1 for j in range(len(lengths))])
    f = f.sqrt().flatten()  # (S,)
    band = torch.where(f < 1, -1, (BANDS_AN_OCTAVE * f.clamp(min=1).log2() + 1e-9).floor())
    band = band.unique(return_inverse=True)[1]
    bands = torch.nn.functional.one_hot(band).T.double()  # (F, S)
    places_of = bands.sum(1)
    prior = bands @ (1 / (1 + f**2)) / places_of
    prior = prior * VARIANCE * places_of.sum() / (prior * places_of).sum()
    count = places_of * (math.prod(shape) // len(f))
    each = [cosine_matrix(L).to(device, dtype) for L in lengths]
    if 1 < len(f) <= SINGLE_MATRIX_PLACES:
        each = [functools.reduce(torch.kron, each)]
    return Spectrum(shape, places, tuple(each), *(v.to(device, dtype) for v in (bands, count, prior)))


def check_grid(grid: Sequence[int] | None, tokens: int | None = None) -> None:
    """Raises ValueError unless a grid is a few whole numbers from 1, and holds so many tokens where they are known."""
    if grid is None:
        return
    ok = isinstance(grid, Sequence) and len(grid) > 0 and all(type(k) is int and k > 0 for k in grid)
    if not ok or isinstance(grid, str):
        raise ValueError(
            f"grid: given {grid!r}; needed: how many tokens lie along each axis, such as (16, 16), or None"
        )
    if tokens is not None and math.prod(grid) != tokens:
        raise ValueError(f"grid: given {tuple(grid)}, {math.prod(grid)} places; needed: {tokens}, one a token")


def transformed_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a state of `shape` along which neighbours are alike."""
    return {1: (), 2: (0,)}.get(len(shape), tuple(range(1, len(shape))))


def cosine_matrix(L: int) -> Tensor:
    """The orthonormal cosine transform C (L, L), float64."""
    k = torch.arange(L, dtype=torch.float64)
    C = torch.cos(math.pi * (k + 0.5) * k[:, None] / L) * math.sqrt(2 / L)
    C[0] /= math.sqrt(2)
    return C
