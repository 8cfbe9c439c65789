"""One frame of the animation, for a glance: where both samplers are after the same number of rounds.

title                                            DDPM, 1000 steps: 28 rounds instead of 1000
one step at a time | round | 80 steps at a time  the states both have
lanes                                            every row of the chain: done, in the window, still to come
lens                                             the window enlarged: how far each row moves, and the tolerance
"""

from __future__ import annotations

import math

import torch
from PIL import Image
from torch import Tensor

from .canvas import Canvas
from .palette import ACCENT, BEAM, DIM, FRESH, LENS, LIGHT, REST, TRACK, WINDOW, pixels
from .record import Moment
from .story import Story

LEFT, RIGHT = 128, 768  # of the chain
ROOM, TOP, GAP = (274, 204), 108, 6  # for the samples of one sampler
ONE, MANY, DEPTH = 352, 366, 26  # the lanes of both samplers
ABOVE, BELOW = 412, 464  # the lens
# It shows changes from 1/100 of the tolerance to 100 times it. Chosen by hand.
DECADES = 2


def draw_frame(story: Story, round: int) -> Image.Image:
    """The frame after `round` rounds, 0 being the start."""
    canvas = Canvas()
    now = story.parallel[round - 1] if round else None
    done = now.done if now else torch.zeros(len(story.start), dtype=torch.long)
    finished = story.converged and round == len(story.parallel)
    row, evaluations = int(done.min()), now.evaluations if now else 0
    canvas.text((32, 30), story.title, 25, LIGHT)
    canvas.text((32, 60), story.subtitle, 13, DIM)
    draw_samples(canvas, 169, story.sequential[round - 1] if round else story.start)
    draw_samples(canvas, 631, now.states if now else story.start)
    canvas.text((169, 92), "one step at a time", 14, LIGHT, "mm")
    canvas.text((631, 92), f"{story.window} step{'s' * (story.window != 1)} at a time", 14, ACCENT, "mm")
    canvas.text((169, 328), f"step {round} of {story.rows}", 13, DIM, "mm")
    canvas.text((631, 328), "finished" if finished else f"step {row} of {story.rows}", 13, ACCENT, "mm")
    canvas.text((400, 160), f"round{'s' * finished * (round != 1)}", 14, DIM, "mm")
    canvas.text((400, 204), str(round), 66, ACCENT if finished else LIGHT, "mm")
    if finished:
        canvas.text((400, 250), f"instead of {story.rows}", 14, DIM, "mm")
    draw_lanes(canvas, story, round, now, done)
    draw_lens(canvas, story, now)
    canvas.text((LEFT, 484), f"{row} of {story.rows} steps done in {round} round{'s' * (round != 1)}", 12, DIM)
    canvas.text((RIGHT, 484), f"{evaluations:,} model evaluations", 12, DIM, "rm")
    return canvas.finish()


