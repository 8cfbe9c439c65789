"""A diffusers pipeline on many ranks makes what it makes on one: its networks' calls are shared out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import paradigms as pd
import ranks
from published import church, sd2

TEXT = {"prompt": ["a red fox"] * 2, "guidance_scale": 4.0, "output_type": "latent"}
HOW: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "text to image": (sd2, TEXT, {}),
    "one call a row": (sd2, TEXT, {"batched": False}),
    "exact": (sd2, TEXT, {"tolerance": 0.0}),
    "pixels, as a table": (church, {"output_type": "np"}, {}),
}


def made(name: str, seed: int, mesh: Any) -> tuple[Tensor, pd.Run]:
    """What a pipeline makes of a seed, by its latents, its generator or torch's own."""
    build, arguments, how = HOW[name]
    torch.manual_seed(0)  # the weights
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(seed)
    if name == "exact":
        arguments = arguments | {"latents": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))}
    elif name != "one call a row":
        arguments = arguments | {"generator": torch.Generator().manual_seed(seed)}
    with pd.parallelize(pipe, window=4, mesh=mesh, **how) as run:
        x = torch.as_tensor(pipe(**arguments, num_inference_steps=6)[0])
    return x, run


def drawing_late(mesh: Any) -> tuple[Tensor, list[str]]:
    """What a pipeline makes whose network draws at random in its last steps, and its fallbacks."""
    torch.manual_seed(0)
    pipe = sd2()
    pipe.set_progress_bar_config(disable=True)
    plain = pipe.unet.forward

    def forward(x: Tensor, t: Any, *args: Any, **how: Any) -> Any:
        said = plain(x, t, *args, **how)
        return said if float(torch.as_tensor(t).max()) >= 300 else (said[0] + 0.01 * torch.randn_like(x),)

    pipe.unet.forward = forward
    torch.manual_seed(1)
    if mesh is None:
        return pipe(**TEXT, num_inference_steps=6)[0], []
    with pd.parallelize(pipe, window=4, mesh=mesh) as run:
        return pipe(**TEXT, num_inference_steps=6)[0], run.fallbacks


def of_all(rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: made(name, rank, dist.group.WORLD) for name in HOW}
    pipe = sd2()
    with pd.parallelize(pipe, mesh=dist.group.WORLD), pytest.raises(ValueError) as refused:
        pipe("a red fox" if rank else "a blue fox", num_inference_steps=4)
    return found | {"refused": str(refused.value), "drawing late": drawing_late(dist.group.WORLD)}


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    outcomes = ranks.run(3, of_all)
    assert not any(o.error for o in outcomes), outcomes
    return [o.value for o in outcomes]


@pytest.mark.parametrize("name", HOW)
def test_ranks_make_what_one_makes_of_the_first_ranks_seed(name: str, found: list[dict[str, Any]]) -> None:
    x, alone = made(name, 0, None)
    for y, run in (f[name] for f in found):
        torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-5)
        assert torch.equal(y, found[0][name][0])
        assert (run.rounds, run.evaluations, run.accepted) == (alone.rounds, alone.evaluations, alone.accepted)
        assert not run.fallbacks and run.sharing.wire_bytes > 0
        images = 1 if name.endswith("table") else len(x)  # a loop shares rows of all images, a table every image's own
        shared = sum(run.sharing.rows) * images  # what is asked to check is shared too
        assert run.evaluations <= shared <= run.evaluations + run.checks
        assert max(run.sharing.rows) - min(run.sharing.rows) <= 1


def test_a_prompt_of_its_own_is_refused_on_every_rank(found: list[dict[str, Any]]) -> None:
    for f in found:
        assert f["refused"].startswith("argument 0: rank 0 was given 'a blue fox', rank 1 'a red fox'")


def test_a_network_that_draws_late_is_stepped_on_every_rank(found: list[dict[str, Any]]) -> None:
    """A4, on a mesh: the first rank that sees it tells the others, and all make what one makes alone."""
    alone, _ = drawing_late(None)
    for x, why in (f["drawing late"] for f in found):
        assert torch.equal(x, alone) and len(why) == 1 and "draws at random" in why[0]
