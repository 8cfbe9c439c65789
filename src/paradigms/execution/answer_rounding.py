"""How coarse a model's answers are, in relative rounding: that of their dtype, or of a network inside a function.

eps(answer dtype)  where it is coarser than the states' dtype, else that of the digits that the answers use
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .chunked import Model
from .model_modules import modules_of
from .model_output import grain


class AnswerRounding:
    """The rounding of what one model, `source`, answers: `relative`, 0 where it is no coarser than the states."""

    def __init__(self, source: Model) -> None:
        self.source, self.relative = source, 0.0
        self.found = False  # whether answers in the dtype of the states have told what they are rounded to

    def note(self, m: Tensor, states: torch.dtype) -> None:
        """Takes answers m (M, ...) to states of a dtype into account."""
        if m.dtype != states:
            self.relative = max(self.relative, coarser_rounding(m.dtype, states))
        elif not self.found and (inside := network_rounding(m, self.source)) is not None:
            self.relative, self.found = max(self.relative, inside), True


def network_rounding(m: Tensor, source: Model) -> float | None:
    """The relative rounding of a network inside `source`, from its answers m and the dtypes of its weights.

    0 if it is none beyond that of m's dtype, None if the answers do not tell.
    """
    found = grain(m)
    if found == 0 and m.dtype == torch.float64 and not isinstance(source, nn.Module):  # answers may be scaled
        inside = {p.dtype for each in modules_of(source) for p in each.parameters() if p.is_floating_point()}
        if inside and torch.float64 not in inside:
            return torch.finfo(torch.float32).eps
    return found


def coarser_rounding(given: torch.dtype, than: torch.dtype) -> float:
    """The relative rounding of numbers that are coarser than others, 0 where they are not."""
    eps = torch.finfo(given).eps
    return eps if eps > torch.finfo(than).eps else 0.0
