"""The paper's image models by their published configurations: what their config.json files on the hub say.

| name    | hub id                         | rows                      | parameters of the U-Net |
| sd2     | stabilityai/stable-diffusion-2 | latents 4x96x96, guided   | 865,910,724             |
| church  | google/ddpm-church-256         | pixels 3x256x256          | 113,673,219             |
| bedroom | google/ddpm-bedroom-256        | pixels 3x256x256          | 113,673,219             |
"""

from __future__ import annotations

from typing import Any

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
SMALL_SD2: dict[str, Any] = {  # an eighth of the width, a sixth of the side: what a CPU can be asked
    "sample_size": 16, "block_out_channels": (40, 80, 160, 160), "norm_num_groups": 8, "cross_attention_dim": 128,
}  # fmt: skip
SMALL_CHURCH: dict[str, Any] = {
    "sample_size": 64, "block_out_channels": (16, 16, 32, 32, 64, 64), "norm_num_groups": 8,
}  # fmt: skip
