"""What a user's code raises arrives as it was; whatever ends a call leaves torch, classes and the pipe as before."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from interrupts import interrupted
from paradigms import disable_parallel_sampling, enable_parallel_sampling, parallelize
from paradigms.adapters.pipelines import patch as swap
from promises import sample, text2image
from small_pipelines import small

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def standing(pipe: Any) -> dict[str, Any]:
    """What an interrupt must leave as it was."""
    return {
        "pipe": (type(pipe), "_paradigms" in vars(pipe), sorted(k for k in vars(pipe) if "paradigms" in k)),
        "networks": {name: type(part) for name, part in pipe.components.items()},
        "modules": nn.Module.__setattr__.__module__,
        "modes": torch._C._len_torch_function_stack(),
        "grad": torch.is_grad_enabled(),
        "lock": swap.LOCK._is_owned(),  # type: ignore[attr-defined]
        "users": dict(swap._users),
        "threads": torch.get_num_threads(),
    }


def within(pipe: Any, **how: Any) -> None:
    with parallelize(pipe, **how):
        sample(pipe, steps=3)


def enabled(pipe: Any, **how: Any) -> None:
    try:
        enable_parallel_sampling(pipe, **how)
        sample(pipe, steps=3)
    finally:
        disable_parallel_sampling(pipe)


def left(pipe: Any, call: Callable[[], Any], k: int, before: dict[str, Any]) -> tuple[str, int]:
    """What is wrong after an interrupt at the k-th line, "" for nothing; and how many lines ran."""
    error, lines = interrupted(call, k)
    if error is not None and not isinstance(error, KeyboardInterrupt):
        return f"{k}: it became {error!r}, after {error.__context__!r}", lines
    after = standing(pipe)
    wrong = {name: (before[name], value) for name, value in after.items() if value != before[name]}
    return (f"{k}: {error}: {wrong}" if wrong else ""), lines


def injected(count: int, seed: int) -> list[str]:
    """`count` interrupts, spread over all lines of calls of several kinds; what they left."""
    pipe, found, g = text2image(), [], random.Random(seed)
    kinds: list[tuple[Callable[..., None], dict[str, Any]]] = [
        (within, {"window": 3, "tolerance": 0}),
        (within, {"window": 3, "tolerance": 0.01, "batched": False}),
        (enabled, {"window": "auto"}),
        (within, {"window": 1}),
    ]
    before = standing(pipe)
    for kind, (function, how) in enumerate(kinds):
        call = lambda: function(pipe, **how)  # noqa: B023, E731
        _, lines = interrupted(call, 0)
        share = count // len(kinds)
        for i in range(share):
            k = 1 + int((i + g.random()) * lines / share)
            wrong, _ = left(pipe, call, k, before)
            found += [f"{function.__name__} {how} {wrong}"] if wrong else []
        assert lines > 500, kind
    reference = sample(pipe, steps=3)
    with parallelize(pipe, window=3, tolerance=0, batched=False):
        assert torch.equal(sample(pipe, steps=3), reference)
    return found


def test_an_interrupt_at_any_line_leaves_nothing_behind() -> None:
    """B5: 30 of the 500 that `python tests/adapters/pipelines/test_pipeline_interrupts.py` makes."""
    assert injected(30, 0) == []


def interrupted_contexts(window: Any, every: int) -> list[str]:
    """What an interrupt left behind, at each of so many lines of __enter__ and __exit__, the first one included."""
    pipe, names = text2image(), ("__enter__", "__exit__", "leave", "_end", "_begin")
    before = standing(pipe)
    call = lambda: within(pipe, window=window)  # noqa: E731
    _, lines = interrupted(call, 0, names)
    assert lines > 5
    found = []
    for k in range(1, lines + 1, every):
        error = None
        gc.collect()  # what ends by itself later would count
        error, _ = interrupted(call, k, names)
        after = standing(pipe)
        wrong = {name: (before[name], value) for name, value in after.items() if value != before[name]}
        found += [f"{k}: {error}: {wrong}"] if wrong or not isinstance(error, KeyboardInterrupt) else []
        disable_parallel_sampling(pipe)
    return found


@pytest.mark.parametrize("window", [1, 3, "auto"])
def test_an_interrupt_at_any_line_of_a_context_leaves_nothing_behind(window: Any) -> None:
    """B5: one line of 27; `python tests/adapters/pipelines/test_pipeline_interrupts.py` takes each."""
    assert interrupted_contexts(window, 27) == []


def raising(pipe: Any, error: BaseException, at: int, forever: bool) -> Any:
    """A pipeline whose U-Net raises an error at its n-th call."""
    plain, calls = pipe.unet.forward, [0]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == at or (forever and calls[0] >= at):
            raise error
        return plain(x, *args, **kwargs)

    pipe.unet.forward = forward
    return pipe


class OwnError(Exception):
    """Of the user's."""


