"""A network that remembers earlier calls is found, and its pipeline runs step by step, as its own loop does: A4."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paradigms import enable_parallel_sampling, parallelize
from paradigms.models import latent
from promises import sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SHARED: dict[str, Any] = {}


def due(n: int, every: int, first: int) -> bool:
    """Whether the n-th call computes: one of the first, or every so many."""
    return n <= first or n % every == 1 % every


def in_a_closure(pipe: Any, every: int, first: int) -> None:
    """A patched forward: the case as it was reported."""
    plain, kept, n = pipe.unet.forward, [None], [0]

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        n[0] += 1
        if due(n[0], every, first) or kept[0][0].shape[:1] != x.shape[:1]:
            kept[0] = plain(x, t, **how)
        return kept[0]

    pipe.unet.forward = forward


def in_variables(pipe: Any, every: int, first: int) -> None:
    """As a closure, its variables set anew."""
    plain, kept, n = pipe.unet.forward, None, 0

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        nonlocal kept, n
        n += 1
        if due(n, every, first) or kept[0].shape[:1] != x.shape[:1]:
            kept = plain(x, t, **how)
        return kept

    pipe.unet.forward = forward


def in_fields(pipe: Any, every: int, first: int) -> None:
    """As TeaCache: state on the module, of a block's output."""
    block = pipe.unet.mid_block
    plain = block.forward

    def forward(x: Tensor, *args: Any, **how: Any) -> Any:
        block.count = getattr(block, "count", 0) + 1
        if due(block.count, every, first) or block.residual.shape != x.shape:
            block.residual = plain(x, *args, **how) - x
        return x + block.residual

    block.forward = forward


