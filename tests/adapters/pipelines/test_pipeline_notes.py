"""What a network notes from call to call, in numbers, weights, arrays or caches, decides nothing or is stepped: A4."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import EXACT, off
from small_pipelines import Said, small


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


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "patch",
    [last_time, seventh_call, cached_answer, weights, weights_past_the_count, weights_anew, array],
    ids=lambda p: p.__name__,
)
def test_what_a_network_notes_is_found_and_put_back(patch: Callable[[Any, Any], Any], batched: bool) -> None:
    """A4: two calls, each to the bit what the pipeline makes from where the first left the network."""
    plain, pipe = small(patch=patch), small(patch=patch)
    references = [plain(0), plain(1)]
    with parallelize(pipe, tolerance=0, window=3, batched=batched) as run:
        found = [pipe(0), pipe(1)]
    assert all(map(torch.equal, found, references)) and max(run.windows) == 1
    assert len(run.fallbacks) == 2 and all("Small" in why or "cached" in why for why in run.fallbacks)


@pytest.mark.parametrize("batched", [True, False])
def test_what_a_network_keeps_once_and_uses_late_is_found(batched: bool) -> None:
    """A4: only for answers of its shape, and so not in batches."""
    plain, pipe = small(patch=first_answer), small(patch=first_answer)
    with parallelize(pipe, tolerance=0, window=3, batched=batched) as run:
        assert off(pipe(), plain()) <= EXACT
    assert len(run.fallbacks) == batched


def test_a_count_that_decides_nothing_is_examined_once() -> None:
    """A4: all calls again in order at the end of the first loop, and none after a later one."""
    n: list[int] = []

    def counting(net: Any, plain: Any) -> Any:
        return lambda x, t: (n.append(len(x)), plain(x, t))[1]

    reference, pipe, checks = small(patch=counting)(), small(patch=counting), []
    for _ in range(2):
        n.clear()
        with parallelize(pipe, tolerance=0, window=4) as run:
            assert off(pipe(), reference) <= EXACT
        assert not run.fallbacks and max(run.windows) == 4 and sum(n) == run.evaluations + run.checks
        checks.append(run.checks)
    assert checks[1] < checks[0] - 8
