"""DDPM on LSUN churches in parallel, 1000 steps, or DDIM: the pipeline's loop is known, and runs as a table.

python examples/unconditional_ddpm.py --compare
python examples/unconditional_ddpm.py --model google/ddpm-bedroom-256 --ddim --steps 500
python examples/unconditional_ddpm.py --tiny --steps 6 --tolerance 0 --compare  # offline, random weights
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler

import paradigms


def load(args: argparse.Namespace) -> Any:
    """The pipeline."""
    if args.tiny:
        from benchmarks.zoo import unconditional

        return unconditional.pixels("DDPMPipeline", DDPMScheduler())
    return DDPMPipeline.from_pretrained(args.model).to("cuda" if torch.cuda.is_available() else "cpu")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="google/ddpm-church-256")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--window", type=int, default=80)
    parser.add_argument("--tolerance", type=float, default=0.003, help="relative error of the image; 0: the same image")
    for flag in ("--ddim", "--tiny", "--compare"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", default="church.png")
    args = parser.parse_args(argv)

    pipe = load(args)
    if args.ddim:
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    called = {"num_inference_steps": args.steps, "output_type": "np"}

    with paradigms.parallelize(pipe, tolerance=args.tolerance, window=args.window) as run:
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
