"""What a loop can write to by other ways than its locals is kept right, or the call steps with the reason: A5."""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any, ClassVar

import diffusers
import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import EXACT, off, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

HERE = sys.modules[__name__]
COUNT = 0
HIDDEN = [0]
KEPT = torch.zeros(4)
TABLE = {"a": 0.5}
CONTEXT: contextvars.ContextVar[int] = contextvars.ContextVar("count", default=0)
EVENT = threading.Event()
TICKS = itertools.count()


class Shared:
    """State of a class whose objects a loop holds."""

    n = 0

    def more(self) -> int:
        type(self).n += 1
        return type(self).n


class Own(diffusers.StableDiffusionPipeline):
    """A loop whose answers depend on what `mix` knows."""

    n = 0
    table: ClassVar[dict[str, int]] = {}

    @staticmethod
    def begin() -> Any:
        """What it keeps."""

    @staticmethod
    def mix(pipe: Any, kept: Any, said: Tensor) -> Tensor:
        """What it makes of an answer."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, seed: int = 0, bias: Any = None) -> Any:
        self.scheduler.set_timesteps(8)
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        words = torch.zeros(1, 7, self.unet.config.cross_attention_dim)
        kept = self.begin() if bias is None else bias
        for t in self.scheduler.timesteps:
            said = self.mix(self, kept, self.unet(x, t, words).sample)
            x = self.scheduler.step(said, t, x).prev_sample
        return SimpleNamespace(images=x)


def made(begin: Any, mix: Any) -> Any:
    kind = type("Own", (Own,), {"begin": staticmethod(begin), "mix": staticmethod(mix), "__module__": __name__})
    pipe = kind(**text2image().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def reset() -> None:
    global COUNT
    COUNT, HIDDEN[0], Shared.n, Own.n = 0, 0, 0, 0
    KEPT.zero_()
    del HIDDEN[1:]
    CONTEXT.set(0)
    EVENT.clear()
    os.environ.pop("PARADIGMS_TEST_COUNT", None)
    Meta.made = 0
    cached_store.cache_clear()
    cached_pure.cache_clear()
    cached_counting.cache_clear()


def none() -> None:
    """Nothing is kept by the loop."""


def standing(pipe: Any) -> tuple[Any, ...]:
    """All that the loops above write to."""
    return COUNT, HIDDEN[0], Shared.n, type(pipe).n, CONTEXT.get(), EVENT.is_set(), Meta.made


def by_type(pipe: Any, _: Any, y: Tensor) -> Tensor:
    type(pipe).n += 1
    return y + 0.02 * type(pipe).n


def by_class_field(pipe: Any, _: Any, y: Tensor) -> Tensor:
    pipe.__class__.n = pipe.__class__.n + 1
    return y + 0.02 * pipe.n


def by_globals(_: Any, __: Any, y: Tensor) -> Tensor:
    globals()["COUNT"] += 1
    return y + 0.02 * globals()["COUNT"]


def by_setattr(_: Any, __: Any, y: Tensor) -> Tensor:
    setattr(sys.modules[__name__], "COUNT", COUNT + 1)  # noqa: B010
    return y + 0.02 * COUNT


def by_module(_: Any, __: Any, y: Tensor) -> Tensor:
    HERE.COUNT += 1  # type: ignore[attr-defined]
    return y + 0.02 * COUNT


def by_globals_list(_: Any, __: Any, y: Tensor) -> Tensor:
    globals()["HID" + "DEN"][0] += 1
    return y + 0.02 * globals()["HIDDEN"][0]


def by_held_object(_: Any, kept: Any, y: Tensor) -> Tensor:
    return y + 0.02 * kept.more()


def by_context(_: Any, __: Any, y: Tensor) -> Tensor:
    CONTEXT.set(CONTEXT.get() + 1)
    return y + 0.02 * CONTEXT.get()


def by_event(_: Any, __: Any, y: Tensor) -> Tensor:
    y = y + 0.02 * EVENT.is_set()
    EVENT.clear() if EVENT.is_set() else EVENT.set()
    return y


@functools.lru_cache
def cached_pure(k: int) -> float:
    return TABLE["a"] * k


@functools.lru_cache
def cached_counting(k: int) -> int:
    HIDDEN.append(k)
    return len(HIDDEN)


def by_pure_cache(_: Any, __: Any, y: Tensor) -> Tensor:
    return y + 0.01 * cached_pure(int(10 * float(y.abs().mean())))


def by_environment(_: Any, __: Any, y: Tensor) -> Tensor:
    os.environ["PARADIGMS_TEST_COUNT"] = str(int(os.environ.get("PARADIGMS_TEST_COUNT", "0")) + 1)
    return y + 0.02 * int(os.environ["PARADIGMS_TEST_COUNT"])


@functools.lru_cache
def cached_store() -> SimpleNamespace:
    return SimpleNamespace(n=0)


def by_cached_object(_: Any, __: Any, y: Tensor) -> Tensor:
    cached_store().n += 1
    return y + 0.02 * cached_store().n


class Meta(type):
    """A class of classes that counts what they make."""

    made = 0

    def __call__(cls) -> int:
        Meta.made += 1
        return Meta.made


class Ticket(metaclass=Meta):
    """What is counted."""


def by_metaclass(_: Any, __: Any, y: Tensor) -> Tensor:
    return y + 0.02 * Ticket()  # type: ignore[operator, no-any-return]


RIGHT: dict[str, tuple[Any, Any]] = {
    f.__name__: (begin, f)
    for begin, f in [
        (none, by_type), (none, by_class_field), (none, by_globals), (none, by_setattr), (none, by_module),
        (none, by_globals_list), (Shared, by_held_object), (none, by_context), (none, by_event), (none, by_pure_cache),
        (none, by_environment), (none, by_metaclass),
    ]
}  # fmt: skip


def by_account(_: Any, __: Any, y: Tensor) -> Tensor:
    cached_pure(3)
    return y + 0.02 * cached_pure.cache_info().hits


def by_counting_cache(_: Any, __: Any, y: Tensor) -> Tensor:
    return y + 0.02 * cached_counting(int(1e4 * float(y.abs().mean())))


def by_data(_: Any, kept: Any, y: Tensor) -> Tensor:
    kept.data.add_(0.02)
    return y + kept.mean()


def by_numpy(_: Any, kept: Any, y: Tensor) -> Tensor:
    kept.numpy()[0] += 0.1
    return y + kept.mean()


def by_late_data(_: Any, kept: Any, y: Tensor) -> Tensor:
    kept[1].append(1)
    if len(kept[1]) > 5:
        kept[0].data.add_(0.02)
    return y + kept[0].mean()


def by_global_data(_: Any, __: Any, y: Tensor) -> Tensor:
    KEPT.data.add_(0.02)
    return y + KEPT.mean()


def by_memoryview(_: Any, kept: Any, y: Tensor) -> Tensor:
    kept[0] += 1
    return y + 0.02 * kept[0]


STEPPED: dict[str, tuple[Any, Any, str]] = {
    "account": (none, by_account, "asks what a function's cache holds"),
    "counting cache": (none, by_counting_cache, "cached_counting is cached, and keeps state"),
    "cached object": (none, by_cached_object, "calls cached_store, whose cache holds an object that may change"),
    ".data": (lambda: torch.zeros(4), by_data, "changes kept in place"),
    "numpy": (lambda: torch.zeros(4), by_numpy, "changes kept in place"),
    "late .data": (lambda: (torch.zeros(4), []), by_late_data, "changes kept.0 in place"),
    "global .data": (none, by_global_data, "changes global KEPT in place"),
    "memoryview": (lambda: memoryview(bytearray(2)), by_memoryview, "kept, an object that may change (memoryview)"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_a_loop_writes_past_its_locals_is_kept(name: str) -> None:
    """A5: at tolerance 0 the sequential result, in windows, and the state afterwards is the sequential call's."""
    reset()
    pipe = made(*RIGHT[name])
    reference, state = pipe().images, standing(pipe)
    reset()
    pipe = made(*RIGHT[name])
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        assert off(pipe().images, reference) <= EXACT
    assert standing(pipe) == state and not run.fallbacks
    assert run.evaluations > 8 and max(run.windows) == 4


