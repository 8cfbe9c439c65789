"""A network that begins to remember late, without a count, is found as well: A4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import CLOSE, off, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def time_of(t: Any) -> float:
    return float(torch.as_tensor(t).max())


def kept_once(pipe: Any) -> None:
    """Below t = 500 everything gets the first answer there."""
    plain, kept = pipe.unet.forward, []

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        if time_of(t) >= 500:
            return plain(x, t, **how)
        if not kept:
            kept.append(plain(x, t, **how))
        return kept[0] if kept[0][0].shape == x.shape else plain(x, t, **how)

    pipe.unet.forward = forward


def kept_by_shape(pipe: Any) -> None:
    """Below t = 600 every other hundred of times gets what was answered to its shape last."""
    plain, kept = pipe.unet.forward, {}

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        late = time_of(t) < 600
        if late and x.shape in kept and int(time_of(t)) // 100 % 2:
            return kept[x.shape]
        said = plain(x, t, **how)
        kept.update({x.shape: said} if late else {})
        return said

    pipe.unet.forward = forward


def kept_residual(pipe: Any) -> None:
    """As TeaCache: a block's residual, kept below t = 700 and used below 400."""
    block, note = pipe.unet.mid_block, {}
    plain, whole = block.forward, pipe.unet.forward

    def outer(x: Tensor, t: Any, **how: Any) -> Any:
        note["t"] = time_of(t)
        return whole(x, t, **how)

    def forward(x: Tensor, *args: Any, **how: Any) -> Any:
        kept = note.get("kept")
        if note["t"] < 400 and kept is not None and kept.shape == x.shape:
            return x + kept
        said = plain(x, *args, **how)
        note.update({"kept": said - x} if note["t"] < 700 else {})
        return said

    block.forward, pipe.unet.forward = forward, outer


def kept_past_the_count(pipe: Any) -> None:
    """A buffer that is written by `.data`, below t = 500."""
    block = pipe.unet.mid_block
    plain, whole = block.forward, pipe.unet.forward
    block.register_buffer("last", torch.zeros(1))

    def outer(x: Tensor, t: Any, **how: Any) -> Any:
        block.t = time_of(t)
        return whole(x, t, **how)

    def forward(x: Tensor, *args: Any, **how: Any) -> Any:
        said = plain(x, *args, **how)
        if block.t < 500:
            said = said + 0.3 * block.last
            block.last.data.copy_(said.mean().reshape(1))
        return said

    block.forward, pipe.unet.forward = forward, outer


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("steps", [8, 13])
@pytest.mark.parametrize("place", [kept_once, kept_by_shape, kept_residual, kept_past_the_count])
def test_a_cache_that_begins_late_and_counts_nothing_is_found(
    place: Callable[[Any], None], steps: int, batched: bool
) -> None:
    """A4: the sequential result, to the bit where the call stepped; that the reason is told."""

    def made() -> Any:
        pipe = text2image()
        place(pipe)
        return pipe

    reference, pipe = sample(made(), steps=steps), made()
    with parallelize(pipe, tolerance=0, window=4, batched=batched) as run:
        found = sample(pipe, steps=steps)
    assert torch.equal(found, reference) if run.fallbacks else off(found, reference) <= CLOSE
    assert all("UNet2DConditionModel" in why for why in run.fallbacks)


CALLED: list[int] = []


def test_callbacks_that_are_called_again_are_told_of() -> None:
    """A4: what they noted in variables of their own is put back, what they did elsewhere is not; the reason says it."""
    pipe, plain, noted = text2image(), text2image(), list[int]()
    kept_once(pipe), kept_once(plain)
    CALLED.clear()

    def callback(pipe: Any, i: int, t: Any, held: Any) -> Any:
        noted.append(i)
        CALLED.append(i)
        return held

    with parallelize(pipe, tolerance=0, window=4) as run:
        found = sample(pipe, steps=8, callback_on_step_end=callback)
    assert torch.equal(found, sample(plain, steps=8)) and noted == list(range(8))
    assert CALLED[-8:] == list(range(8)) and CALLED[:-8] == list(range(len(CALLED) - 8)) and len(CALLED) > 8
    assert len(run.fallbacks) == 1 and "callbacks had been called by then" in run.fallbacks[0]


def test_a_network_that_is_fine_over_a_loop_is_not_examined_again_over_such_times() -> None:
    """A4: later calls make one check of a row against its batch, and the rows that are repeated in batches."""
    pipe = text2image()
    reference, checks = sample(pipe, steps=12), []
    for _ in range(2):
        with parallelize(pipe, tolerance=0, window=8) as run:
            assert off(sample(pipe, steps=12), reference) <= CLOSE
        checks.append(run.checks)
        assert not run.fallbacks
    assert checks[1] < checks[0] and checks[1] <= 1 + 3
