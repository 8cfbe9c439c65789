"""The paper's pipelines by their published configurations, narrow enough for a test; nothing is downloaded."""

from __future__ import annotations

from benchmarks.images.published import CHURCH, SD2_TEXT, SD2_UNET, SD2_VAE
from benchmarks.paper.narrow import church, sd2

__all__ = ["CHURCH", "SD2_TEXT", "SD2_UNET", "SD2_VAE", "church", "sd2"]
