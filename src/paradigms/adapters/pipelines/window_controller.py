"""The pace of a pipeline's loop: like the core's, with a step's rows counted and not its networks' calls."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ...window.auto.controller import AutoWindow, resting_window
from ...window.auto.profile import profile_of
from ...window.auto.window_sizes import candidate_windows
from ...window.controller import FixedWindow, WindowController
from ..report import Settings
from .batched_network import is_compiled

PAD = 32  # rows of a batch of compiled networks, which want one size
VISITS = (2e-3, 1.5e-3)  # seconds of a round outside of the networks, and more for each row, until measured


def controller_of(
    settings: Settings, pipe: Any, state: Tensor | None, times: list[Any], ranks: int
) -> WindowController:
    """The pace of a loop over a pipeline's `times`; rows that are no batch are stepped through."""
    if not isinstance(settings.window, str):
        return FixedWindow(settings.window) if isinstance(settings.window, int) else settings.window
    if not settings.batched:
        return FixedWindow(1, why="batched=False evaluates the steps of a window one by one, so windows are not faster")
    x = torch.zeros(1, 1) if state is None or not state.ndim else state
    known = profile_of(pipe, x, ranks=ranks, sweep=VISITS)
    chain = (type(pipe.scheduler).__name__ if hasattr(pipe, "scheduler") else "", len(times), str(times[0]))
    reach = known.acceptance((type(settings.method), type(settings.stop), settings.stop.tolerance, chain), len(times))
    if rest := resting_window(reach, 1):
        return rest
    size = x.numel() * x.element_size()
    sizes = candidate_windows(len(times), 1, size)
    if any(isinstance(m, nn.Module) and is_compiled(m) for m in pipe.components.values()):
        sizes = tuple(W for W in (PAD,) if W in sizes)
    return AutoWindow(known, reach, settings.method, 1, size, sizes)


def copied_or_none(scheduler: Any) -> Any:
    """A scheduler as it is now, None where it cannot be copied."""
    try:
        return copy.deepcopy(scheduler)
    except Exception:  # whatever it holds
        return None
