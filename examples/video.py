"""Video in parallel: Wan 2.1, whose guidance calls the network twice a step.

python examples/video.py --prompt "a cat walks on the grass" --compare
python examples/video.py --tiny --steps 6 --tolerance 0 --compare  # offline, random weights
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

import paradigms


def load(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:  # the pipeline, and what it is called with
    called: dict[str, Any] = {"num_inference_steps": args.steps, "num_frames": args.frames, "output_type": "np"}
    if args.tiny:  # has no text encoder, and is given embeddings
        from benchmarks.zoo import ZOO

        specimen = next(s for s in ZOO if s.name == "WanPipeline")
        return specimen.build(), {k: v for k, v in specimen.inputs().items() if k != "generator"} | called
    pipe = DiffusionPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", torch_dtype=torch.bfloat16)
    pipe = pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    return pipe, called | {"prompt": args.prompt, "height": 480, "width": 832, "guidance_scale": 5.0}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a cat walks on the grass, realistic")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--window", type=int, default=8, help="steps at once: a film is large, and needs few of them")
    parser.add_argument(
        "--tolerance", type=float, default=0.003, help="relative error of the latents; 0: the same film"
    )
    for flag in ("--tiny", "--compare"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", default="film.gif")
    args = parser.parse_args(argv)
    pipe, called = load(args)
    with paradigms.parallelize(pipe, tolerance=args.tolerance, window=args.window) as run:
        frames = pipe(**called, generator=torch.Generator().manual_seed(0)).frames  # (1, frames, H, W, 3)
    print(run)
    first, *rest = pipe.numpy_to_pil(frames[0])
    first.save(args.out, save_all=True, append_images=rest, duration=62, loop=0)

    if args.compare:  # outside the block it samples step by step
        began = time.perf_counter()
        reference = pipe(**called, generator=torch.Generator().manual_seed(0)).frames
        error = np.linalg.norm(frames - reference) / np.linalg.norm(reference)
        print(f"step by step: {time.perf_counter() - began:.2f} s; relative error {error:.2e}")


if __name__ == "__main__":
    main()
