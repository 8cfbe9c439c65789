"""Classifier-free guidance: two calls of a model, one batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..validate import check_number, in_words, refusal
from .chunked import Model
from .model_output import output_tensor


class Guided(nn.Module):
    """A model with classifier-free guidance, both of its calls in one batch of 2M.

    The output is ``null + scale (conditional - null)``.

    Args:
        model: As in `sample`.
        scale: 1 is no guidance.
        null: For each name of the condition, the value that means "no condition", shaped as one sample's.

    Raises:
        ValueError: No null is given, or it does not fit the condition.

    Source:
        Ho and Salimans 2022.

    Example:
        >>> import torch, paradigms as pd
        >>> guided = pd.Guided(lambda x, t, label: x * label[:, None], scale=3.0, label=0)
        >>> guided(torch.ones(1, 1), torch.zeros(1), label=torch.tensor([2])).item()
        6.0
    """

    def __init__(self, model: Model, scale: float, **null: Tensor | float) -> None:
        super().__init__()
        if not callable(model) or isinstance(model, type):
            raise refusal("model", in_words(model), "a callable model(x, t, **condition)")
        check_number("scale", scale, "a finite number; 1 is no guidance")
        if not null:
            raise refusal("null", "nothing", "by name what means no condition", "Guided(model, 3.0, label=10)")
        for name, value in null.items():
            if not isinstance(value, Tensor | int | float):
                raise refusal(
                    f"null {name!r}", in_words(value), "a number or a tensor shaped as one sample's condition"
                )
        self.model, self.scale, self.null = model, scale, null

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The guided answer to x (M, ...)."""
        self.check(condition)
        none = {
            k: torch.as_tensor(self.null[k], dtype=v.dtype, device=v.device).expand_as(v) for k, v in condition.items()
        }
        both = {k: torch.cat([v, none[k]]) for k, v in condition.items()}
        twice = torch.cat([x, x])
        m, m_null = output_tensor(self.model(twice, torch.cat([t, t]), **both), twice).chunk(2)
        return m_null + self.scale * (m - m_null)

    def check(self, condition: Mapping[str, Tensor]) -> None:
        """Raises ValueError unless there is one null for each name of a condition (M, ...), and it fits."""
        if condition.keys() != self.null.keys():
            given, wanted = ", ".join(condition) or "nothing", ", ".join(self.null)
            typed = f"condition={{{', '.join(f'{k!r}: ...' for k in self.null)}}}"
            raise refusal("condition", given, f"what Guided has a null for: {wanted}", typed)
        for name, v in condition.items():
            null = torch.as_tensor(self.null[name])
            if null.ndim > v.ndim or any(
                k not in (1, m) for k, m in zip(null.shape[::-1], v.shape[::-1], strict=False)
            ):
                raise refusal(
                    f"null {name!r}", in_words(null), f"a number, or the shape of one sample's, {tuple(v.shape[1:])}"
                )
            if not (v.is_floating_point() or v.is_complex()) and not torch.equal(
                null.to(v.dtype).double(), null.double()
            ):
                raise refusal(
                    f"null {name!r}", str(self.null[name]), f"whole numbers, as the condition's {v.dtype} holds"
                )
