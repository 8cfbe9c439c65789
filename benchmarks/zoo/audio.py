"""Sound: latents of spectrograms or waves, by U-Nets (AudioLDM, MusicLDM) and by a transformer (Stable Audio)."""

from __future__ import annotations

from typing import Any

import diffusers as df
import torch
import transformers as tr

from . import tiny
from .tiny import Specimen, call, randn, scheduler


def vocoder() -> Any:
    """A vocoder of 8 mel bands."""
    config = tr.SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        normalize_before=False, initializer_range=0.3,
    )  # fmt: skip
    return tiny.seeded(tr.SpeechT5HifiGan, config)


def clap() -> Any:
    """A CLAP, text and sound; the calls bring embeddings, so only its type is looked at."""
    text = {
        "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 16,
        "projection_dim": 8, "max_position_embeddings": 32,
    }  # fmt: skip
    sound = {
        "spec_size": 8, "window_size": 4, "num_mel_bins": 8, "depths": [1, 1], "num_attention_heads": [1, 1],
        "num_hidden_layers": 1, "hidden_size": 16, "patch_embeds_hidden_size": 8, "patch_size": 2, "patch_stride": 2,
        "projection_dim": 8,
    }  # fmt: skip
    return tiny.seeded(tr.ClapModel, tr.ClapConfig(text_config=text, audio_config=sound, projection_dim=8))


def spectrogram(name: str) -> Any:
    """AudioLDM or MusicLDM: the text's embedding is the U-Net's class."""
    kind = {"class_embed_type": "simple_projection", "class_embeddings_concat": True}
    unet = tiny.unet(**kind, projection_class_embeddings_input_dim=8, cross_attention_dim=(8, 16))
    made = {"vae": tiny.vae(in_channels=1, out_channels=1), "tokenizer": None}
    made["text_encoder"] = clap()
    extra = {"feature_extractor": None} if "Music" in name else {}
    return getattr(df, name)(**made, **extra, unet=unet, scheduler=scheduler(), vocoder=vocoder())


def audioldm2() -> Any:
    """AudioLDM2Pipeline: two streams of text, each with its own cross-attention."""
    unet = tiny.seeded(
        df.AudioLDM2UNet2DConditionModel, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        sample_size=8, cross_attention_dim=((None, 8, 16),) * 2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
    )  # fmt: skip
    parts = ("projection_model", "tokenizer", "tokenizer_2", "feature_extractor")
    made: dict[str, Any] = dict.fromkeys(parts) | {"text_encoder": clap(), "text_encoder_2": tiny.t5()}
    config = tr.GPT2Config(n_embd=8, n_head=1, n_layer=1, vocab_size=16, n_positions=16)
    made["language_model"] = tiny.seeded(tr.GPT2LMHeadModel, config)
    vae = tiny.vae(in_channels=1, out_channels=1)
    return df.AudioLDM2Pipeline(**made, vae=vae, unet=unet, scheduler=scheduler(), vocoder=vocoder())


def stable_audio() -> Any:
    """StableAudioPipeline: a transformer on waves' latents, under the EDM form of DPM-Solver."""
    net = tiny.seeded(
        df.StableAudioDiTModel, sample_size=8, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        num_key_value_attention_heads=1, out_channels=4, cross_attention_dim=8, time_proj_dim=8,
        global_states_input_dim=16, cross_attention_input_dim=8,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderOobleck, encoder_hidden_size=4, downsampling_ratios=[1, 2], decoder_channels=4,
        decoder_input_channels=4, audio_channels=2, channel_multiples=[2, 4], sampling_rate=4,
    )  # fmt: skip
    projection = tiny.seeded(
        df.StableAudioProjectionModel, text_encoder_dim=16, conditioning_dim=8, min_value=0, max_value=32
    )
    levels = df.EDMDPMSolverMultistepScheduler(
        sigma_min=0.3, sigma_max=50, sigma_data=1.0, prediction_type="v_prediction"
    )
    made = {"text_encoder": tiny.t5(), "tokenizer": tiny.word_tokenizer(), "projection_model": projection}
    return df.StableAudioPipeline(**made, vae=vae, transformer=net, scheduler=levels)


TEXT: dict[str, Any] = {"prompt_embeds": randn(1, 8), "negative_prompt_embeds": randn(1, 8, seed=1)}
TWO: dict[str, Any] = {
    "prompt_embeds": randn(1, 5, 16), "negative_prompt_embeds": randn(1, 5, 16, seed=1),
    "generated_prompt_embeds": randn(1, 4, 8, seed=2), "negative_generated_prompt_embeds": randn(1, 4, 8, seed=3),
    "attention_mask": torch.ones(1, 5).long(), "negative_attention_mask": torch.ones(1, 5).long(),
}  # fmt: skip
LONG: dict[str, Any] = {"audio_length_in_s": 0.004, "guidance_scale": 3.0}
SPECIMENS = (
    Specimen("AudioLDMPipeline", "audioldm", lambda: spectrogram("AudioLDMPipeline"), call(**TEXT, **LONG)),
    Specimen("MusicLDMPipeline", "musicldm", lambda: spectrogram("MusicLDMPipeline"), call(**TEXT, **LONG)),
    Specimen("AudioLDM2Pipeline", "audioldm2", audioldm2, call(**TWO, **LONG)),
    Specimen("StableAudioPipeline", "stable_audio", stable_audio,
             call(prompt=tiny.PROMPT, guidance_scale=3.0, audio_end_in_s=2.0)),
)  # fmt: skip
