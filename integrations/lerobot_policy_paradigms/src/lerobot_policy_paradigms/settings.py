"""What the environment variable says: window and tolerance, as `paradigms.sample` takes them.

PARADIGMS_LEROBOT = "" or 0: off,  1: on,  "window=16 tolerance=0.01": on, so
"""

from __future__ import annotations

import os
from dataclasses import dataclass

NAME = "PARADIGMS_LEROBOT"
TYPED = f"{NAME}='window=16 tolerance=0.01', or {NAME}=1"


@dataclass(frozen=True)
class Settings:
    """window: steps at once, or "auto". tolerance: relative error of the actions."""

    window: int | str = "auto"
    tolerance: float = 0.01

    @classmethod
    def from_environment(cls) -> Settings | None:
        """The settings, None where it is off. Raises ValueError for what is none."""
        text = os.environ.get(NAME, "").strip()
        return None if text in ("", "0") else cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Settings from "1" or "window=16 tolerance=0.01"; raises ValueError."""
        if text == "1":
            return cls()
        given = dict(part.partition("=")[::2] for part in text.replace(",", " ").split())
        try:
            if not set(given) <= {"window", "tolerance"}:
                raise ValueError
            window: int | str = given.get("window", "auto")
            window = window if window == "auto" else int(window)
            found = cls(window, float(given.get("tolerance", cls.tolerance)))
            if (isinstance(window, int) and window < 1) or not 0 <= found.tolerance < float("inf"):
                raise ValueError
        except ValueError:
            needed = "window (a whole number or auto) and tolerance (0 or more)"
            raise ValueError(f"{NAME}: given {text!r}; needed: {needed}; type {TYPED}") from None
        return found
