"""Flow-matching transformers in parallel: Stable Diffusion 3.5, or FLUX.1.

python examples/sd3_flux.py --flux --prompt "a red fox in the snow" --compare
python examples/sd3_flux.py --flux --tiny --steps 6 --tolerance 0 --compare  # offline, random weights
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
    called: dict[str, Any] = {"num_inference_steps": args.steps, "output_type": "np"}
    if args.tiny:  # has no text encoders, and is given embeddings
        from benchmarks.zoo import ZOO

        specimen = next(s for s in ZOO if s.name == ("FluxPipeline" if args.flux else "StableDiffusion3Pipeline"))
        return specimen.build(), {k: v for k, v in specimen.inputs().items() if k != "generator"} | called
    name = "black-forest-labs/FLUX.1-dev" if args.flux else "stabilityai/stable-diffusion-3.5-medium"
    pipe = DiffusionPipeline.from_pretrained(name, torch_dtype=torch.bfloat16)
    if torch.cuda.is_available():
        pipe.enable_model_cpu_offload()  # text encoders make room for the transformer; windows want memory
    return pipe, called | {"prompt": args.prompt}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a red fox in the snow, morning light")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--window", type=int, default=28, help="steps at once: fewer, where memory is short")
    parser.add_argument(
        "--tolerance", type=float, default=0.003, help="relative error of the latents; 0: the same image"
    )
    for flag in ("--flux", "--tiny", "--compare"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", default="image.png")
    args = parser.parse_args(argv)
    pipe, called = load(args)
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