@pytest.mark.parametrize("name", STEPPED)
def test_what_cannot_be_put_back_is_named_and_the_call_steps(name: str) -> None:
    """A5: from what it began with, so that the result is the sequential call's to the bit."""
    begin, mix, reason = STEPPED[name]
    reset()
    reference = made(begin, mix)().images
    reset()
    pipe = made(begin, mix)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(pipe().images, reference)
    assert len(run.fallbacks) == 1 and reason in run.fallbacks[0] and max(run.windows, default=1) == 1


def test_an_argument_that_is_changed_past_its_count_is_put_back() -> None:
    """A5: the stepped call begins with the argument as it was given."""
    first, second = torch.zeros(4), torch.zeros(4)
    reference = made(None, by_data)(bias=first).images
    pipe = made(None, by_data)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(pipe(bias=second).images, reference) and torch.equal(first, second)
    assert "in place past torch's count" in run.fallbacks[0]


def test_state_that_nothing_can_find_shows_when_a_step_runs_again() -> None:
    """A5: a counter that no walk reaches; the reason is in the report, and the answer is finite."""
    counter = itertools.count()
    HERE.hidden = SimpleNamespace(next=counter.__next__)  # type: ignore[attr-defined]

    def mix(_: Any, __: Any, y: Tensor) -> Tensor:
        found = next(v for v in sys.modules.values() if getattr(v, "__name__", "") == __name__)
        return y + 0.02 * getattr(found, "hid" + "den").next()

    pipe = made(lambda: None, mix)
    with parallelize(pipe, tolerance=0, window=4) as run:
        pipe()
    assert "keeps what cannot be put back, or draws at random" in run.fallbacks[0] or "iterator" in run.fallbacks[0]


def test_a_loop_that_draws_at_random_where_nothing_can_be_put_back_steps() -> None:
    """A5: the system's own numbers."""
    import secrets

    pipe = made(lambda: None, lambda _, __, y: y + 1e-3 * secrets.randbelow(1000))
    with parallelize(pipe, tolerance=0, window=4) as run:
        pipe()
    assert len(run.fallbacks) == 1


def test_a_loop_that_looks_at_a_clock_stays_parallel() -> None:
    """A5: seconds that it notes are no difference."""

    class Timed(Own):
        @torch.no_grad()
        def __call__(self, seed: int = 0, bias: Any = None) -> Any:
            self.scheduler.set_timesteps(8)
            x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
            words, seconds = torch.zeros(1, 7, self.unet.config.cross_attention_dim), 0.0
            for t in self.scheduler.timesteps:
                began = time.perf_counter()
                x = self.scheduler.step(self.unet(x, t, words).sample, t, x).prev_sample
                seconds += time.perf_counter() - began
            return SimpleNamespace(images=x)

    def one() -> Any:
        pipe = Timed(**text2image().components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    reference, pipe = one()().images, one()
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        assert off(pipe().images, reference) <= EXACT
    assert not run.fallbacks
