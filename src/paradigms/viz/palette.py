"""The colours of every picture, and samples as pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

ACCENT, FRESH = "#ff9f43", "#ffd9a3"  # done, done in this round
PAPER, INK, GREY, FAINT = "#ffffff", "#1c2230", "#6b7485", "#dfe3ea"  # still pictures
NIGHT, LIGHT, DIM = "#0f1320", "#eef1f6", "#8d97aa"  # the animation: behind, text
TRACK, WINDOW, BEAM, LENS, REST = "#283044", "#94602d", "#33291f", "#1b2233", "#5b6782"  # and its chain
DRAWN = (ACCENT, FRESH, NIGHT, LIGHT, DIM, TRACK, WINDOW, BEAM, LENS, REST)


def pixels(x: Tensor) -> Pixels:
    """States x (B, C, H, W) in [-1, 1] as (B, H, W, 3) bytes; grey where C is not 3."""
    x = x.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round()
    if x.shape[1] != 3:
        x = x[:, :1].expand(-1, 3, -1, -1)
    return x.byte().permute(0, 2, 3, 1).contiguous().numpy()


def difference(x: Tensor, y: Tensor, times: float) -> Pixels:
    """`times` |x - y| of states (B, C, H, W), black where they agree, as (B, H, W, 3) bytes."""
    return pixels((x - y).abs() * times - 1)


def enlarge(picture: Pixels, side: int) -> Pixels:
    """A picture (H, W, 3) with every pixel repeated, so that it is at most `side` high and wide."""
    by = max(side // max(picture.shape[:2]), 1)
    return picture.repeat(by, 0).repeat(by, 1)
