"""`paradigms models`: what ships, how large it is, and the command that samples it."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table

from ..files import shipped_weights

WHAT = {
    "digits": ("images", "8x8 digits", "paradigms sample digits --class 3"),
    "scenes": ("images", "32x32 landscapes", "paradigms sample scenes"),
    "latent": ("latent", "64x64 landscapes", "paradigms sample latent --prompt lake"),
    "pusht-unet": ("policies", "actions, PushT", "paradigms demo"),
    "pusht-mlp": ("policies", "actions, PushT", 'load_policy("pusht-mlp")'),
    "square-unet": ("policies", "actions, Square", 'load_policy("square-unet")'),
    "kitchen-unet": ("policies", "actions, Kitchen", 'load_policy("kitchen-unet")'),
}


def shipped_table() -> Table:
    """A line for each model; raises ImportError where the weights are not installed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "makes"):
        table.add_column(name, no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("type", no_wrap=True)
    for name, (kind, what, command) in WHAT.items():
        table.add_row(name, what, f"{megabytes(kind, name):.1f}", command)
    return table


def megabytes(kind: str, name: str) -> float:
    """Of its weights on disk."""
    folder = shipped_weights(kind)
    files = folder.rglob("*") if kind == name else [folder / f"{name}.safetensors"]
    return sum(f.stat().st_size for f in files if Path(f).is_file()) / 1e6
