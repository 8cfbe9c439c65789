"""How long a window that does not pay is left alone."""

from __future__ import annotations

from dataclasses import dataclass

from ..controller import Fixed


@dataclass
class Rest:
    """Calls in a row, of which `left` are to come, that have a pace which steps, and are not asked whether to."""

    calls: int
    left: int
    pace: Fixed
