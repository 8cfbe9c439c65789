"""Wrapped and inherited `__call__`s, and steps in helper methods, are followed, or named as the reason: A6."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import CLOSE, off, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

Base = diffusers.StableDiffusionPipeline


def fresh() -> Any:
    return type("Fresh", (Base,), {})


def decorated() -> Any:
    """The case as it was reported: around the class's, forcing guidance 1."""
    kind, own = fresh(), Base.__call__

    @functools.wraps(own)
    def call(self: Any, *args: Any, **how: Any) -> Any:
        return own(self, *args, **how | {"guidance_scale": 1.0})

    kind.__call__ = call
    return kind


def unnamed() -> Any:
    """A wrapper without functools.wraps."""
    kind, own = fresh(), Base.__call__

    def call(self: Any, *args: Any, **how: Any) -> Any:
        return own(self, *args, **how | {"guidance_scale": 1.0})

    kind.__call__ = call
    return kind


def twice() -> Any:
    """A wrapper around a wrapper."""
    kind = decorated()
    own = kind.__call__

    @functools.wraps(own)
    def call(self: Any, *args: Any, **how: Any) -> Any:
        found = own(self, *args, **how)
        return SimpleNamespace(images=2 * found.images)

    kind.__call__ = call
    return kind


def inherited() -> Any:
    class Child(Base):  # type: ignore[misc, valid-type]
        def __call__(self, *args: Any, **how: Any) -> Any:
            return super().__call__(*args, **how | {"guidance_scale": 1.0})

    return Child


def grandchild() -> Any:
    class Grandchild(inherited()):  # type: ignore[misc]
        def __call__(self, *args: Any, **how: Any) -> Any:
            return SimpleNamespace(images=3 * super().__call__(*args, **how).images)

    return Grandchild


class Loop(Base):  # type: ignore[misc, valid-type]
    """A loop of its own."""

    def begun(self, generator: Any) -> tuple[Tensor, Tensor]:
        self.scheduler.set_timesteps(8)
        return torch.randn(1, 4, 8, 8, generator=generator), torch.zeros(1, 7, self.unet.config.cross_attention_dim)

    def stepped(self, x: Tensor, t: Any, words: Tensor) -> Tensor:
        return self.scheduler.step(self.unet(x, t, words).sample, t, x).prev_sample  # type: ignore[no-any-return]


def helper() -> Any:
    class Helped(Loop):
        @torch.no_grad()
        def __call__(self, *_: Any, generator: Any, **__: Any) -> Any:
            x, words = self.begun(generator)
            for t in self.scheduler.timesteps:
                x = self.stepped(x, t, words)
            return SimpleNamespace(images=x)

    return Helped


def helpers_helper() -> Any:
    class Helped(Loop):
        def further(self, *given: Any) -> Tensor:
            return self.stepped(*given)

        @torch.no_grad()
        def __call__(self, *_: Any, generator: Any, **__: Any) -> Any:
            self.x, words = self.begun(generator)

            def go(t: Any) -> None:
                self.x = self.further(self.x, t, words)

            for t in self.scheduler.timesteps:
                go(t)
            return SimpleNamespace(images=self.x)

    return Helped


def explicit() -> Any:
    class Explicit(Base):  # type: ignore[misc, valid-type]
        def __call__(self, *args: Any, **how: Any) -> Any:
            return Base.__call__(self, *args, **how | {"guidance_scale": 1.0})

    return Explicit


def an_object() -> Any:
    class Wrapper:
        def __init__(self, own: Any) -> None:
            functools.update_wrapper(self, own)
            self.own = own

        def __get__(self, thing: Any, kind: Any) -> Any:
            return self if thing is None else types.MethodType(self, thing)

        def __call__(self, pipe: Any, *args: Any, **how: Any) -> Any:
            return self.own(pipe, *args, **how | {"guidance_scale": 1.0})

    kind = fresh()
    kind.__call__ = Wrapper(Base.__call__)
    return kind


def partial() -> Any:
    kind = fresh()
    kind.__call__ = functools.partialmethod(Base.__call__, guidance_rescale=0.5)
    return kind


def function() -> Any:
    def outside(pipe: Any, x: Tensor, t: Any, words: Tensor) -> Tensor:
        return pipe.scheduler.step(pipe.unet(x, t, words).sample, t, x).prev_sample  # type: ignore[no-any-return]

    class Helped(Loop):
        away = staticmethod(outside)

        @torch.no_grad()
        def __call__(self, *_: Any, generator: Any, **__: Any) -> Any:
            x, words = self.begun(generator)
            for t in self.scheduler.timesteps:
                x = self.away(self, x, t, words)
            return SimpleNamespace(images=x)

    return Helped


def unended() -> Any:
    class While(Loop):
        @torch.no_grad()
        def __call__(self, *_: Any, generator: Any, **__: Any) -> Any:
            x, words = self.begun(generator)
            left = list(self.scheduler.timesteps)
            while left:
                x = self.stepped(x, left.pop(0), words)
            return SimpleNamespace(images=x)

    return While


def made(kind: Callable[[], Any]) -> Any:
    pipe = kind()(**text2image().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe("a red fox", num_inference_steps=6, output_type="latent", generator=generator).images  # type: ignore[no-any-return]


FOLLOWED = [decorated, unnamed, twice, inherited, grandchild, helper, helpers_helper]
NAMED = [explicit, an_object, partial, function, unended]


@pytest.mark.parametrize("kind", FOLLOWED, ids=lambda k: k.__name__)
def test_what_is_around_a_loop_is_followed(kind: Callable[[], Any]) -> None:
    """A6: the wrapper's own answer, in rounds."""
    reference, pipe = call(made(kind)), made(kind)
    for batched in (True, False):
        with parallelize(pipe, tolerance=0, window=4, batched=batched) as run:
            found = call(pipe)
        assert off(found, reference) <= (CLOSE if batched else 1e-5)
        assert not run.fallbacks and max(run.windows) == 4


@pytest.mark.parametrize("kind", NAMED, ids=lambda k: k.__name__)
def test_what_cannot_be_followed_is_named_and_stepped(kind: Callable[[], Any]) -> None:
    """A6: never refused as having no loop, and never dropped."""
    reference, pipe = call(made(kind)), made(kind)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(call(pipe), reference)
    assert len(run.fallbacks) == 1 and "did not come to a loop over steps that can be followed" in run.fallbacks[0]


def test_a_call_set_on_one_pipeline_is_named() -> None:
    """A6: `pipe.__call__` is looked up on the instance, `pipe()` is not."""
    pipe, plain = made(fresh), made(fresh)
    own = pipe.__call__
    pipe.__call__ = functools.wraps(own)(lambda *args, **how: own(*args, **how | {"guidance_scale": 1.0}))
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        assert "pipe.__call__(...) runs step by step" in run.fallbacks[0]
        assert torch.equal(call(pipe), call(plain))
    assert len(run.fallbacks) == 1


def test_a_wrapper_put_on_while_the_pipeline_is_parallel_counts() -> None:
    """A6"""
    kind = fresh()
    pipe = made(lambda: kind)
    with parallelize(pipe, tolerance=0, window=4, batched=False):
        own = kind.__call__

        @functools.wraps(own)
        def wrapper(self: Any, *args: Any, **how: Any) -> Any:
            return own(self, *args, **how | {"guidance_scale": 1.0})

        kind.__call__ = wrapper
        found = call(pipe)
    assert torch.equal(found, call(made(decorated)))
