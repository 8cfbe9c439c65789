"""The animation as a file: the window slides along the chain, the samples sharpen, the sequential sampler creeps.

Frames share one palette made of their own pixels, so that colours neither drift nor flicker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..files import write_whole
from .frame import draw_frame
from .palette import DRAWN
from .story import Story

# The most frames; a longer run shows every second round, or every third. Chosen by hand.
MOST = 90
# Rows of pixels of each drawn colour in the sheet that the palette is made from. Chosen by hand.
SWATCH = 20
HOLD_FIRST, HOLD_LAST = 700, 2600  # milliseconds


def write_gif(path: Path, story: Story) -> None:
    """Write the animation of a story as a GIF that repeats for ever."""
    pages = list(range(0, len(story.parallel), max(math.ceil(len(story.parallel) / MOST), 1)))
    pages = sorted({*pages, len(story.parallel) - 1})
    frames = [draw_frame(story, round) for round in [0, *(page + 1 for page in pages)]]
    palette = shared_palette(frames)
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    pace = 90 if len(flat) > 40 else 125
    durations = [HOLD_FIRST, *[pace] * (len(flat) - 2), HOLD_LAST][-len(flat) :]
    with write_whole(path) as partial:
        flat[0].save(partial, "GIF", save_all=True, append_images=flat[1:], duration=durations, loop=0, disposal=1)


def shared_palette(frames: Sequence[Image.Image]) -> Image.Image:
    """One palette for all frames: of a few of them, and of swatches of the drawing's colours, so that none is lost."""
    some = [frames[round(k * (len(frames) - 1) / 7)] for k in range(8)] + list(frames[-2:])
    wide, high = frames[0].size
    sheet = Image.new("RGB", (wide, high * len(some) + SWATCH * len(DRAWN)))
    for k, frame in enumerate(some):
        sheet.paste(frame, (0, k * high))
    for k, colour in enumerate(DRAWN):
        top = high * len(some) + k * SWATCH
        sheet.paste(colour, (0, top, wide, top + SWATCH))
    return sheet.quantize(255, method=Image.Quantize.MEDIANCUT)
