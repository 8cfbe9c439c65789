"""The paper's image models by their published configurations, and the same networks narrow enough for a test.

Only what `NARROW` names differs: widths, and the size of what is sampled. Block types, numbers of heads and of layers
in a block, v-prediction and the noise levels stay. Weights are random: nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import diffusers as df
import transformers as tr

from paradigms.bench.zoo import tiny

CHURCH: dict[str, Any] = {  # google/ddpm-church-256, google/ddpm-bedroom-256: unet
    "sample_size": 256, "in_channels": 3, "out_channels": 3, "center_input_sample": False, "act_fn": "silu",
    "time_embedding_type": "positional", "freq_shift": 1, "flip_sin_to_cos": False, "attention_head_dim": None,
    "block_out_channels": (128, 128, 256, 256, 512, 512), "layers_per_block": 2, "mid_block_scale_factor": 1,
    "downsample_padding": 0, "norm_num_groups": 32, "norm_eps": 1e-6,
    "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
}  # fmt: skip
CHURCH_LEVELS: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "trained_betas": None,
    "variance_type": "fixed_small", "clip_sample": True,
}  # fmt: skip
SD2_UNET: dict[str, Any] = {  # stabilityai/stable-diffusion-2: unet
    "sample_size": 96, "in_channels": 4, "out_channels": 4, "center_input_sample": False, "flip_sin_to_cos": True,
    "freq_shift": 0, "only_cross_attention": False,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2, "downsample_padding": 1, "mid_block_scale_factor": 1, "act_fn": "silu", "norm_eps": 1e-5,
    "norm_num_groups": 32, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
    "dual_cross_attention": False, "use_linear_projection": True,
}  # fmt: skip
SD2_TEXT: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "hidden_act": "gelu",
    "num_attention_heads": 16, "max_position_embeddings": 77, "projection_dim": 512,
}  # fmt: skip
SD2_VAE: dict[str, Any] = {
    "sample_size": 768, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "norm_num_groups": 32, "act_fn": "silu", "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
SD2_LEVELS: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "trained_betas": None, "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False,
    "steps_offset": 1,
}  # fmt: skip
NARROW: dict[str, dict[str, Any]] = {
    "church": {"sample_size": 32, "block_out_channels": (4, 4, 8, 8, 16, 16), "norm_num_groups": 4},
    "unet": {
        "sample_size": 8, "block_out_channels": (20, 40, 80, 80), "norm_num_groups": 4, "cross_attention_dim": 32,
    },
    "text": {
        "vocab_size": 54, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "projection_dim": 32,
    },
    "vae": {"sample_size": 64, "block_out_channels": (4, 8, 8, 8), "norm_num_groups": 4},
}  # fmt: skip


def church(kind: str = "DDPMPipeline", levels: str = "DDPMScheduler") -> Any:
    """The LSUN pipelines, narrow: six levels, attention in the fifth, pictures of 32x32."""
    unet = tiny.seeded(df.UNet2DModel, **CHURCH | NARROW["church"])
    config = {k: v for k, v in CHURCH_LEVELS.items() if k != "variance_type" or levels == "DDPMScheduler"}
    return getattr(df, kind)(unet=unet, scheduler=getattr(df, levels)(**config))


def sd2() -> Any:
    """Stable Diffusion 2, narrow: latents of 8x8, pictures of 64x64, prompts in letters."""
    text = tr.CLIPTextConfig(**SD2_TEXT | NARROW["text"], bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return df.StableDiffusionPipeline(
        unet=tiny.seeded(df.UNet2DConditionModel, **SD2_UNET | NARROW["unet"]),
        vae=tiny.seeded(df.AutoencoderKL, **SD2_VAE | NARROW["vae"]),
        text_encoder=tiny.seeded(tr.CLIPTextModel, text),
        tokenizer=tiny.clip_tokenizer(),
        scheduler=df.DDIMScheduler(**SD2_LEVELS),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
