"""The window of a pipeline's loop: the core's controllers, which count steps here and not the networks' calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ....window.auto.controller import powers_of_two, window_of
from ....window.auto.profile import round_times
from ....window.controller import FixedWindow, WindowController
from ...report import Settings
from ...schedulers.scheduler_copy import copy_scheduler
from ..networks.joined_calls import is_compiled

# Rows of a batch of compiled networks, which want one size. Chosen by hand.
PAD = 32
VISITS = 8e-3  # seconds of a round of four rows outside of the networks, until measured


def controller_of(
    settings: Settings, pipe: Any, state: Tensor | None, times: list[Any], ranks: int
) -> WindowController:
    """The pace of a loop over a pipeline's `times`; rows that are no batch are stepped through."""
    if not isinstance(settings.window, str):
        return FixedWindow(settings.window) if isinstance(settings.window, int) else settings.window
    if not settings.batched:
        return FixedWindow(1, why="batched=False evaluates the steps of a window one by one, so windows are not faster")
    x = torch.zeros(1, 1) if state is None or not state.ndim else state
    N, stop = len(times), settings.stop
    call = ranks, torch.get_num_threads(), type(settings.method)
    known = round_times(pipe, x, call, guess=VISITS)
    chain = type(pipe.scheduler).__name__ if hasattr(pipe, "scheduler") else "", N, str(times[0]), type(stop)
    compiled = any(isinstance(m, nn.Module) and is_compiled(m) for m in pipe.components.values())
    sizes = (PAD,) if compiled else powers_of_two(N, x.nbytes)
    return window_of(known, chain, N, stop.tolerance, sizes, x.nbytes)


def copied_or_none(scheduler: Any) -> Any:
    """A scheduler as it is now, None where it cannot be copied."""
    try:
        return copy_scheduler(scheduler)
    except Exception:  # whatever it holds
        return None
