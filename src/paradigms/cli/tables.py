"""Prints tables on standard output, as wide as they are: nothing is cut."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def print_table(*tables: Table) -> None:
    """Prints tables."""
    console = Console(highlight=False)
    for table in tables:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
        console.print(table)