def draw_samples(canvas: Canvas, centre: float, states: Tensor) -> None:
    """The samples of one sampler about x = `centre`, as large as they fit."""
    pictures = pixels(states)
    count, grain = len(pictures), max(pictures.shape[1:3])
    side, across = max((side_of_samples(count, columns, grain), columns) for columns in range(1, count + 1))
    step, down = side + GAP, math.ceil(count / across)
    left, top = centre - (across * step - GAP) / 2, TOP + (ROOM[1] - down * step + GAP) / 2
    for k, picture in enumerate(pictures):
        canvas.picture((left + k % across * step, top + k // across * step), picture, side)


def side_of_samples(count: int, columns: int, grain: int) -> float:
    """The side of `count` square samples of `grain` pixels in so many columns: a pixel covers whole fine pixels."""
    most = min((ROOM[0] + GAP) / columns, (ROOM[1] + GAP) / math.ceil(count / columns)) - GAP
    return max(int(2 * most) // grain * grain / 2, most if most * 2 < grain else 0)


def draw_lanes(canvas: Canvas, story: Story, round: int, now: Moment | None, done: Tensor) -> None:
    """The chain from left to right: one lane for the sequential sampler, one for each sample in parallel."""
    canvas.text((LEFT - 14, ONE), "one by one", 12, LIGHT, "rm")
    canvas.text((LEFT - 14, MANY + DEPTH / 2), "in parallel", 12, ACCENT, "rm")
    draw_rows(canvas, story, (0, story.rows), (ONE - 3, ONE + 3), TRACK)
    draw_rows(canvas, story, (0, round), (ONE - 3, ONE + 3), LIGHT)
    here = x_of_row(story, round)
    canvas.box((here - 2, ONE - 6, here + 2, ONE + 6), LIGHT, 2)
    begin = now.begin if now else done
    end = now.end if now else torch.full_like(done, min(story.window, story.rows))
    lane = DEPTH / len(done)
    for b in range(len(done)):
        top, bottom = MANY + b * lane, MANY + (b + 1) * lane - (2 if len(done) <= 4 else 1)
        first, middle, last = int(begin[b]), int(done[b]), int(end[b])
        draw_rows(canvas, story, (0, story.rows), (top, bottom), TRACK)
        draw_rows(canvas, story, (0, first), (top, bottom), ACCENT)
        draw_rows(canvas, story, (first, middle), (top, bottom), ACCENT if middle == story.rows else FRESH)
        draw_rows(canvas, story, (middle, last), (top, bottom), WINDOW)


def draw_lens(canvas: Canvas, story: Story, now: Moment | None) -> None:
    """The window of the slowest sample, enlarged: a bar a row, as high as the row still moves, on a log scale."""
    b = int(now.begin.argmin()) if now else 0
    begin, end = (int(now.begin[b]), int(now.end[b])) if now else (0, min(story.window, story.rows))
    width = (RIGHT - LEFT) / story.window
    right = LEFT + (end - begin) * width
    seen = [(x_of_row(story, begin), MANY + DEPTH), (x_of_row(story, end), MANY + DEPTH), (right, ABOVE), (LEFT, ABOVE)]
    canvas.shape(seen, BEAM)
    canvas.box((LEFT, ABOVE, RIGHT, BELOW), LENS)
    if now:
        draw_bars(canvas, story, now, b)
    middle = (ABOVE + BELOW) / 2
    for x in range(LEFT, RIGHT, 8):
        canvas.box((x, middle - 0.5, x + 4, middle + 0.5), LIGHT)
    canvas.text((LEFT - 14, middle - 18), "still moving", 12, DIM, "rm")
    canvas.text((LEFT - 14, middle), "tolerance", 12, LIGHT, "rm")
    canvas.text((LEFT - 14, middle + 18), "settled", 12, ACCENT, "rm")


def draw_bars(canvas: Canvas, story: Story, now: Moment, b: int) -> None:
    """How far each row of sample b's window moved in this round."""
    width, half = (RIGHT - LEFT) / story.window, (BELOW - ABOVE) / 2
    for w in range(int(now.end[b] - now.begin[b])):
        size = max(float(now.size[w, b]), 1e-30)
        height = half + half * max(min(math.log10(size) / DECADES, 1), -0.9)
        left, accepted = LEFT + w * width, int(now.begin[b]) + w < int(now.done[b])
        bar = (left + width * 0.1, BELOW - height, left + width * 0.9, BELOW)
        canvas.box(bar, FRESH if accepted else REST)


def x_of_row(story: Story, row: float) -> float:
    """Where a row of the chain begins."""
    return LEFT + (RIGHT - LEFT) * row / story.rows


def draw_rows(canvas: Canvas, story: Story, rows: tuple[int, int], lane: tuple[float, float], colour: str) -> None:
    """Rows [begin, end) of the chain, in a lane from its top to its bottom."""
    left, right = (x_of_row(story, row) for row in rows)
    canvas.box((left, lane[0], right, lane[1]), colour)
