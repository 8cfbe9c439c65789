"""A call whose error may be beyond the tolerance is made again, from what it began with:

    estimate > DOUBT tolerance                            once more at tolerance / STRICTER
    still so, or windows pay no more, or nothing finer    step by step, as the pipeline makes it

as `window/retry.py` does with samples. A call that has called the user's callbacks is not made again, for what they did
cannot be taken back: its report says what the error may be, and what to type.
"""

from __future__ import annotations

from dataclasses import replace

from ....stopping.final_error import DOUBT, FinalError
from ....window.retry import STRICTER
from ...report import Settings


class DoubtError(Exception):
    """The error of a loop may be beyond the tolerance. Its arguments: the settings to make the call again with, None
    for step by step."""


def beyond_tolerance(settings: Settings, estimate: float | None, finest: float) -> float | None:
    """The tolerance that was asked for, where the estimate is well beyond it, else None."""
    asked = max(settings.asked, finest)
    return None if estimate is None or estimate <= DOUBT * asked else asked


def stricter_settings(
    settings: Settings, asked: float, finest: float, rounds: int, rows: int, window: int
) -> Settings | None:
    """The settings to make a call again with, whose first took so many rounds in windows of so many of its rows."""
    stop = settings.stop
    if not isinstance(stop, FinalError) or stop.tolerance < settings.asked or asked / STRICTER < finest:
        return None
    if rounds > rows / 2 or not settings.batched:
        return None
    return replace(settings, stop=replace(stop, tolerance=asked / STRICTER), window=max(window, 2))


def describe_doubt(estimate: float, asked: float) -> str:
    """What a report says of a call that was not made again."""
    return (
        f"the error may be {estimate:.2g}, beyond the tolerance {asked:g}; "
        f"type tolerance={asked / STRICTER:.2g}, or window=1 for the pipeline's own steps"
    )
