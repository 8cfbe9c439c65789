"""What the paper prints, row by row: evaluations, rounds, quality and seconds.

Source: Shih et al., Parallel Sampling of Diffusion Models (NeurIPS 2023), arXiv 2305.16317, tables of Franka Kitchen,
Stable Diffusion v2 and LSUN Church, read off the authors' results. The rows of Square and PushT are in the paper, and
no source that was at hand shows their numbers: those rows say so.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Shih et al. 2023 (arXiv 2305.16317)"


@dataclass(frozen=True)
class Line:
    """One sampler as published: evaluations, rounds, quality, and seconds a sample (an episode of a robot)."""

    evaluations: int
    rounds: int
    quality: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """A row: the model, the sampler's rule and steps, the window that is taken for it, and what was published.

    The windows are ours to choose: 80 for DDPM-1000 is about the published batch, those of the others are about the
    published evaluations over rounds.
    """

    name: str
    model: str
    rule: str
    steps: int
    window: int
    quality: str
    sequential: Line | None = None
    parallel: Line | None = None
    devices: str = ""


A100 = "8 A100"
ROWS = {
    row.name: row
    for row in (
        Row("sd2-ddpm", "sd2", "ddpm", 1000, 80, "CLIP score",
            Line(1000, 1000, 32.1, 50.0), Line(2040, 44, 32.1, 16.2), A100),
        Row("sd2-ddim", "sd2", "ddim", 200, 32, "CLIP score",
            Line(200, 200, 31.9, 10.3), Line(425, 16, 31.9, 5.8), A100),
        Row("sd2-dpmsolver", "sd2", "dpmsolver", 200, 32, "CLIP score",
            Line(200, 200, 31.7, 10.3), Line(411, 16, 31.7, 5.8), A100),
        Row("church-ddpm", "church", "ddpm", 1000, 64, "FID", Line(1000, 1000, 12.8, 24.0), Line(2556, 42, 12.9, 8.2)),
        Row("church-ddim", "church", "ddim", 500, 40, "FID", Line(500, 500, 15.7, 12.2), Line(1502, 42, 15.7, 6.3)),
        Row("kitchen", "kitchen", "ddpm", 100, 16, "reward", Line(100, 100, 0.85, 112.0), Line(390, 25, 0.84, 33.3)),
        Row("kitchen-ddim", "kitchen", "ddim", 15, 16, "reward", Line(15, 15, 0.80, 16.9), Line(47, 7, 0.80, 9.45)),
        Row("kitchen-dpmsolver", "kitchen", "dpmsolver", 15, 16, "reward",
            Line(15, 15, 0.79, 17.4), Line(41, 6, 0.80, 8.89)),
        Row("square", "square", "ddpm", 100, 16, "reward"),
        Row("pusht", "pusht", "ddpm", 100, 16, "reward"),
    )
}  # fmt: skip
