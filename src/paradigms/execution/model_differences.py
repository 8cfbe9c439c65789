"""How far two answers to the same row may be apart, and what is said where they are farther.

|m - other| / max(|m|, LEAST_ANSWER |x|)  <=  ROUNDING of the least precise dtype that is used
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .model_modules import modules_of
from .model_output import precision

# The relative differences that rounding explains: at the same place of a batch, at another place, in a batch of another
# length. Those of float64 are as wide as those of float32 where places or lengths differ, because a network inside may
# be in float32. Chosen by hand.
ROUNDING = {
    torch.float64: (1e-10, 5e-3, 5e-3),
    torch.float32: (1e-5, 5e-3, 5e-3),
    torch.float16: (1e-3, 1e-2, 0.1),
    torch.bfloat16: (8e-3, 2e-2, 0.1),
}
# Differences are relative to the answer's norm, or to this share of the state's norm where that is more. Chosen by
# hand.
LEAST_ANSWER = 0.01


def rounding_differences(m: Tensor, model: Any, casts: list[torch.dtype]) -> tuple[float, ...]:
    """The `ROUNDING` of the least precise dtype that is known to be used; TF32 is as precise as float16."""
    inside = {p.dtype for v in modules_of(model) for p in v.parameters(recurse=False) if p.is_floating_point()}
    used = {m.dtype, precision(m), *inside, *casts}
    found = [ROUNDING.get(dtype, ROUNDING[torch.bfloat16]) for dtype in used]
    same, place, longer = (max(each) for each in zip(*found, strict=True))
    return same, place, longer if m.device.type == "cpu" else max(longer, ROUNDING[torch.float16][2])


def varying_answers(off: float, culprit: str | None) -> ValueError:
    """The error of a model that answers otherwise when it is asked again."""
    return ValueError(
        f"model: asked the same row twice, its answers differ by {100 * off:.2g} %; needed: one answer to a row, "
        "whenever and wherever in a batch it is asked, no state kept between calls; "
        + evaluation_advice(culprit, "draw what is random before, as a condition, or type window=1")
    )


def mixed_rows(off: float, culprit: str | None) -> ValueError:
    """The error of a model whose rows depend on each other."""
    advice = evaluation_advice(culprit, "t and not t[0] in it, or type window=1")
    return ValueError(
        f"model: rows of a batch depend on each other: beside other rows one answer differs by {100 * off:.2g} %; "
        f"needed: an answer to each row of x and t alone; {advice}"
    )


def evaluation_advice(culprit: str | None, otherwise: str) -> str:
    """What to type."""
    return (culprit or "") + (otherwise if culprit is None or culprit.endswith("or ") else "")


def relative_difference(m: Tensor, other: Tensor, x: Tensor) -> float:
    """The relative difference of answers to x; 0 where one is not finite, which is for others to refuse."""
    off, size = (m - other).double().norm(), torch.maximum(m.double().norm(), LEAST_ANSWER * x.double().norm())
    found = float(off / size.clamp(min=1e-30))
    return found if found < float("inf") else 0.0
