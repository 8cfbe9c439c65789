"""The parallel call that is going on in this thread or task: its pipeline, its settings, its report and its loop."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...report import Run, Settings
from ..networks.batched_network import BatchedNetwork

if TYPE_CHECKING:
    from ..unconditional import TableLoop
    from .loop import WindowedLoop


@dataclass
class ActiveCall:
    """A parallel call that is going on; loop: the denoising loop that it is in, None before the first."""

    pipe: Any
    settings: Settings
    run: Run
    network: BatchedNetwork
    loop: WindowedLoop | TableLoop | None = None


_active: contextvars.ContextVar[ActiveCall | None] = contextvars.ContextVar("paradigms", default=None)
