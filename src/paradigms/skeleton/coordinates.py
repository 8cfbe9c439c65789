"""A state's coordinates, those of a band side by side: what is one number a band is one product of matrices.

    v[d] = the cosine transform of a state, d in the order of bands, within a band place by place, channel by channel
    edges[f] : edges[f+1] are band f

The Jacobian, and with it all that the chain on the surrogate does, is a number by band.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods.spectrum import Spectrum, spectrum_of

# Coordinates of a state from which bands are gone through one by one; below, one product is faster: of noise, and of
# what is one number a band.
WIDE, LARGE = 1 << 11, 1 << 14


@dataclass(frozen=True)
class BandCoordinates:
    """The coordinates (..., d) of states (...): order (S,) of the spectrum's places and back, the band of each d."""

    spectrum: Spectrum
    order: Tensor
    back: Tensor
    band: Tensor
    edges: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Coordinates (M, d) of states x (M, ...)."""
        v = self.spectrum.forward(x[:, None])[:, 0].transpose(1, 2)  # (M, S, C)
        return v.index_select(1, self.order).flatten(1)

    def inverse(self, v: Tensor, like: Tensor) -> Tensor:
        """States (M, ...) of coordinates (M, d), shaped as those of `like` (B, ...)."""
        v = v.unflatten(1, (len(self.order), -1)).index_select(1, self.back).transpose(1, 2)
        return self.spectrum.inverse(v[:, None], like[:1].expand(len(v), *like.shape[1:])[:, None])[:, 0]

    def spread(self, c: Tensor) -> Tensor:
        """Coefficients of coordinates (..., d) from those of bands (..., F)."""
        return c.index_select(-1, self.band)

    def sums(self, u: Tensor, v: Tensor) -> Tensor:
        """sum of u v over each band (..., F), coordinates u, v (..., d)."""
        if not self.large:
            return (u * v) @ self.member.to(u)
        if u is v:  # one pass, and nothing is stored
            return torch.stack([torch.linalg.vector_norm(u[..., f], dim=-1) for f in self.slices], -1).square_()
        return torch.stack([(u[..., f] * v[..., f]).sum(-1) for f in self.slices], -1)

    def plus(self, v: Tensor, c: Tensor, u: Tensor, out: Tensor | None = None) -> Tensor:
        """v + c u (..., d), c by band (..., F); out may be v."""
        c = c.to(v)
        if not self.large:
            return torch.addcmul(v, self.spread(c), u, out=out)
        out = torch.empty_like(v) if out is None else out
        for f, part in enumerate(self.slices):
            torch.addcmul(v[..., part], c[..., f : f + 1], u[..., part], out=out[..., part])
        return out

    def scale_(self, v: Tensor, c: Tensor) -> Tensor:
        """v (..., d) times c by band (..., F), in its place."""
        c = c.to(v)
        if not self.large:
            return v.mul_(self.spread(c))
        for f, part in enumerate(self.slices):
            v[..., part].mul_(c[..., f : f + 1])
        return v

    def product(self, H: Tensor, U: Tensor) -> Tensor:
        """H U (B, R, d): of each band its H (F, B, R, n) times the coordinates of U (B, n, d)."""
        out = U.new_empty(*H.shape[1:3], U.shape[2])
        for h, u, to in zip(H.unbind(), *(v.split_with_sizes(self.widths, 2) for v in (U, out)), strict=True):
            torch.bmm(h, u, out=to)
        return out

    @functools.cached_property
    def wide(self) -> bool:
        """Whether the noise is kept band by band."""
        return len(self.band) >= WIDE

    @functools.cached_property
    def large(self) -> bool:
        """Whether bands are gone through one by one."""
        return len(self.band) >= LARGE

    @functools.cached_property
    def widths(self) -> list[int]:
        """The coordinates that each band has."""
        return [hi - lo for lo, hi in zip(self.edges, self.edges[1:], strict=False)]

    @functools.cached_property
    def slices(self) -> tuple[slice, ...]:
        """The coordinates of each band."""
        return tuple(slice(lo, hi) for lo, hi in zip(self.edges, self.edges[1:], strict=False))

    @functools.cached_property
    def member(self) -> Tensor:
        """1 where a coordinate is in a band (d, F)."""
        return torch.nn.functional.one_hot(self.band, len(self.edges) - 1).to(self.spectrum.bands)


def coordinates_of(x: Tensor, grid: Sequence[int] | None = None) -> BandCoordinates:
    """The coordinates of states x (B, ...); grid: as in `spectrum_of`."""
    return coordinates_by_band(spectrum_of(x, grid), x[0].numel())


@functools.lru_cache(maxsize=16)
def coordinates_by_band(s: Spectrum, size: int) -> BandCoordinates:
    """The coordinates of states of so many numbers."""
    band = s.bands.argmax(0)
    order = band.argsort(stable=True)
    channels = size // len(order)
    width = s.bands.sum(1).long().cpu() * channels
    each = band[order].repeat_interleave(channels)
    return BandCoordinates(s, order, order.argsort(), each, (0, *width.cumsum(0).tolist()))
