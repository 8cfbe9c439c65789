"""The live progress bar: accepted rows, the window, what is left, on the terminal's standard error.

██████████▓▓▓▓░░░░░░░░░░░░░░  rows 320-400 of 1000  round 12  3,840 evals
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..window.frame import Frame

# Chosen by hand.
WIDTH = 30


def progress_bar(rows: int, console: Console) -> Callable[[Iterable[Frame]], Iterator[Frame]]:
    """A wrapper of the frames of a chain of `rows` rows; it shows them where the console is a terminal."""

    def watch(frames: Iterable[Frame]) -> Iterator[Frame]:
        if not console.is_terminal:
            yield from frames
            return
        with Live(Text("the first round ..."), console=console, transient=True, refresh_per_second=12) as live:
            for frame in frames:
                live.update(progress_line(frame, rows))
                yield frame

    return watch


def progress_line(frame: Frame, rows: int) -> Text:
    """The bar of one round; begin and end are the slowest and the fastest sample's."""
    begin, end = int((frame.begin + frame.stride).min()), int(frame.end.max())
    full, window = (round(WIDTH * row / rows) for row in (begin, end))
    text = Text(no_wrap=True, overflow="crop")
    text.append("█" * full, style="cyan")
    text.append("▓" * (window - full), style="yellow")
    text.append("░" * (WIDTH - window), style="bright_black")
    text.append(f"  rows {begin}-{end} of {rows}  round {frame.round}  {frame.evaluate.evaluations:,} evals")
    return text
