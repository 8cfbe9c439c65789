"""What a picture shows, read off its colours alone, to measure whether prompts are followed.

time: the palette's sky colour nearest to the mean of the topmost rows; ground: the palette's lit ground colour nearest
to the median of the lowest rows; lamp: the lamp colour that most points of the sky are near to; subject: not read.

    python -m training.latent.readings [--count N] [--steps S] [--guidance W]

draws the shipped pipeline's pictures for N captions that name time, lamp and ground and prints the share read as asked,
beside the share for drawn scenes of the same choices.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from ..models.scenes import LIGHT, SKY_TOP
from .captions import GROUND, LAMP, LAMPS, TIMES, choices, draw_scenes

TOP, LOW = 3, 4  # rows


def time_of(pictures: Tensor) -> Tensor:
    """Index into TIMES (N,) of pictures (N, 3, 64, 64) in [-1, 1]."""
    top = (pictures[:, :, :TOP] / 2 + 0.5).mean((2, 3))
    return torch.cdist(top, SKY_TOP).argmin(1)


def ground_of(pictures: Tensor) -> Tensor:
    """Index into GROUNDS (N,), given the light of the time that is read."""
    low = (pictures[:, :, -LOW:] / 2 + 0.5).flatten(2).median(2).values
    lit = GROUND * LIGHT[time_of(pictures)][:, None]
    return torch.cdist(low[:, None], lit)[:, 0].argmin(1)


def lamp_of(pictures: Tensor) -> Tensor:
    """Index into LAMPS (N,): the colour within 0.2 of which most points of the upper half lie."""
    sky = (pictures[:, :, :36] / 2 + 0.5).flatten(2).transpose(1, 2)
    near = (torch.cdist(sky, LAMP.expand(len(sky), -1, -1)) < 0.2).sum(1)
    return near.argmax(1)


def asked(count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    """`count` choices with hills and pines or an empty sea, and prompts that name their time, lamp and ground."""
    rows = choices(count, generator)
    rows[:, 2] = 0
    rows[:, 4] = torch.where(rows[:, 3] == 1, 0, 3)
    prompts = []
    for time, lamp, _, ground, _, _ in rows.tolist():
        body = "moon" if TIMES[time] == "night" else "sun"
        place = ("a green meadow", "a blue sea", "snow", "a desert")[ground]
        prompts.append(f"{'' if ground == 1 else 'pines, '}a {LAMPS[lamp]} {body} over {place}, hills, {TIMES[time]}")
    return rows, prompts


def shares(pictures: Tensor, rows: Tensor) -> dict[str, float]:
    """Share of the pictures that read as their choices (N, 6) say, for time, lamp and ground."""
    found = {"time": (time_of(pictures), 0), "lamp": (lamp_of(pictures), 1), "ground": (ground_of(pictures), 3)}
    return {name: (read == rows[:, k]).float().mean().item() for name, (read, k) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.latent.readings", description=__doc__)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    given = parser.parse_args()
    from paradigms.models.latent import load

    generator = torch.Generator().manual_seed(0)
    rows, prompts = asked(given.count, generator)
    drawn = shares(draw_scenes(rows, generator), rows)
    pipe = load()
    pipe.set_progress_bar_config(disable=True)
    found = [
        pipe(
            prompts[k : k + 16],
            num_inference_steps=given.steps,
            guidance_scale=given.guidance,
            generator=generator,
            output_type="pt",
        ).images
        for k in range(0, len(prompts), 16)
    ]
    made = shares(torch.cat(found) * 2 - 1, rows)
    for name, share in made.items():
        print(f"{name:8s} made {share:6.1%}   drawn {drawn[name]:6.1%}")


if __name__ == "__main__":
    main()