class WordlessError(ValueError):
    """One that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "error",
    [RuntimeError("no"), OwnError("stop"), KeyboardInterrupt(), StopIteration(), WordlessError()],
    ids=lambda e: type(e).__name__,
)
def test_an_exception_of_a_network_arrives_as_it_was_raised(error: BaseException, batched: bool, forever: bool) -> None:
    """B5: at each of its calls, those in batches and those that compare among them."""
    for at in (1, 2, 3, 8):
        pipe = raising(small(), error, at, forever)
        before = standing(pipe)
        with pytest.raises(type(error)) as found, parallelize(pipe, tolerance=0, window=4, batched=batched):
            pipe()
        assert found.value is error and found.value.__cause__ is None
        assert standing(pipe) == before


def test_an_exception_of_a_callback_or_a_scheduler_arrives_as_it_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """B5"""
    pipe, error = text2image(), OwnError("stop")

    def stop(*_: Any, **__: Any) -> Any:
        raise error

    with parallelize(pipe, tolerance=0, window=4):
        with pytest.raises(OwnError) as found:
            sample(pipe, callback_on_step_end=stop)
        assert found.value is error
        monkeypatch.setattr(diffusers.DDIMScheduler, "step", stop)
        with pytest.raises(OwnError) as found:
            sample(pipe)
        assert found.value is error


def test_a_network_that_takes_smaller_batches_only_is_called_row_by_row_later_too() -> None:
    """B5: what refuses a batch after others were taken is no error of the user's."""
    pipe = text2image()
    reference, plain, sizes = sample(pipe, steps=8), pipe.unet.forward, []

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(x))
        if len(x) > 2 and sizes.count(len(x)) > 1:
            raise RuntimeError("no more of this size")
        return plain(x, *args, **kwargs)

    pipe.unet.forward = forward
    with parallelize(pipe, tolerance=0, window=4) as run:
        found = sample(pipe, steps=8)
    assert torch.allclose(found, reference, rtol=1e-4, atol=1e-5)
    assert any("no more of this size" in why for why in run.fallbacks)


def test_no_module_stays_patched_once_the_parallel_pipeline_is_gone() -> None:
    """B6"""
    gc.collect()
    plain = nn.Module.__setattr__
    pipe, other = text2image(), text2image()
    for each in (pipe, other):
        enable_parallel_sampling(each, tolerance=0, window=3)
        sample(each, steps=3)
    assert nn.Module.__setattr__ is not plain
    del each, other
    gc.collect()
    assert nn.Module.__setattr__ is not plain
    del pipe
    gc.collect()
    assert nn.Module.__setattr__ is plain


def test_what_another_library_put_on_modules_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """B6: what stood there when the pipeline became parallel stands there after it."""
    gc.collect()
    own = nn.Module.__setattr__

    def others(module: nn.Module, name: str, value: Any) -> None:
        own(module, name, value)

    monkeypatch.setattr(nn.Module, "__setattr__", others)
    pipe = text2image()
    with parallelize(pipe, tolerance=0, window=3):
        sample(pipe, steps=3)
    assert nn.Module.__setattr__ is others


if __name__ == "__main__":
    wrong = injected(500, 1)
    print(*wrong, f"{len(wrong)} of 500 interrupts left something behind", sep="\n")
    lines = [found for window in (1, 3, "auto") for found in interrupted_contexts(window, 1)]
    print(*lines, f"{len(lines)} lines of contexts left something behind", sep="\n")
