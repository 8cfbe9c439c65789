"""A canvas to draw a frame on: twice as fine as the frame, and shrunk in the end, for smooth edges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .palette import NIGHT, Pixels

WIDE, HIGH, FINE = 800, 500, 2
Point = tuple[float, float]
Box = tuple[float, float, float, float]


class Canvas:
    """Text, boxes, lines and pictures in the frame's own pixels (800 x 500)."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDE * FINE, HIGH * FINE), NIGHT)
        self.pen = ImageDraw.Draw(self.image)

    def text(self, at: Point, text: str, size: float, colour: str, anchor: str = "lm") -> None:
        """A line of text; `anchor` as in Pillow: l, m or r and m for the middle of the line."""
        self.pen.text(to_fine_canvas(at), text, fill=colour, font=font(size * FINE), anchor=anchor)

    def box(self, box: Box, colour: str, radius: float = 0) -> None:
        """A filled box (left, top, right, bottom); nothing where it has no width."""
        x0, y0, x1, y1 = to_fine_canvas(box)
        if x1 > x0 and y1 > y0:
            self.pen.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius * FINE, fill=colour)

    def shape(self, points: Sequence[Point], colour: str) -> None:
        """A filled polygon."""
        self.pen.polygon([to_fine_canvas(p) for p in points], fill=colour)

    def picture(self, at: Point, picture: Pixels, side: float) -> None:
        """A picture (H, W, 3), enlarged to `side` without smoothing."""
        high, wide = picture.shape[:2]
        by = side * FINE / max(high, wide)
        size = (round(wide * by), round(high * by))
        large = Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.NEAREST)
        self.image.paste(large, to_fine_canvas(at))

    def finish(self) -> Image.Image:
        """The frame."""
        return self.image.resize((WIDE, HIGH), Image.Resampling.BOX)


def to_fine_canvas(values: tuple[float, ...]) -> Any:
    """Frame coordinates on the fine canvas."""
    return tuple(round(v * FINE) for v in values)


@cache
def font(size: float) -> Any:
    """The typeface that comes with Pillow, so that frames look the same everywhere."""
    return ImageFont.load_default(size)
