"""The paper's pipelines by their published configurations, narrow enough for a test; nothing is downloaded."""

from __future__ import annotations

import diffusers as df
import transformers as tr

from benchmarks.images.published import CHURCH, SD2_TEXT, SD2_UNET, SD2_VAE
from benchmarks.paper.narrow import church, sd2

__all__ = ["CHURCH", "SD2_TEXT", "SD2_UNET", "SD2_VAE", "church", "sd2"]

# Both libraries load a class when it is first asked for: here, so that a server of forked ranks does it once.
LOADED = (
    *(df.AutoencoderKL, df.DDIMScheduler, df.DDPMPipeline, df.StableDiffusionPipeline, df.UNet2DConditionModel),
    *(df.UNet2DModel, tr.CLIPTextModel, tr.CLIPTokenizer),
)
