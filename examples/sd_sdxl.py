"""Stable Diffusion, or SDXL, in parallel: one line around the pipeline's own call.

python examples/sd_sdxl.py --prompt "a lighthouse in a storm, oil painting" --compare
python examples/sd_sdxl.py --sdxl --steps 100
python examples/sd_sdxl.py --tiny --steps 6 --tolerance 0 --compare  # offline, random weights
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

import paradigms


def load(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:  # the pipeline, and what it is called with
    called = {"prompt": args.prompt, "num_inference_steps": args.steps, "output_type": "np"}
    if args.tiny:
        from benchmarks.zoo import sdxl, stable_diffusion

        pipe = sdxl.named("StableDiffusionXLPipeline") if args.sdxl else stable_diffusion.text2image()
        return pipe, called | {"prompt": "a red fox", "height": 16, "width": 16}
    gpu = torch.cuda.is_available()
    name = "stabilityai/stable-diffusion-xl-base-1.0" if args.sdxl else "stabilityai/stable-diffusion-2"
    pipe = DiffusionPipeline.from_pretrained(name, torch_dtype=torch.float16 if gpu else torch.float32)
    return pipe.to("cuda" if gpu else "cpu"), called


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a lighthouse in a storm, oil painting")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--tolerance", type=float, default=0.003, help="relative error of the latents; 0: the same image"
    )
    for flag in ("--sdxl", "--tiny", "--compare"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", default="image.png")
    args = parser.parse_args(argv)
    pipe, called = load(args)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)  # or any other
    with paradigms.parallelize(pipe, tolerance=args.tolerance) as run:
        images = pipe(**called, generator=torch.Generator().manual_seed(0)).images
    print(run)
    pipe.numpy_to_pil(images)[0].save(args.out)

    if args.compare:  # outside the block it samples step by step
        began = time.perf_counter()
        reference = pipe(**called, generator=torch.Generator().manual_seed(0)).images
        error = np.linalg.norm(images - reference) / np.linalg.norm(reference)
        print(f"step by step: {time.perf_counter() - began:.2f} s; relative error {error:.2e}")


if __name__ == "__main__":
    main()
