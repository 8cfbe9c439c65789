"""The four parts of the pipeline before training: words, text encoder, autoencoder and U-Net, all of them classes of
transformers and diffusers, small."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import torch

from .captions import SIZE, caption, choices

TOKENS = 24  # the longest of 20,000 captions has 22, with its start and end
WIDTH = 128
LATENT = 8  # channels
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def tokenizer(kept: Path) -> Any:
    """A CLIPTokenizer whose byte pairs are learnt from 5,000 of our own captions, so that each word is one token.

    It is learnt once and kept in the folder `kept`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    if kept.is_dir():
        return CLIPTokenizer.from_pretrained(kept, local_files_only=True)
    say, rows = random.Random(0), choices(5000, torch.Generator().manual_seed(0))
    bare = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = pre_tokenizers.ByteLevel.alphabet()
    ends = [f"{letter}</w>" for letter in sorted(letters)]
    special = ["<|startoftext|>", "<|endoftext|>"]
    bare.train_from_iterator(
        (caption(row, say) for row in rows.tolist()),
        trainers.BpeTrainer(
            vocab_size=2000,
            initial_alphabet=letters,
            end_of_word_suffix="</w>",
            special_tokens=ends,
            show_progress=False,
        ),
    )
    learnt = json.loads(bare.to_str())["model"]
    names = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__) + special
    words = CLIPTokenizer(
        vocab={name: index for index, name in enumerate(names)},
        merges=[tuple(pair) for pair in learnt["merges"]],
        model_max_length=TOKENS,
    )
    words.save_pretrained(kept)
    return words


def text_encoder(words: Any) -> Any:
    """A CLIPTextModel of 4 layers of width 128 for these words."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            projection_dim=WIDTH,
        )
    )


def autoencoder() -> Any:
    """An AutoencoderKL between pictures (3, 64, 64) and latents (8, 8, 8)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def unet() -> Any:
    """A UNet2DConditionModel on latents (8, 8, 8) that reads the words at 4x4."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=LATENT,
        out_channels=LATENT,
        block_out_channels=(96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def pipeline(vae: Any, text: Any, words: Any, unet: Any) -> Any:
    """A StableDiffusionPipeline of copies of these parts in float16, with a DDIM scheduler."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    vae, text, unet = (copy.deepcopy(part).half().requires_grad_(False).eval() for part in (vae, text, unet))
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
