"""What a loop runs over, and what its network is told and answers, is known, or the call steps with the reason."""

from __future__ import annotations

import sys
from collections import UserList
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from paradigms import parallelize
from promises import EXACT, off
from small_pipelines import Said, Small, SmallPipeline, small


class Loop(SmallPipeline):
    """Its steps may look at what they run over."""

    def items(self) -> Any:
        raise NotImplementedError

    def after(self, items: Any) -> None:
        """What a step does to them."""

    @torch.no_grad()
    def __call__(self, seed: int = 0, callback_on_step_end: Any = None) -> Tensor:
        x, items = self.begin(seed), self.items()
        for timestep in items:
            x = self.scheduler.step(self.unet(x, timestep).sample, timestep, x).prev_sample
            self.after(items)
        return x


class Shrinking(Loop):
    def items(self) -> list[Tensor]:
        return list(self.scheduler.timesteps)

    def after(self, items: list[Tensor]) -> None:
        if len(items) > 6:
            items.pop()


class Skipping(Loop):
    def items(self) -> Iterator[Tensor]:
        return iter(self.scheduler.timesteps)

    def after(self, items: Iterator[Tensor]) -> None:
        next(items, None)


class Deciding(Loop):
    """A generator that gives times until a step says that it is enough."""

    def items(self) -> Iterator[Tensor]:
        self.left = 20
        return (t for t in self.scheduler.timesteps if self.left > 0)

    def after(self, items: Iterator[Tensor]) -> None:
        self.left -= 4


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Shrinking, "change the list that its loop runs over"), (Skipping, "runs over an iterator (tuple_iterator)"),
     (Deciding, "runs over an iterator (generator)")],
)  # fmt: skip
@pytest.mark.parametrize("window", [1, 3])
def test_steps_that_decide_about_the_next_are_the_pipelines_own(kind: type, reason: str, window: int) -> None:
    """A6: to the bit, in windows and stepped."""
    reference, pipe = small(kind)(), small(kind)
    with parallelize(pipe, tolerance=0, window=window) as run:
        assert torch.equal(pipe(), reference)
    assert len(run.fallbacks) == 1 and reason in run.fallbacks[0]


