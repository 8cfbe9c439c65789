"""Captioned landscapes: a scene is a row of choices, one per factor of FACTORS, and its caption says some of them.

A row of choices (time, lamp, backdrop, ground, subject, colour) is drawn with the shapes of `training.models.scenes`
and told as short phrases, "a boat with red sails, a white moon over the sea, snowy mountains, at night". Every phrase
and every adjective is left out now and then and the phrases are shuffled, so that a model learns words one by one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.canvas import Canvas
from ..models.scenes import GREENS, ROOFS, SAILS, SKY_LOW, SKY_TOP, Draw, boat, hills, house, tree

SIZE = 64
TIMES = ("day", "sunset", "night")
LAMPS = ("yellow", "red", "white")
BACKDROPS = ("hills", "mountains", "snowy mountains")
GROUNDS = ("meadow", "sea", "snow", "desert")
SUBJECTS = ("nothing", "house", "trees", "pines", "boat")
GROUND_NAMES = (("a meadow", "a green meadow"), ("the sea", "a blue sea"), ("snow",), ("a desert",))
ROOF_NAMES, SAIL_NAMES, TREE_NAMES = ("red", "brown", "blue"), ("white", "red", "yellow", "green"), ("green", "orange")
FACTORS = ("time", "lamp", "backdrop", "ground", "subject", "colour")

LAMP = torch.tensor([[1.00, 0.90, 0.30], [0.93, 0.13, 0.10], [0.98, 0.98, 0.95]])
GROUND = torch.tensor([[0.38, 0.68, 0.22], [0.08, 0.36, 0.66], [0.93, 0.95, 1.00], [0.90, 0.72, 0.40]])
HILLS = torch.tensor([[0.34, 0.54, 0.44], [0.38, 0.52, 0.56], [0.70, 0.78, 0.88], [0.72, 0.52, 0.32]])


@dataclass
class Record(Draw):
    """A Draw whose palettes of `told` are not picked from at random: `told` pairs a palette with indices (N,)."""

    told: tuple[tuple[Tensor, Tensor], ...] = ()

    def pick(self, palette: Tensor) -> Tensor:
        for known, index in self.told:
            if palette is known:
                return palette[index]
        return super().pick(palette)


def choices(count: int, generator: torch.Generator) -> Tensor:
    """`count` random rows (count, 6) of choices, int64; boats stand on the sea, everything else on land."""
    upto = [len(TIMES), len(LAMPS), len(BACKDROPS), len(GROUNDS), 10, 12]
    rows = torch.stack([torch.randint(n, (count,), generator=generator) for n in upto], dim=1)
    land, sea = torch.tensor([1, 1, 1, 1, 2, 2, 2, 3, 3, 0]), torch.tensor([4, 4, 4, 4, 4, 4, 4, 4, 0, 0])
    rows[:, 4] = torch.where(rows[:, 3] == 1, sea[rows[:, 4]], land[rows[:, 4]])
    return rows


def draw_scenes(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the scenes (N, 3, 64, 64) in [-1, 1] of rows of choices (N, 6).

    Raises ValueError where a row puts a boat on land or something else on the sea.
    """
    afloat, sea = rows[:, 4] == 4, rows[:, 3] == 1
    if ((afloat & ~sea) | (sea & (rows[:, 4] > 0) & ~afloat)).any():
        raise ValueError("a boat (subject 4) needs the sea (ground 1), and only a boat or nothing stands there")
    pictures = torch.empty(len(rows), 3, SIZE, SIZE)
    group = (rows[:, 2] * len(GROUNDS) + rows[:, 3]) * len(SUBJECTS) + rows[:, 4]
    for key in group.unique().tolist():
        here = (group == key).nonzero()[:, 0]
        part = rows[here]
        colour = part[:, 5]
        told = ((ROOFS, colour % 3), (SAILS, colour % 4), (GREENS, 2 * (colour % 2)))
        draw = Record(Canvas(len(here), SIZE), generator, part[:, 0], told)
        paint(draw, part[:, 1], BACKDROPS[part[0, 2]], int(part[0, 3]), SUBJECTS[part[0, 4]])
        pictures[here] = draw.canvas.picture()
    return pictures


def paint(draw: Record, lamp: Tensor, backdrop: str, ground: int, subject: str) -> None:
    """Sky, sun or moon, backdrop, ground and subject of a group that shares the last three."""
    c, sea = draw.canvas, GROUNDS[ground] == "sea"
    horizon = draw.uniform(0.50, 0.58) if sea else draw.uniform(0.58, 0.66)
    x = sky(draw, horizon, LAMP[lamp], backdrop != "hills")
    if backdrop == "hills":
        hills(draw, horizon - 0.05, 0.05, HILLS[ground][None])
    else:
        mountains(draw, horizon, backdrop == "snowy mountains")
    if sea:
        c.paint(c.below(horizon), draw.lit(GROUND[ground][None]))
        ripple = 0.3 + 0.3 * torch.sin(6.2832 * (c.y - horizon.view(-1, 1, 1)) * 10)
        c.paint(c.trapezoid(x, horizon, horizon * 0 + 1.05, 0.05 + 0 * x, 0.14 + 0 * x) * ripple, LAMP[lamp])
    else:
        hills(draw, horizon + 0.02, 0.02, GROUND[ground][None])
    subjects(draw, horizon, subject)


