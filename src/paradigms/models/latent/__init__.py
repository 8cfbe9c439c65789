"""A small latent, text-conditioned pipeline that ships: `load()` is a StableDiffusionPipeline of 64x64 landscapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "pipeline"


def load(path: str | Path = WEIGHTS) -> Any:
    """The shipped `StableDiffusionPipeline` (or the one in folder `path`), float32, on the CPU, without the network.

    `load()("a boat with red sails, night", num_inference_steps=20)` makes a 64x64 picture; latents are (8, 8, 8).
    Raises ImportError without diffusers and transformers, ValueError where the folder holds no pipeline.
    """
    if not (Path(path) / "model_index.json").is_file():
        raise ValueError(f"there is no pipeline in {str(path)!r}; give a folder that save_pretrained wrote or none")
    try:
        import torch
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPTextModel  # noqa: F401
    except ImportError as error:
        raise ImportError("this pipeline needs diffusers and transformers: pip install 'paradigms[zoo]'") from error
    pipe = StableDiffusionPipeline.from_pretrained(
        str(path), local_files_only=True, safety_checker=None, requires_safety_checker=False
    )
    return pipe.to(torch.float32)