class Opened(SmallPipeline):
    """An answer that is no tuple."""

    def mix(self, said: Any) -> Tensor:
        return said.sample if hasattr(said, "sample") else said[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrap", [lambda v: SimpleNamespace(sample=v), lambda v: UserList([v])])
def test_an_answer_that_cannot_be_divided_is_named(wrap: Callable[[Tensor], Any]) -> None:
    """A4: its tensors were given to every step whole."""
    patch = lambda net, plain: lambda x, t: wrap(plain(x, t).sample)  # noqa: E731
    reference, pipe = small(Opened, patch)(), small(Opened, patch)
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert torch.equal(pipe(), reference)
    assert len(run.fallbacks) == 1 and "Small answers with an object" in run.fallbacks[0]


def test_an_object_that_a_network_is_told_of_is_named() -> None:
    """A4: it holds another number in each step, and stays who it is."""

    class Told(SmallPipeline):
        @torch.no_grad()
        def __call__(self, seed: int = 0, callback_on_step_end: Any = None) -> Tensor:
            x, told = self.begin(seed), SimpleNamespace(bias=0.0)
            for t in self.scheduler.timesteps:
                told.bias += 0.1
                x = self.scheduler.step(self.unet(x, t, told).sample, t, x).prev_sample
            return x

    patch = lambda net, plain: lambda x, t, told: Said(plain(x, t).sample + told.bias)  # noqa: E731
    reference, pipe = small(Told, patch)(), small(Told, patch)
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert torch.equal(pipe(), reference)
    assert len(run.fallbacks) == 1 and "Small is told an object (SimpleNamespace)" in run.fallbacks[0]


def test_tensors_of_inference_mode_are_put_back_outside_of_it() -> None:
    """B5: a step whose network alone runs in inference mode."""

    class Inferring(SmallPipeline):
        @torch.no_grad()
        def __call__(self, seed: int = 0, callback_on_step_end: Any = None) -> Tensor:
            x = self.begin(seed)
            for t in self.scheduler.timesteps:
                with torch.inference_mode():
                    said = self.unet(x, t).sample
                x = self.scheduler.step(said.clone(), t, x).prev_sample
            return x

    reference, pipe = small(Inferring)(), small(Inferring)
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert off(pipe(), reference) <= EXACT
    assert not run.fallbacks


def test_a_network_that_is_reached_past_its_call_is_named() -> None:
    """B2: each of its calls was made in every round, and none was counted."""

    class Past(SmallPipeline):
        @torch.no_grad()
        def __call__(self, seed: int = 0, callback_on_step_end: Any = None) -> Tensor:
            x = self.begin(seed)
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(self.unet.forward(x, t).sample, t, x).prev_sample
            return x

    reference, pipe = small(Past)(), small(Past)
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert torch.equal(pipe(), reference)
    assert len(run.fallbacks) == 1 and "type net(...)" in run.fallbacks[0] and max(run.windows) == 1


class Counting(diffusers.DDPMScheduler):  # type: ignore[misc]
    """A scheduler that knows how often it was asked."""

    n = 0

    def step(self, *given: Any, **how: Any) -> Any:
        self.n += 1
        found = super().step(*given, **how)
        return type(found)(prev_sample=(1 + 0.01 * self.n) * found.prev_sample)


def pixels(pipe: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 6, "output_type": "np", "generator": torch.Generator().manual_seed(1)}
    return torch.as_tensor(pipe(**how)[0])


def test_a_scheduler_of_ones_own_is_no_table() -> None:
    """A3: 0.1 off in the second call, for a table has no count."""
    plain, pipe = (diffusers.DDPMPipeline(Small(), Counting()) for _ in range(2))
    with parallelize(pipe, tolerance=0, window=3) as run:
        for _ in range(2):
            assert off(pixels(pipe), pixels(plain)) <= EXACT
    assert not run.fallbacks and max(run.windows) == 3 and pipe.scheduler.n == plain.scheduler.n


def test_a_method_put_on_a_schedulers_class_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: 0.1 off where the table was read before."""
    pipe, own = diffusers.DDPMPipeline(Small(), diffusers.DDPMScheduler()), diffusers.DDPMScheduler.step
    with parallelize(pipe, tolerance=0, window=3):
        pixels(pipe)
        monkeypatch.setattr(
            diffusers.DDPMScheduler, "step", lambda self, e, *rest, **how: own(self, 0.9 * e, *rest, **how)
        )
        found = pixels(pipe)
    assert off(found, pixels(pipe)) <= EXACT


class Hiding(SmallPipeline):
    """What it keeps is in no module that its code names."""

    def mix(self, said: Any) -> Tensor:
        kept = sys.modules["hid" + "den"].kept
        kept["n"] += 1
        return said[0] + 0.01 * kept["n"]  # type: ignore[no-any-return]


def test_a_loop_that_cannot_be_repeated_is_stepped_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A5: the first call finds it out too late, and says so; the second is the pipeline's own from its beginning."""
    kept = {"n": 0}
    monkeypatch.setitem(sys.modules, "hidden", SimpleNamespace(kept=kept))  # type: ignore[misc]
    plain, pipe = small(Hiding), small(Hiding)
    with parallelize(pipe, tolerance=0, window=3) as run:
        pipe()
        began = kept["n"]
        found = pipe()
    kept["n"] = began
    assert torch.equal(found, plain())
    assert "this call's images may differ" in run.fallbacks[0] and "this call's" not in run.fallbacks[1]


def test_callbacks_are_called_once_where_a_network_counts() -> None:
    """A4: such a call cannot be made again when a count is found to decide about an answer."""
    n, called = [0], []

    def counting(net: Any, plain: Any) -> Any:
        def forward(x: Tensor, t: Any) -> Any:
            n[0] += 1
            return Said((1.3 if n[0] % 7 == 0 else 1.0) * plain(x, t).sample)

        return forward

    reference, pipe = small(patch=counting)(), small(patch=counting)
    n[0] = 0
    with parallelize(pipe, tolerance=0, window=3) as run:
        found = pipe(callback_on_step_end=lambda pipe, i, t, held: called.append(i))
    assert torch.equal(found, reference) and called == list(range(8))
    assert run.fallbacks == [
        "SmallPipeline: Small counts its calls or notes something of them, and a call that calls back cannot be made "
        "again if that decides about an answer"
    ]