def sky(draw: Record, horizon: Tensor, lamp: Tensor, high: bool) -> Tensor:
    """Sky gradient, then a sun (low at sunset unless `high`) or a crescent moon of colour `lamp`; returns its x."""
    c, low = draw.canvas, (draw.time == 1).float()
    c.gradient(SKY_TOP[draw.time], SKY_LOW[draw.time], horizon)
    x, r = draw.uniform(0.14, 0.86), draw.uniform(0.08, 0.10) + 0.02 * low
    sunset = draw.uniform(0.16, 0.26) if high else horizon - draw.uniform(0.06, 0.14)
    y = draw.uniform(0.13, 0.22) * (1 - low) + sunset * low
    moon = (draw.time == 2).float().view(-1, 1, 1)
    c.paint(c.disc(x, y, r) * (1 - moon * c.disc(x + 0.6 * r, y - 0.25 * r, 0.85 * r)), lamp)
    return x


def mountains(draw: Record, horizon: Tensor, snowy: bool) -> None:
    """Two peaks, the farther one lighter, with white caps where `snowy`."""
    c, left = draw.canvas, 2 * draw.chance(0.5) - 1
    for k, grey in enumerate((0.62, 0.46)):
        x = 0.5 + left * (1 - 2 * k) * draw.uniform(0.14, 0.32)
        top, slope = draw.uniform(0.22, 0.32) + 0.06 * k, draw.uniform(0.75, 1.05)
        bottom = horizon + 0.08
        c.paint(c.trapezoid(x, top, bottom, 0 * x, slope * (bottom - top)), draw.rgb(grey, 0.88 * grey, 0.9 * grey))
        if snowy:
            c.paint(c.trapezoid(x, top, top + 0.13, 0 * x, slope * 0.13), draw.rgb(0.97, 0.98, 1.0))


def subjects(draw: Record, horizon: Tensor, subject: str) -> None:
    """A house, a boat, two or three round trees or pines, or nothing, near the middle."""
    x, foot = draw.uniform(0.30, 0.70), horizon + draw.uniform(0.18, 0.26)
    if subject == "house":
        house(draw, x, foot, draw.uniform(0.16, 0.20))
    elif subject == "boat":
        boat(draw, x, horizon + draw.uniform(0.16, 0.30), draw.uniform(0.19, 0.24))
    elif subject != "nothing":
        start, step = draw.uniform(0.12, 0.26), draw.uniform(0.25, 0.31)
        for near, k in enumerate((0, 2, 1)):
            place, size = start + k * step, draw.uniform(0.40, 0.50) + 0.05 * near
            shown = draw.chance(0.7) if near == 0 else None
            tree(draw, place, horizon + 0.12 + 0.07 * near, size, subject == "pines", shown)


def phrases(row: list[int], say: random.Random) -> list[str]:
    """The phrases that tell a row of choices, adjectives left out one time in five."""
    time, lamp, backdrop, ground, subject, colour = row

    def adjective(word: str) -> str:
        return f"{word} " if say.random() < 0.8 else ""

    word = TIMES[time]
    told = [word if say.random() < 0.5 else f"by {word}" if word == "day" else f"at {word}"]
    told.append(f"a {adjective(LAMPS[lamp])}{'moon' if word == 'night' else 'sun'}")
    told.append(BACKDROPS[backdrop] if backdrop < 2 else f"{adjective('snowy')}mountains")
    told.append(say.choice(GROUND_NAMES[ground]))
    if subject == 1:
        told.append("a house" + (f" with a {ROOF_NAMES[colour % 3]} roof" if say.random() < 0.8 else ""))
    elif subject == 4:
        told.append("a boat" + (f" with {SAIL_NAMES[colour % 4]} sails" if say.random() < 0.8 else ""))
    elif subject:
        told.append("pines" if subject == 3 else f"{adjective(TREE_NAMES[colour % 2])}trees")
    return told


def caption(row: list[int], say: random.Random) -> str:
    """A caption of a row of choices: its phrases shuffled, each left out one time in five."""
    time, lamp, backdrop, ground, *subject = phrases(row, say)
    parts = [phrase for phrase in (backdrop, *subject) if say.random() < 0.8]
    if say.random() < 0.4:
        parts.append(f"{lamp} over {ground}")
    else:
        parts += [phrase for phrase in (lamp, ground) if say.random() < 0.8]
    say.shuffle(parts)
    told = ""
    for part in parts:
        told += (say.choice((", ", ", ", " and ")) if told else "") + part
    if say.random() < 0.2:
        return told
    told = f"{told}{' ' if ' ' in time else ', '}{time}" if say.random() < 0.7 else f"{time}, {told}"
    return told.strip(", ")
