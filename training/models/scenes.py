"""Endless 32x32 landscapes: sky by the time of day, sun or moon, hills or sea, then objects front to back.

A scene is painted from the farthest layer to the nearest, so near things hide far ones: the sun sets behind
hills and mountains, trees stand in front of houses or behind them, sails cover the horizon. The label is
time * 4 + kind with time in TIMES and kind in KINDS. All randomness comes from one torch.Generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas

TIMES = ("day", "sunset", "night")
KINDS = ("house", "boat", "trees", "mountains")
CLASSES = len(TIMES) * len(KINDS)

SKY_TOP = torch.tensor([[0.16, 0.48, 0.95], [0.36, 0.16, 0.52], [0.01, 0.02, 0.13]])
SKY_LOW = torch.tensor([[0.74, 0.91, 1.00], [1.00, 0.58, 0.18], [0.13, 0.17, 0.44]])
LIGHT = torch.tensor([[1.00, 1.00, 1.00], [0.84, 0.58, 0.56], [0.40, 0.46, 0.70]])
LAMP = torch.tensor([[1.00, 0.95, 0.45], [1.00, 0.86, 0.42], [0.96, 0.96, 0.86]])
WALLS = torch.tensor([[0.96, 0.92, 0.82], [0.95, 0.78, 0.36], [0.55, 0.76, 0.90], [0.93, 0.60, 0.56]])
ROOFS = torch.tensor([[0.78, 0.16, 0.12], [0.45, 0.24, 0.14], [0.26, 0.27, 0.40]])
SAILS = torch.tensor([[0.98, 0.98, 0.96], [0.92, 0.18, 0.16], [0.98, 0.80, 0.12], [0.16, 0.62, 0.46]])
GREENS = torch.tensor([[0.13, 0.46, 0.16], [0.32, 0.58, 0.14], [0.78, 0.48, 0.10]])


@dataclass
class Draw:
    """The canvas of one group of scenes with its generator and the time of day of each scene (N,)."""

    canvas: Canvas
    generator: torch.Generator
    time: Tensor

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(self.time), generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        return (torch.rand(len(self.time), generator=self.generator) < probability).float()

    def pick(self, palette: Tensor) -> Tensor:
        return palette[torch.randint(len(palette), (len(self.time),), generator=self.generator)]

    def lit(self, colour: Tensor) -> Tensor:
        return colour * LIGHT[self.time]

    def rgb(self, r: float, g: float, b: float) -> Tensor:
        return self.lit(torch.tensor([[r, g, b]]).expand(len(self.time), 3))


def sky(draw: Draw, horizon: Tensor) -> Tensor:
    """Sky gradient down to the horizon, then a sun (low at sunset) or a crescent moon; returns its x."""
    c, low = draw.canvas, (draw.time == 1).float()
    c.gradient(SKY_TOP[draw.time], SKY_LOW[draw.time], horizon)
    x, r = draw.uniform(0.12, 0.88), draw.uniform(0.07, 0.09) + 0.035 * low
    y = draw.uniform(0.10, 0.26) * (1 - low) + (horizon - draw.uniform(-0.02, 0.10)) * low
    lamp = c.disc(x, y, r)
    moon = (draw.time == 2).float().view(-1, 1, 1)
    lamp = lamp * (1 - moon * c.disc(x + 0.6 * r, y - 0.25 * r, 0.85 * r))
    c.paint(lamp, LAMP[draw.time])
    return x


def hills(draw: Draw, base: Tensor, height: float, colour: Tensor) -> None:
    """A rolling ridge around y = base."""
    c = draw.canvas
    wave = torch.sin(6.2832 * (c.x * draw.uniform(0.6, 1.3).view(-1, 1, 1) + draw.uniform(0, 1).view(-1, 1, 1)))
    c.paint(c.below(base.view(-1, 1, 1) - height * wave), draw.lit(colour))


def tree(draw: Draw, x: Tensor, foot: Tensor, size: Tensor, pine: bool, shown: Tensor | None = None) -> None:
    """A round tree, or a pine of two stacked triangles, `size` tall, standing at (x, foot)."""
    c = draw.canvas
    on = torch.ones_like(x) if shown is None else shown
    on = on.view(-1, 1, 1)
    c.paint(on * c.box(x - 0.10 * size, x + 0.10 * size, foot - 0.45 * size, foot), draw.rgb(0.40, 0.24, 0.10))
    if pine:
        green = draw.rgb(0.05, 0.34, 0.20)
        c.paint(on * c.trapezoid(x, foot - 0.72 * size, foot - 0.15 * size, 0 * x, 0.36 * size), green)
        c.paint(on * c.trapezoid(x, foot - size, foot - 0.45 * size, 0 * x, 0.28 * size), 1.25 * green)
    else:
        green = draw.lit(draw.pick(GREENS))
        c.paint(on * c.disc(x, foot - 0.66 * size, 0.36 * size), 0.8 * green)
        c.paint(on * c.disc(x - 0.05 * size, foot - 0.71 * size, 0.27 * size), 1.1 * green)


def house(draw: Draw, x: Tensor, foot: Tensor, w: Tensor) -> None:
    """Walls, a gable roof, a door and a window whose light is on in the evening."""
    c, tall = draw.canvas, draw.uniform(0.95, 1.25)
    top, peak = foot - w * tall, foot - w * (tall + draw.uniform(0.75, 1.0))
    c.paint(c.box(x - w, x + w, top, foot), draw.lit(draw.pick(WALLS)))
    c.paint(c.trapezoid(x, peak, top, 0.15 * w, 1.25 * w), draw.lit(draw.pick(ROOFS)))
    side = 2 * draw.chance(0.5) - 1
    door, window = x - 0.45 * w * side, x + 0.42 * w * side
    c.paint(c.box(door - 0.24 * w, door + 0.24 * w, foot - 0.72 * w, foot), draw.rgb(0.36, 0.18, 0.08))
    evening = (draw.time > 0).float()[:, None]
    glass = evening * torch.tensor([[1.0, 0.86, 0.30]]) + (1 - evening) * torch.tensor([[0.22, 0.40, 0.66]])
    c.paint(c.box(window - 0.28 * w, window + 0.28 * w, foot - 0.80 * w, foot - 0.30 * w), glass)


def boat(draw: Draw, x: Tensor, water: Tensor, w: Tensor, shown: Tensor | None = None) -> None:
    """A hull with a mast and two sails of one colour."""
    c = draw.canvas
    on = (torch.ones_like(x) if shown is None else shown).view(-1, 1, 1)
    tall, sail = draw.uniform(1.7, 2.2) * w, draw.lit(draw.pick(SAILS))
    deck, side = water - 0.38 * w, (2 * draw.chance(0.5) - 1) * w
    c.paint(on * c.trapezoid(x + 0.36 * side, deck - tall, deck - 0.12 * w, 0 * x, 0.36 * w, -0.36 * side), sail)
    c.paint(
        on * c.trapezoid(x - 0.30 * side, deck - 0.8 * tall, deck - 0.12 * w, 0 * x, 0.26 * w, 0.26 * side),
        0.85 * sail,
    )
    c.paint(on * c.box(x - 0.05 * w, x + 0.05 * w, deck - tall, deck), draw.rgb(0.30, 0.18, 0.10))
    c.paint(on * c.trapezoid(x, deck, water, w, 0.62 * w), draw.rgb(0.52, 0.22, 0.12))


def house_scene(draw: Draw) -> None:
    horizon = draw.uniform(0.58, 0.68)
    sky(draw, horizon)
    hills(draw, horizon - 0.06, 0.05, torch.tensor([[0.36, 0.56, 0.42]]))
    x, foot = draw.uniform(0.30, 0.70), horizon + draw.uniform(0.12, 0.18)
    side = 2 * draw.chance(0.5) - 1
    hills(draw, horizon + 0.03, 0.02, torch.tensor([[0.38, 0.68, 0.22]]))
    tree(draw, x + 0.24 * side, foot - 0.05, draw.uniform(0.42, 0.52), False, draw.chance(0.6))
    house(draw, x, foot, draw.uniform(0.17, 0.22))
    tree(draw, x - 0.27 * side, foot + 0.08, draw.uniform(0.36, 0.50), False, draw.chance(0.6))


def boat_scene(draw: Draw) -> None:
    c, horizon = draw.canvas, draw.uniform(0.46, 0.58)
    lamp = sky(draw, horizon)
    hills(draw, horizon - 0.01, 0.05, torch.tensor([[0.38, 0.52, 0.56]]))
    c.paint(c.below(horizon), draw.rgb(0.08, 0.36, 0.66))
    ripple = 0.25 + 0.25 * torch.sin(6.2832 * (c.y - horizon.view(-1, 1, 1)) * 8)
    path = c.trapezoid(lamp, horizon, horizon * 0 + 1.05, 0.04 + 0 * lamp, 0.12 + 0 * lamp)
    c.paint(path * ripple, LAMP[draw.time])
    far = draw.chance(0.5)
    boat(draw, draw.uniform(0.10, 0.90), horizon + 0.05, draw.uniform(0.07, 0.09), far)
    boat(draw, draw.uniform(0.28, 0.72), horizon + draw.uniform(0.16, 0.30), draw.uniform(0.20, 0.26))


def trees_scene(draw: Draw) -> None:
    horizon = draw.uniform(0.56, 0.68)
    sky(draw, horizon)
    hills(draw, horizon - 0.07, 0.07, torch.tensor([[0.32, 0.52, 0.46]]))
    hills(draw, horizon + 0.03, 0.04, torch.tensor([[0.46, 0.72, 0.22]]))
    start, step = draw.uniform(0.10, 0.24), draw.uniform(0.26, 0.32)
    order = [0, 2, 1]
    for near, k in enumerate(order):
        tree(
            draw,
            start + k * step,
            horizon + 0.08 + 0.08 * near + draw.uniform(-0.02, 0.02),
            draw.uniform(0.46, 0.58) + 0.05 * near,
            False,
            draw.chance(0.8) if near < 2 else None,
        )


def mountains_scene(draw: Draw) -> None:
    c, horizon = draw.canvas, draw.uniform(0.66, 0.76)
    sky(draw, horizon - 0.12)
    left = 2 * draw.chance(0.5) - 1
    for k, grey in enumerate((0.62, 0.48)):
        x = 0.5 + left * (1 - 2 * k) * draw.uniform(0.12, 0.30)
        top, slope = draw.uniform(0.12, 0.26) + 0.10 * k, draw.uniform(0.75, 1.05)
        bottom = horizon + 0.15
        c.paint(c.trapezoid(x, top, bottom, 0 * x, slope * (bottom - top)), draw.rgb(grey, 0.92 * grey, grey))
        c.paint(c.trapezoid(x, top, top + 0.14, 0 * x, slope * 0.14), draw.rgb(0.97, 0.98, 1.0))
    hills(draw, horizon, 0.03, torch.tensor([[0.28, 0.54, 0.26]]))
    for near in range(3):
        place = draw.uniform(0.05, 0.95)
        tree(
            draw,
            place,
            horizon + 0.10 + 0.06 * near,
            draw.uniform(0.30, 0.40) + 0.04 * near,
            True,
            draw.chance(0.75),
        )


PAINTERS: tuple[Callable[[Draw], None], ...] = (house_scene, boat_scene, trees_scene, mountains_scene)


def labelled_scenes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` scenes (count, 3, 32, 32) in [-1, 1] with labels time * 4 + kind (count,), int64.

    Equal generator states give equal pictures for equal `count`; another seed gives unseen data.
    Raises ValueError for a negative count.
    """
    if count < 0:
        raise ValueError(f"count is {count}; give the number of scenes, 0 or more")
    label = torch.randint(CLASSES, (count,), generator=generator)
    pictures = torch.empty(count, 3, 32, 32)
    for kind, painter in enumerate(PAINTERS):
        rows = (label % len(KINDS) == kind).nonzero()[:, 0]
        if len(rows):
            draw = Draw(Canvas(len(rows)), generator, label[rows] // len(KINDS))
            painter(draw)
            pictures[rows] = draw.canvas.picture()
    return pictures, label


def scenes(count: int, generator: torch.Generator) -> Tensor:
    """`count` scenes (count, 3, 32, 32) in [-1, 1]; see `labelled_scenes` for determinism and errors."""
    return labelled_scenes(count, generator)[0]