def in_an_object(pipe: Any, every: int, first: int) -> None:
    """As DeepCache: a helper whose methods stand in for those of blocks."""

    class Helper:
        def __init__(self) -> None:
            self.cached: dict[str, Tensor] = {}
            self.n = 0

        def wrap(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
            def forward(x: Tensor, *args: Any, **how: Any) -> Any:
                self.n += 1
                if due(self.n, every, first) or self.cached[name].shape[:1] != x.shape[:1]:
                    self.cached[name] = plain(x, *args, **how)
                return self.cached[name]

            return forward

    pipe.unet.mid_block.forward = Helper().wrap("mid", pipe.unet.mid_block.forward)


def in_a_hook(pipe: Any, every: int, first: int) -> None:
    """A forward hook with slots."""

    class Hook:
        __slots__ = ("kept", "n")

        def __init__(self) -> None:
            self.n, self.kept = 0, None

        def __call__(self, module: nn.Module, given: Any, said: Tensor) -> Any:
            self.n += 1
            if due(self.n, every, first) or self.kept.shape != said.shape:  # type: ignore[attr-defined]
                self.kept = said
            return self.kept

    pipe.unet.mid_block.register_forward_hook(Hook())


def in_a_buffer(pipe: Any, every: int, first: int) -> None:
    """A buffer of the module, written in place."""
    block = pipe.unet.mid_block
    plain, n = block.forward, [0]

    def forward(x: Tensor, *args: Any, **how: Any) -> Any:
        n[0] += 1
        said = plain(x, *args, **how)
        if not hasattr(block, "last") or block.last.shape != said.shape:
            block.register_buffer("last", said.clone(), persistent=False)
        elif due(n[0], every, first):
            block.last.copy_(said)
        return 0.5 * said + 0.5 * block.last

    block.forward = forward


def in_a_global(pipe: Any, every: int, first: int) -> None:
    """A variable of the patch's module."""
    plain = pipe.unet.forward
    SHARED.update(n=0, kept=None)

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        SHARED["n"] += 1
        if due(SHARED["n"], every, first) or SHARED["kept"][0].shape[:1] != x.shape[:1]:
            SHARED["kept"] = plain(x, t, **how)
        return SHARED["kept"]

    pipe.unet.forward = forward


class Kept:
    """What a class of a program holds."""

    n, said = 0, None


def in_a_class(pipe: Any, every: int, first: int) -> None:
    """The attributes of a class that the patch names."""
    plain = pipe.unet.forward
    Kept.n, Kept.said = 0, None

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        Kept.n += 1
        if due(Kept.n, every, first) or Kept.said[0].shape[:1] != x.shape[:1]:
            Kept.said = plain(x, t, **how)
        return Kept.said

    pipe.unet.forward = forward


def in_a_closures_dict(pipe: Any, every: int, first: int) -> None:
    """A forward hook with a dict by shapes in its closure."""
    kept: dict[Any, Any] = {}

    def hook(module: nn.Module, given: Any, said: Tensor) -> Any:
        kept["n"] = kept.get("n", 0) + 1
        if due(kept["n"], every, first) or said.shape not in kept:
            kept[said.shape] = said
        return kept[said.shape]

    pipe.unet.mid_block.register_forward_hook(hook)


def in_a_weak_dict(pipe: Any, every: int, first: int) -> None:
    """A table whose keys are not kept alive."""
    plain, kept = pipe.unet.forward, weakref.WeakKeyDictionary[Any, Any]()
    network = pipe.unet

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        n, said = kept.get(network, (0, None))
        if due(n + 1, every, first) or said[0].shape[:1] != x.shape[:1]:
            said = plain(x, t, **how)
        kept[network] = n + 1, said
        return said

    network.forward = forward


PLACES = [in_a_closure, in_variables, in_fields, in_an_object, in_a_hook, in_a_buffer, in_a_global, in_a_class,
          in_a_closures_dict, in_a_weak_dict]  # fmt: skip


@pytest.mark.parametrize(("every", "first"), [(2, 0), (3, 0), (5, 0), (2, 4)])
@pytest.mark.parametrize("place", PLACES, ids=lambda p: p.__name__)
def test_a_step_cache_of_any_other_library_is_found_and_stepped_through(
    place: Callable[[Any, int, int], None], every: int, first: int
) -> None:
    """A4: to the bit what the pipeline's own loop makes with it, and the reason in the report."""

    def made() -> Any:
        pipe = text2image()
        place(pipe, every, first)
        return pipe

    reference = sample(made(), steps=7)
    pipe = made()
    with parallelize(pipe, tolerance=0, window=4, batched=every == 2) as run:
        assert torch.equal(sample(pipe, steps=7), reference)
    assert len(run.fallbacks) == 1 and "UNet2DConditionModel" in run.fallbacks[0]
    assert (run.steps, run.rounds, run.evaluations) == (7, 7, 7) and run.checks > 0
    assert set(run.accepted) == {1} and f"one by one: {run.fallbacks[0]}" in str(run)


@pytest.mark.parametrize("batched", [True, False])
def test_the_reported_case(batched: bool) -> None:
    """A4: 0.33 with batches, 0.14 without, of the shipped model."""

    def made() -> Any:
        pipe = latent.load()
        in_a_closure(pipe, 2, 0)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def call(pipe: Any) -> Tensor:
        found = pipe("a red cat", num_inference_steps=6, output_type="latent", generator=torch.manual_seed(0))
        return torch.as_tensor(found.images)

    reference = call(made())
    pipe = made()
    with parallelize(pipe, tolerance=0, window=4, batched=batched) as run:
        assert torch.equal(call(pipe), reference)
    assert len(run.fallbacks) == 1


def test_a_network_that_holds_an_iterator_is_stepped_from_its_beginning() -> None:
    """A4: what an iterator has given cannot be put back, so it is asked for nothing before the call is stepped."""

    def made() -> Any:
        pipe = text2image()
        plain = pipe.unet.forward

        def course() -> Iterator[float]:
            yield from (1.0 + 0.01 * n for n in range(99))

        strengths = course()

        def forward(x: Tensor, t: Any, **how: Any) -> Any:
            return plain(x * next(strengths), t, **how)

        pipe.unet.forward = forward
        return pipe

    reference, pipe = sample(made(), steps=5), made()
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(sample(pipe, steps=5), reference)
    assert run.fallbacks == [
        "StableDiffusionPipeline: UNet2DConditionModel holds an iterator, which cannot be put back"
    ]


def test_a_cache_of_the_next_call_is_found_too() -> None:
    """A4: a patch made after a call of a network that was fine, which is not asked twice about."""
    pipe = text2image()
    enable_parallel_sampling(pipe, tolerance=0, window=4)
    sample(pipe)
    run = enable_parallel_sampling(pipe, tolerance=0, window=4)
    sample(pipe)
    assert run.checks <= 4 and not run.fallbacks  # a batch against a call of its own, and rows repeated in batches
    in_a_closure(pipe, 2, 0)
    sample(pipe)
    assert len(run.fallbacks) == 1 and "keeps what it computed" in run.fallbacks[0]


def test_a_cache_by_timesteps_is_found() -> None:
    """A4: another sample at a time that was answered before gets the old answer, and nothing is counted."""

    def made() -> Any:
        pipe, kept = text2image(), {}
        plain = pipe.unet.forward

        def forward(x: Tensor, t: Any, **how: Any) -> Any:
            key = int(t.flatten()[0] if isinstance(t, Tensor) else t) // 400, len(x)
            if key not in kept:
                kept[key] = plain(x, t, **how)
            return kept[key]

        pipe.unet.forward = forward
        return pipe

    reference, pipe = sample(made(), steps=7), made()
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(sample(pipe, steps=7), reference)
    assert len(run.fallbacks) == 1 and "gave the answer to another call" in run.fallbacks[0]


def test_a_network_that_draws_from_a_generator_of_its_own_is_stepped_from_where_it_stood() -> None:
    """A4: what was drawn to find it out is put back."""

    def made() -> Any:
        pipe, generator = text2image(), torch.Generator().manual_seed(1)
        pipe.unet.mid_block.register_forward_hook(lambda m, given, said: said + torch.rand(1, generator=generator))
        return pipe

    reference, pipe = sample(made(), steps=7), made()
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(sample(pipe, steps=7), reference)
    assert len(run.fallbacks) == 1 and "answered one call in two ways" in run.fallbacks[0]


@pytest.mark.parametrize("draw", [torch.randn_like, lambda x: float(np.random.randn()), lambda x: random.gauss(0, 1)])
@pytest.mark.parametrize("steps", [8, 12])
def test_a_network_that_draws_late_is_found(draw: Callable[[Tensor], Any], steps: int) -> None:
    """A4: rows put the streams back, so what was asked once more drew the same; up to 0.004 off, no message."""

    def made() -> Any:
        pipe = text2image()
        plain = pipe.unet.forward

        def forward(x: Tensor, t: Any, **how: Any) -> Any:
            said = plain(x, t, **how)
            return said if float(torch.as_tensor(t).max()) >= 300 else (said[0] + 0.01 * draw(x),)

        pipe.unet.forward = forward
        return pipe

    random.seed(0), np.random.seed(0)
    reference, pipe = sample(made(), steps=steps), made()
    random.seed(0), np.random.seed(0)
    with parallelize(pipe, window=4) as run:
        assert torch.equal(sample(pipe, steps=steps), reference)
    assert len(run.fallbacks) == 1 and "draws at random" in run.fallbacks[0]


def test_dropout_in_training_is_found() -> None:
    """A4: one call has two answers."""
    pipe = text2image()
    pipe.unet.mid_block.register_forward_hook(lambda module, given, said: torch.dropout(said, 0.5, True))
    reference = sample(pipe)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(sample(pipe), reference)
    assert "in two ways" in run.fallbacks[0]


def test_tables_made_anew_and_counts_are_no_memory() -> None:
    """A4: what is kept of no call, or decides nothing, leaves a pipeline parallel."""
    pipe, rows = text2image(), []
    plain = pipe.unet.forward

    def forward(x: Tensor, t: Any, **how: Any) -> Any:
        pipe.unet.table = torch.arange(4.0)
        pipe.unet.count = getattr(pipe.unet, "count", 0) + 1
        rows.append(len(x) // 2)
        return plain(x, t, **how)

    pipe.unet.forward = forward
    with parallelize(pipe, tolerance=0, window=4) as run:
        sample(pipe)
    assert not run.fallbacks and max(rows) > 1
