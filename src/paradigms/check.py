"""Bad input is refused before any work: every message says what was given and what is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .noise import Generators
from .pace import AbstractPace
from .system import System


def check_problem(
    system: System,
    x: Tensor,
    window: int | str | AbstractPace,
    generator: Generators | None,
    noise: Tensor | None,
    condition: Mapping[str, Tensor] | None,
) -> None:
    """Raises ValueError where a sampling problem is not one."""
    check_window(window)
    if not isinstance(x, Tensor) or x.ndim < 2 or not x.is_floating_point() or x.numel() == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"x: given {shape}; needed: a floating-point tensor (batch, ...), such as system.noise((1, 3, 32, 32))"
        )
    check_finite("x", x)
    B = len(x)
    if noise is not None:
        if tuple(noise.shape) != (len(system), *x.shape):
            raise ValueError(f"noise: given {tuple(noise.shape)}; needed: {(len(system), *x.shape)}, one row a step")
        check_finite("noise", noise)
    if generator is not None and not isinstance(generator, torch.Generator) and len(generator) != B:
        raise ValueError(f"generator: given {len(generator)}; needed: one, or one for each of the {B} samples")
    for name, value in (condition or {}).items():
        if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != B:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"condition {name!r}: given {shape}; needed: a tensor with {B} rows, one a sample")


def check_window(window: Any) -> None:
    """Raises ValueError for what is no window."""
    number = isinstance(window, int) and not isinstance(window, bool) and window >= 1
    if not (number or window == "auto" or isinstance(window, AbstractPace)):
        raise ValueError(f"window: given {window!r}; needed: a whole number of rows, at least 1, or 'auto'")


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity, and say where the first one is."""
    bad = (~torch.isfinite(value)).nonzero()
    if len(bad):
        raise ValueError(f"{name}: not finite at index {tuple(bad[0].tolist())}; needed: finite values")
