"""Skeleton sampling, see `method.py`; `frames` is the rounds of a chain whatever its method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..stopping.final_error import FinalError
from ..window import loop as windows
from ..window.chain import Chain
from ..window.controller import FixedWindow
from ..window.frame import Frame
from .handover import why_no_room, why_windows
from .loop import node_rounds
from .method import Skeleton as Skeleton
from .method import check_skeleton as check_skeleton


def frames(chain: Chain) -> Iterator[Frame]:
    """The rounds of a chain: of windows that slide, or of nodes where its method is a `Skeleton`."""
    method, stop, pace = chain.method, chain.stop, chain.controller
    if not isinstance(method, Skeleton):
        yield from windows.frames(chain)
        return
    assert isinstance(stop, FinalError) and isinstance(pace, FixedWindow)
    x, (window, _) = chain.stream.x, pace.next(0)
    drawn = any(chain.system.drawn)
    N, why = len(chain.system), None
    if window > 1:
        why = None if method.always else why_windows(N, stop.tolerance, not drawn)
        why = why or why_no_room(N, len(x), x[0].nbytes, drawn, x.device)
    if why:
        pace.why = f"windows were taken with Skeleton(): {why}"
    if why or window == 1:
        yield from windows.frames(replace(chain, method=method.windowed()))
    else:
        yield from node_rounds(chain, method, stop, window)
