"""Skeleton sampling, see `method.py`; `frames` is the rounds of a chain whatever its method."""

from __future__ import annotations

from collections.abc import Iterator

from .. import rounds as windows
from ..frame import Frame
from ..pace import Fixed
from ..rounds import Chain
from ..stop import FinalError
from .loop import rounds
from .memory import refused
from .method import Skeleton as Skeleton
from .method import check_skeleton as check_skeleton


def frames(chain: Chain) -> Iterator[Frame]:
    """The rounds of a chain: of windows that slide, or of nodes where its method is a `Skeleton`."""
    method, stop, pace = chain.method, chain.stop, chain.pace
    if not isinstance(method, Skeleton):
        yield from windows.frames(chain)
        return
    assert isinstance(stop, FinalError) and isinstance(pace, Fixed)
    x, (window, _) = chain.stream.x, pace.next(0)
    drawn = any(chain.system.drawn)
    why = None if window == 1 else refused(len(chain.system), len(x), x[0].nbytes, drawn, x.device)
    if why:
        pace.why = f"windows were taken with Skeleton(): {why}"
    if why or window == 1:
        yield from windows.frames(chain._replace(method=method.windowed()))
    else:
        yield from rounds(chain, method, stop, window)
