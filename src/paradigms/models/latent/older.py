"""Adds to a pipeline's folder the files that transformers 4 needs and transformers 5 does not write.

They are the vocabulary as two files, and the text encoder's weights under the names that its class had.
"""

from __future__ import annotations

import json
from pathlib import Path


def readable_by_older(folder: Path) -> None:
    """Writes the tokenizer's vocab.json and merges.txt, and the text encoder's weights again as `text_model.*`."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    words = folder / "tokenizer"
    model = json.loads((words / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (words / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (words / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    path = folder / "text_encoder" / "model.safetensors"
    with safe_open(str(path), framework="pt") as file:
        about, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    named = {key if key.startswith("text_model.") else f"text_model.{key}": v for key, v in weights.items()}
    save_file(named, str(path), metadata=about)
