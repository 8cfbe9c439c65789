"""A batch of small canvases on which opaque, antialiased shapes are painted back to front.

Every shape is a coverage mask m in [0, 1]; painting a colour c over the picture p is p <- p + m (c - p).
Masks are computed at twice the resolution from the signed distance d to the edge (in fine pixels) as
m = clamp(d + 1/2, 0, 1), and the finished picture is averaged over 2x2 fine pixels. Coordinates run from
0 (left, top) to 1 (right, bottom); every parameter of a shape is one number per picture, shape (N,).
"""

from __future__ import annotations

import torch
from torch import Tensor

FINE = 2


class Canvas:
    """`count` pictures of `size` x `size` pixels that start black; `paint` covers, `picture` averages."""

    def __init__(self, count: int, size: int = 32) -> None:
        self.scale = float(FINE * size)
        line = (torch.arange(FINE * size) + 0.5) / self.scale
        self.x = line.view(1, 1, -1)
        self.y = line.view(1, -1, 1)
        self.rgb = torch.zeros(count, 3, FINE * size, FINE * size)

    def cover(self, distance: Tensor) -> Tensor:
        """Coverage of the points whose signed distance (in picture widths, inside positive) is given."""
        return distance.mul_(self.scale).add_(0.5).clamp_(0.0, 1.0)

    def paint(self, mask: Tensor, colour: Tensor) -> None:
        """Cover the pictures with `colour` (N, 3) or (N, 3, H, W) where `mask` (N, H, W) says so."""
        if colour.dim() == 2:
            colour = colour[:, :, None, None]
        self.rgb += (colour - self.rgb).mul_(mask[:, None])

    def gradient(self, top: Tensor, bottom: Tensor, end: Tensor) -> None:
        """Fill with a vertical gradient between two colours (N, 3) that is complete at height `end` (N,)."""
        w = (self.y / _col(end)).clamp(max=1.0)[:, None]
        self.rgb = (top[:, :, None, None] * (1 - w) + bottom[:, :, None, None] * w).expand_as(self.rgb).clone()

    def disc(self, cx: Tensor, cy: Tensor, r: Tensor) -> Tensor:
        """A disc of radius `r` around (cx, cy)."""
        return self.cover(_col(r) - ((self.x - _col(cx)) ** 2 + (self.y - _col(cy)) ** 2).sqrt_())

    def box(self, x0: Tensor, x1: Tensor, y0: Tensor, y1: Tensor) -> Tensor:
        """An upright rectangle."""
        across = torch.minimum(self.x - _col(x0), _col(x1) - self.x)
        down = torch.minimum(self.y - _col(y0), _col(y1) - self.y)
        return self.cover(torch.minimum(across, down))

    def trapezoid(
        self, cx: Tensor, top: Tensor, bottom: Tensor, w0: Tensor, w1: Tensor, lean: Tensor | float = 0.0
    ) -> Tensor:
        """Half width `w0` at the top and `w1` at the bottom; `lean` moves the top edge sideways."""
        down = (self.y - _col(top)) / _col(bottom - top)
        shift = (1 - down) * (_col(lean) if isinstance(lean, Tensor) else lean)
        across = _col(w0) + _col(w1 - w0) * down - (self.x - _col(cx) - shift).abs()
        return self.cover(torch.minimum(across, torch.minimum(self.y - _col(top), _col(bottom) - self.y)))

    def below(self, edge: Tensor) -> Tensor:
        """Everything under the line y = edge(x), given as (N,) or (N, 1, W)."""
        return self.cover(
            (self.y - (_col(edge) if edge.dim() == 1 else edge)).expand(len(self.rgb), -1, self.x.shape[-1]).clone()
        )

    def picture(self) -> Tensor:
        """The pictures at their final resolution, in [-1, 1]."""
        return torch.nn.functional.avg_pool2d(self.rgb, FINE).mul_(2).sub_(1).clamp_(-1.0, 1.0)


def _col(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1)
