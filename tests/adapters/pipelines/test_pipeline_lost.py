"""A network whose memory cannot be put back has its pipeline's call stopped: its loop would go on from elsewhere."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paradigms import disable_parallel_sampling, enable_parallel_sampling
from paradigms.models import latent

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
Kept = tuple[int, Any]


def in_a_file(folder: Path) -> tuple[Callable[[], Kept | None], Callable[[Kept], None]]:
    path = folder / "kept.pt"
    return lambda: torch.load(path) if path.exists() else None, lambda kept: torch.save(kept, path)


def in_a_context_variable(folder: Path) -> tuple[Callable[[], Kept | None], Callable[[Kept], None]]:
    kept: contextvars.ContextVar[Kept | None] = contextvars.ContextVar("kept", default=None)
    return kept.get, lambda v: (kept.set(v), None)[1]


def in_a_cache(folder: Path) -> tuple[Callable[[], Kept | None], Callable[[Kept], None]]:
    @functools.lru_cache
    def box() -> list[Any]:
        return [None]

    return lambda: box()[0], lambda kept: box().__setitem__(0, kept)


def remembering(every: int, place: Any, folder: Path) -> Any:
    """A pipeline whose network computes every so many calls, and answers by what it kept in between."""
    pipe, (get, put) = latent.load(), place(folder)
    pipe.set_progress_bar_config(disable=True)
    plain = pipe.unet.forward

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        n, kept = get() or (0, None)
        kept = plain(x, t, **how)[0] if n % every == 0 or kept.shape != x.shape else kept
        put((n + 1, kept))
        return (kept,)

    pipe.unet.forward = forward
    return pipe


def made(pipe: Any) -> Tensor:
    how = {"num_inference_steps": 6, "output_type": "latent"}
    return pipe("a lake", generator=torch.Generator().manual_seed(0), **how).images  # type: ignore[no-any-return]


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("place", [in_a_file, in_a_context_variable, in_a_cache])
def test_a_memory_that_is_lost_stops_the_call(place: Any, every: int, tmp_path: Path) -> None:
    """They were found, and stepped through from another place: 2.8 off, with the reason of a step cache."""
    pipe = remembering(every, place, tmp_path)
    enable_parallel_sampling(pipe, window=4, tolerance=0)
    with pytest.raises(RuntimeError, match=r"cannot be put back .* paradigms.disable_parallel_sampling\(pipe\)"):
        made(pipe)
    disable_parallel_sampling(pipe)
    assert made(pipe).isfinite().all()


def test_a_memory_in_a_closure_is_put_back(tmp_path: Path) -> None:
    def in_a_list(folder: Path) -> Any:
        kept: list[Any] = [None]
        return lambda: kept[0], lambda v: kept.__setitem__(0, v)

    pipe = remembering(2, in_a_list, tmp_path)
    run = enable_parallel_sampling(pipe, window=4, tolerance=0)
    assert torch.equal(made(pipe), made(remembering(2, in_a_list, tmp_path)))
    assert run.rounds == 6 and "UNet2DConditionModel" in run.fallbacks[0]
