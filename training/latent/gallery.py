"""A grid of pictures, one row a prompt and one column a seed, so that one can see what the words do.

python -m training.latent.gallery [--out docs/latent-prompts.png] [--steps S] [--guidance W]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

PROMPTS = (
    "a boat with red sails, a yellow sun over the sea, day",
    "a boat with red sails, a yellow sun over the sea, sunset",
    "a boat with red sails, a yellow moon over the sea, night",
    "a boat with white sails, a red moon over the sea, mountains, night",
    "a house with a red roof, a green meadow, snowy mountains, day",
    "a house with a blue roof, snow, hills, a white moon, night",
    "pines, snow, snowy mountains, a red sun, day",
    "orange trees, a green meadow, hills, sunset",
    "green trees, a desert, mountains, a white sun, day",
    "a red sun over a desert, mountains, sunset",
    "the sea, night",
    "",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.latent.gallery", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/latent-prompts.png"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--pipeline", type=Path, default=None, metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    from paradigms.models.latent import load

    pipe = load() if given.pipeline is None else load(given.pipeline)
    pipe.set_progress_bar_config(disable=True)
    draw(given.out, [row(pipe, prompt, given) for prompt in PROMPTS])


def row(pipe: Any, prompt: str, given: argparse.Namespace) -> Any:
    """Pictures (seeds, 64, 64, 3) in [0, 1] of seeds 0, 1, 2, ..., not chosen."""
    return pipe(
        [prompt] * given.seeds,
        num_inference_steps=given.steps,
        guidance_scale=given.guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in range(given.seeds)],
        output_type="np",
    ).images


def draw(out: Path, rows: list[Any]) -> None:
    """Write the grid with each prompt above its row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    half = (len(rows) + 1) // 2
    figure, axes = plt.subplots(half, 2, figsize=(2 * len(rows[0]) + 0.4, 1.4 * half))
    for axis, prompt, pictures in zip(axes.T.flat, PROMPTS, rows, strict=False):
        strip = torch.nn.functional.pad(torch.from_numpy(pictures), (0, 0, 1, 1, 1, 1), value=1.0)
        axis.imshow(torch.cat(list(strip), dim=1).numpy(), interpolation="nearest")
        axis.set_title(prompt or "(no prompt)", fontsize=11, loc="left", pad=3)
        axis.axis("off")
    figure.tight_layout(pad=0.5)
    figure.savefig(out, dpi=75)


if __name__ == "__main__":
    main()
