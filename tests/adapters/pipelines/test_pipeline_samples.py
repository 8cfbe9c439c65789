"""Prompts, images a prompt, and generators: the sequential samples, and the state of randomness that they leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import generators, off, promise, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

NOISY: dict[str, Callable[[], Any]] = {
    "ddim": lambda: text2image(),
    "ddpm": lambda: text2image("DDPMScheduler"),
    "euler ancestral": lambda: text2image("EulerAncestralDiscreteScheduler"),
    "sde-dpmsolver++": lambda: text2image("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"),
}
TWO = ["a red fox", "blue sea"]


def states(pipe: Any, seed: int | list[int] | None, **changes: Any) -> list[Tensor]:
    """Where a call leaves its generators and torch's own; the sample last."""
    made = generators(seed)
    found = sample(pipe, generator=made, **changes)
    each = made if isinstance(made, list) else [] if made is None else [made]
    return [*(g.get_state() for g in each), torch.get_rng_state(), found]


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("seed", [7, None, [7, 8]], ids=["one", "torch's own", "one a sample"])
def test_generators_end_where_the_sequential_call_leaves_them(name: str, seed: int | list[int] | None) -> None:
    pipe, eta = NOISY[name](), {"eta": 1.0} if name == "ddim" else {}
    reference = states(pipe, seed, prompt=TWO, **eta)
    with parallelize(pipe, tolerance=0, window=3, batched=False):
        found = states(pipe, seed, prompt=TWO, **eta)
    assert len(found) == len(reference) and all(map(torch.equal, found, reference))


def test_generators_end_there_when_the_result_is_not_exact_too() -> None:
    pipe = text2image("DDPMScheduler")
    reference = states(pipe, 7, steps=12)
    with parallelize(pipe, tolerance=0.05, window=8):
        found = states(pipe, 7, steps=12)
    assert torch.equal(found[0], reference[0]) and torch.equal(found[1], reference[1])
    assert off(found[2], reference[2]) < 0.5


def test_a_generator_goes_on_from_one_call_to_the_next() -> None:
    pipe, eta = text2image(), {"eta": 1.0}
    given = torch.Generator().manual_seed(7)
    reference = [sample(pipe, generator=given, **eta) for _ in range(2)]
    given = torch.Generator().manual_seed(7)
    with parallelize(pipe, tolerance=0, window=4, batched=False):
        found = [sample(pipe, generator=given, **eta) for _ in range(2)]
    assert all(map(torch.equal, found, reference)) and not torch.equal(*found)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": TWO, "negative_prompt": ["sea", "fox"], "seed": [3, 4]},
        {"prompt": TWO, "num_images_per_prompt": 2, "eta": 0.5},
        {"prompt": [*TWO, "fox"], "guidance_scale": 1.0, "seed": [3, 4, 5], "eta": 0.5},
        {"num_images_per_prompt": 2, "negative_prompt": "sea", "seed": None},
    ],
    ids=["negative prompts", "images a prompt", "three without guidance", "torch's own generator"],
)
def test_lists_of_prompts_are_right(changes: dict[str, Any]) -> None:
    promise(text2image(), **changes)


def test_a_sample_does_not_heed_its_neighbours() -> None:
    pipe = text2image()
    alone = sample(pipe, prompt=TWO[1], seed=[4], eta=1.0)
    with parallelize(pipe, tolerance=0, window=4):
        both = sample(pipe, prompt=TWO, seed=[3, 4], eta=1.0)
    assert off(both[1:], alone) <= 1e-4


def test_latents_of_the_users_own_are_left_alone() -> None:
    pipe, given = text2image(), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    kept = given.clone()
    promise(pipe, latents=given)
    assert torch.equal(given, kept)
