"""Video by U-Nets: AnimateDiff and its control, Stable Video Diffusion, text-to-video, I2VGen-XL."""

from __future__ import annotations

from typing import Any

import diffusers as df

from . import controlnet, sdxl, stable_diffusion, tiny
from .stable_diffusion import UNCHECKED
from .tiny import PROMPT, Specimen, call, image, photo, scheduler

BASE: dict[str, Any] = {"prompt": PROMPT, "guidance_scale": 4.0, "num_frames": 3, "height": 16, "width": 16}
FILM: list[Any] = [photo(seed=s) for s in range(3)]


def motion(**changes: Any) -> Any:
    """A motion adapter that fits `tiny.unet`."""
    config: dict[str, Any] = dict(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=2,
        use_motion_mid_block=True,
    )  # fmt: skip
    return tiny.seeded(df.MotionAdapter, **config | changes)


def animated(name: str, **own: Any) -> Any:
    """An AnimateDiff pipeline: Stable Diffusion's U-Net with temporal attention in between."""
    made = stable_diffusion.parts() | {"motion_adapter": motion(), "scheduler": scheduler(beta_schedule="linear")}
    with tiny.seed():
        pipe = getattr(df, name)(**made | own)
        tiny.alive(pipe.unet)
    return pipe


def free_noise() -> Any:
    """AnimateDiffPipeline with FreeNoise: windows of frames that overlap share their noise."""
    pipe = animated("AnimateDiffPipeline")
    pipe.enable_free_noise(context_length=4, context_stride=2)
    return pipe


def animated_xl() -> Any:
    """AnimateDiffSDXLPipeline."""
    with tiny.seed():
        pipe = df.AnimateDiffSDXLPipeline(**sdxl.parts("DDIMScheduler"), motion_adapter=motion())
        tiny.alive(pipe.unet)
    return pipe


def sparse() -> Any:
    """AnimateDiffSparseControlNetPipeline: a ControlNet that sees some frames."""
    net = tiny.seeded(
        df.SparseControlNetModel, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, in_channels=4,
        conditioning_channels=3, down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
        cross_attention_dim=8, conditioning_embedding_out_channels=(4, 8), use_simplified_condition_embedding=False,
        attention_head_dim=2, motion_num_attention_heads=2,
    )  # fmt: skip
    return animated("AnimateDiffSparseControlNetPipeline", controlnet=net)


def pia() -> Any:
    """PIAPipeline: the first frame's latents and a mask join each frame's."""
    return animated("PIAPipeline", motion_adapter=motion(conv_in_channels=9))


def stable_video() -> Any:
    """StableVideoDiffusionPipeline: v-prediction on Karras levels, guidance that grows from frame to frame."""
    unet = tiny.seeded(
        df.UNetSpatioTemporalConditionModel, block_out_channels=(32, 32), layers_per_block=1, sample_size=8,
        in_channels=8, out_channels=4, cross_attention_dim=8, num_attention_heads=2,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        projection_class_embeddings_input_dim=12, addition_time_embed_dim=4,
    )  # fmt: skip
    vae = tiny.seeded(
        df.AutoencoderKLTemporalDecoder, block_out_channels=(32, 32), latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
    )  # fmt: skip
    levels = scheduler(
        "EulerDiscreteScheduler", prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1,
        timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    return df.StableVideoDiffusionPipeline(
        vae=vae, unet=unet, scheduler=levels, image_encoder=tiny.clip_vision(), feature_extractor=tiny.clip_images()
    )


def unet3d() -> Any:
    """A U-Net with temporal convolutions and attention."""
    return tiny.seeded(
        df.UNet3DConditionModel, block_out_channels=(8, 16), layers_per_block=1, sample_size=8, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8, attention_head_dim=4,
    )  # fmt: skip


def text2video(name: str) -> Any:
    """A text-to-video pipeline of ModelScope: the loop folds frames into the batch for the scheduler."""
    return getattr(df, name)(**stable_diffusion.parts() | {"unet": unet3d()})


def i2vgen() -> Any:
    """I2VGenXLPipeline: an image as a first frame, as tokens and as an embedding."""
    unet = tiny.seeded(
        df.I2VGenXLUNet, block_out_channels=(8, 16), layers_per_block=1, sample_size=8, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8, attention_head_dim=4,
    )  # fmt: skip
    own = {"image_encoder": tiny.clip_vision(), "feature_extractor": tiny.clip_images(), "unet": unet}
    return df.I2VGenXLPipeline(**stable_diffusion.parts() | own)


def at(name: str, family: str, build: Any, **inputs: Any) -> Specimen:
    """A specimen whose builder takes the class's name."""
    return Specimen(name, family, lambda: build(name.partition("+")[0]), call(**inputs))


MOVE = {k: v for k, v in BASE.items() if k != "num_frames"}
SPECIMENS = (
    at("AnimateDiffPipeline", "animatediff", animated, **BASE),
    at("AnimateDiffPipeline+free_noise", "animatediff", lambda name: free_noise(), **BASE | {"num_frames": 6}),
    at("AnimateDiffVideoToVideoPipeline", "animatediff", animated, **MOVE, video=FILM, strength=0.8, steps=6),
    at("AnimateDiffControlNetPipeline", "animatediff", lambda name: animated(name, controlnet=controlnet.net()),
       **BASE, conditioning_frames=FILM),
    at("AnimateDiffVideoToVideoControlNetPipeline", "animatediff",
       lambda name: animated(name, controlnet=controlnet.net()),
       **MOVE, video=FILM, conditioning_frames=FILM, strength=0.8, steps=6),
    at("AnimateDiffSparseControlNetPipeline", "animatediff", lambda name: sparse(),
       **BASE, conditioning_frames=FILM[:2], controlnet_frame_indices=[0, 2]),
    at("AnimateDiffSDXLPipeline", "animatediff", lambda name: animated_xl(), **BASE),
    at("AnimateDiffPAGPipeline", "pag", lambda name: animated(name, pag_applied_layers=["mid.*attn1"]),
       **BASE, pag_scale=1.5),
    at("PIAPipeline", "animatediff", lambda name: pia(), **BASE, image=photo()),
    at("StableVideoDiffusionPipeline", "stable_video_diffusion", lambda name: stable_video(), image=image(8),
       num_frames=3, min_guidance_scale=1.0, max_guidance_scale=2.5, height=16, width=16),
    at("TextToVideoSDPipeline", "text_to_video", text2video, **BASE),
    at("VideoToVideoSDPipeline", "text_to_video", text2video, prompt=PROMPT, guidance_scale=4.0,
       video=FILM, strength=0.8, steps=6),
    at("TextToVideoZeroPipeline", "text_to_video_zero", lambda name: df.TextToVideoZeroPipeline(
        **stable_diffusion.parts(), **UNCHECKED), **MOVE, video_length=3, t0=1, t1=3, steps=5),
    at("I2VGenXLPipeline", "i2vgen_xl", lambda name: i2vgen(), **BASE, image=photo(), clip_skip=None),
)  # fmt: skip
