"""A small latent, text-conditioned pipeline that ships: `load()` is a StableDiffusionPipeline of 64x64 landscapes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ...adapters.remote_code import check_folder
from ...files import brief_name, is_file, shipped_weights


def load(path: str | Path | None = None) -> Any:
    """The shipped `StableDiffusionPipeline` (or the one in folder `path`), float32, on the CPU, without the network.

    `load()("a boat with red sails, night", num_inference_steps=20)` makes a 64x64 picture; latents are (8, 8, 8).
    Raises ImportError without diffusers and transformers, ValueError where the folder holds no pipeline, or names code
    of its own, which is not run.
    """
    path = shipped_weights("latent") if path is None else path
    if not is_file(Path(path) / "model_index.json"):
        raise ValueError(
            f"there is no pipeline in {brief_name(path)}; give a folder that save_pretrained wrote or none"
        )
    check_folder(path)
    try:
        import torch
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPTextModel  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "this pipeline needs diffusers and transformers: pip install 'paradigms-sampling[zoo]'"
        ) from error
    how = {"local_files_only": True, "safety_checker": None, "requires_safety_checker": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch_dtype has another name in the newest diffusers
        return StableDiffusionPipeline.from_pretrained(str(path), torch_dtype=torch.float32, **how)
