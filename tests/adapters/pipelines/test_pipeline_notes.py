"""What a network notes from call to call, in numbers, weights, arrays or caches, decides nothing or is stepped: A4."""

from __future__ import annotations

import functools
from array import array as array_of
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import EXACT, off
from small_pipelines import Said, Small, small


def time_of(t: Any) -> float:
    return float(torch.as_tensor(t).flatten()[0])


def last_time(net: Any, plain: Any) -> Any:
    net.last = None

    def forward(x: Tensor, t: Any) -> Any:
        now, scale = time_of(t), 1.0
        scale += 0 if net.last is None or net.last <= now else 1e-3 * (net.last - now)
        net.last = now
        return Said(scale * plain(x, t).sample)

    return forward


def seventh_call(net: Any, plain: Any) -> Any:
    n = [0]

    def forward(x: Tensor, t: Any) -> Any:
        n[0] += 1
        return Said((1.3 if n[0] % 7 == 0 else 1.0) * plain(x, t).sample)

    return forward


def first_answer(net: Any, plain: Any) -> Any:
    kept: dict[str, Tensor] = {}

    def forward(x: Tensor, t: Any) -> Any:
        said = plain(x, t).sample
        kept.setdefault("first", said)
        mixed = time_of(t) < 130 and kept["first"].shape == said.shape
        return Said(0.5 * (said + kept["first"]) if mixed else said)

    return forward


def cached_answer(net: Any, plain: Any) -> Any:
    kept = SimpleNamespace(mean=0.0)
    mean = functools.lru_cache(lambda hundreds: kept.mean)

    def forward(x: Tensor, t: Any) -> Any:
        said = plain(x, t).sample
        kept.mean = float(said.mean())
        return Said(said + mean(time_of(t) // 300))

    return forward


def weights(net: Any, plain: Any) -> Any:
    def forward(x: Tensor, t: Any) -> Any:
        net.outer.bias.add_(0.05)
        return plain(x, t)

    return forward


def weights_past_the_count(net: Any, plain: Any) -> Any:
    def forward(x: Tensor, t: Any) -> Any:
        if time_of(t) < 400:
            net.outer.bias.data.add_(0.05)
        return plain(x, t)

    return forward


def weights_anew(net: Any, plain: Any) -> Any:
    def forward(x: Tensor, t: Any) -> Any:
        net.outer.bias = torch.nn.Parameter(net.outer.bias + 0.05, requires_grad=False)
        return plain(x, t)

    return forward


def array(net: Any, plain: Any) -> Any:
    kept = np.zeros(1)

    def forward(x: Tensor, t: Any) -> Any:
        kept[0] += 0.05
        return Said(plain(x, t).sample + float(kept[0]))

    return forward


def every_fourth(count: Callable[[], int]) -> Any:
    def patch(net: Any, plain: Any) -> Any:
        return lambda x, t: Said((1.2 if count() % 4 == 3 else 1.0) * plain(x, t).sample)

    return patch


def counter(net: Any, plain: Any) -> Any:
    n = Counter[str]()
    return every_fourth(lambda: (n.update(calls=1), n["calls"])[1])(net, plain)


def byte(net: Any, plain: Any) -> Any:
    n = bytearray(1)
    return every_fourth(lambda: (n.__setitem__(0, n[0] + 1), n[0])[1])(net, plain)


def machine_numbers(net: Any, plain: Any) -> Any:
    n = array_of("i", [0])
    return every_fourth(lambda: (n.__setitem__(0, n[0] + 1), n[0])[1])(net, plain)


def module_of_the_program(net: Any, plain: Any) -> Any:
    mine: Any = ModuleType("mine")
    mine.scale = 0.0

    def forward(x: Tensor, t: Any) -> Any:
        said, last = plain(x, t).sample, mine.scale
        mine.scale = float(said.std())
        return Said(said * (1 + 0.1 * last))

    return forward


def method_of_the_class(net: Any, plain: Any) -> Any:
    n, own = [0], Small.forward

    def forward(self: Any, x: Tensor, t: Any) -> Any:
        n[0] += 1
        return Said((1.2 if n[0] % 4 == 3 else 1.0) * own(self, x, t).sample)

    net.__class__ = type("Patched", (Small,), {"forward": forward})
    return functools.partial(forward, net)


def first_of_its_half(net: Any, plain: Any) -> Any:
    """What the first call below and above t = 500 notes counts for all of that half."""
    noted: dict[int, float] = {}

    def forward(x: Tensor, t: Any) -> Any:
        said = plain(x, t).sample
        return Said(said + 0.3 * noted.setdefault(int(time_of(t)) // 500, float(said.mean())))

    return forward


@pytest.mark.parametrize("window", [3, 4, 8])
@pytest.mark.parametrize("batched", [True, False])
def test_what_the_first_call_of_a_span_notes_is_found(batched: bool, window: int) -> None:
    """A4: windows come to a later span before its first step; up to 0.16 off, no message."""
    plain, pipe = small(patch=first_of_its_half), small(patch=first_of_its_half)
    references = [plain(0), plain(1)]
    with parallelize(pipe, tolerance=0, window=window, batched=batched) as run:
        found = [pipe(0), pipe(1)]
    assert all(off(x, y) <= 2 * EXACT for x, y in zip(found, references, strict=True)), run.fallbacks


OTHER_PLACES = [counter, byte, machine_numbers, module_of_the_program, method_of_the_class]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "patch",
    [*OTHER_PLACES, last_time, seventh_call, cached_answer, weights, weights_past_the_count, weights_anew, array],
    ids=lambda p: p.__name__,
)
def test_what_a_network_notes_is_found_and_put_back(patch: Callable[[Any, Any], Any], batched: bool) -> None:
    """A4: two calls, each to the bit what the pipeline makes from where the first left the network."""
    plain, pipe = small(patch=patch), small(patch=patch)
    references = [plain(0), plain(1)]
    with parallelize(pipe, tolerance=0, window=3, batched=batched) as run:
        found = [pipe(0), pipe(1)]
    assert all(map(torch.equal, found, references)) and max(run.windows) == 1
    assert len(run.fallbacks) == 2 and all(
        "Small" in why or "Patched" in why or "cached" in why for why in run.fallbacks
    )


@pytest.mark.parametrize("batched", [True, False])
def test_what_a_network_keeps_once_and_uses_late_is_found(batched: bool) -> None:
    """A4: only for answers of its shape, and so not in batches."""
    plain, pipe = small(patch=first_answer), small(patch=first_answer)
    with parallelize(pipe, tolerance=0, window=3, batched=batched) as run:
        assert off(pipe(), plain()) <= EXACT
    assert len(run.fallbacks) == batched


def test_a_count_that_decides_nothing_is_examined_once() -> None:
    """A4: all calls again in order at the end of the first loop, which the count forgets, and none after later ones."""
    n: list[int] = []

    def counting(net: Any, plain: Any) -> Any:
        return lambda x, t: (n.append(len(x)), plain(x, t))[1]

    reference, pipe, checks = small(patch=counting)(), small(patch=counting), []
    for again in (8, 0):
        n.clear()
        with parallelize(pipe, tolerance=0, window=4) as run:
            assert off(pipe(), reference) <= EXACT
        assert not run.fallbacks and max(run.windows) == 4 and sum(n) == run.evaluations + run.checks - again
        checks.append(run.checks)
    assert checks[1] < checks[0] - 8
