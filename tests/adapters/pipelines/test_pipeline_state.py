"""What a loop of one's own keeps from step to step is kept and put back, or the reason why it is stepped: A5."""

from __future__ import annotations

import collections
import ctypes
import enum
import io
import itertools
import queue
import random
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paradigms import parallelize
from promises import EXACT, off, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

HISTORY: list[Tensor] = []
COUNT = 0
FIELDS = SimpleNamespace(n=0)
ARRAY, TENSOR, STREAM = np.zeros(1), torch.zeros(1), random.Random(1)
LOCAL = threading.local()


class Static:
    """State of a class that only its methods know."""

    kept: ClassVar[list[Tensor]] = []
    n = 0

    @classmethod
    def add(cls, y: Tensor) -> Tensor:
        cls.n += 1
        cls.kept.append(y)
        return sum(cls.kept[-2:]) / len(cls.kept[-2:]) + 0.02 * cls.n  # type: ignore[no-any-return]


def by_default(y: Tensor, kept: list[Tensor] = []) -> Tensor:  # noqa: B006
    """A default that changes."""
    kept.append(y)
    return mean(kept[-2:])


def by_field(y: Tensor) -> Tensor:
    """A field of a function."""
    by_field.n = getattr(by_field, "n", 0) + 1  # type: ignore[attr-defined]
    return y + 0.02 * by_field.n  # type: ignore[attr-defined, no-any-return]


class Loop(diffusers.StableDiffusionPipeline):
    """A loop whose answers depend on what `keep` holds."""

    kept_by_class: ClassVar[list[Tensor]] = []

    def begin(self) -> Any:
        """What it keeps."""

    def mix(self, kept: Any, said: Tensor) -> Tensor:
        """What it makes of an answer."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, seed: int = 0) -> Any:
        self.scheduler.set_timesteps(8)
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        words = torch.zeros(1, 7, self.unet.config.cross_attention_dim)
        kept = self.begin()
        for t in self.scheduler.timesteps:
            said = self.mix(kept, self.unet(x, t, words).sample)
            x = self.scheduler.step(said, t, x).prev_sample
        return SimpleNamespace(images=x)


def mean(kept: Any) -> Tensor:
    return sum(kept) / len(kept)  # type: ignore[return-value]


class Slotted:
    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0.0


class Counter:
    """A function with a variable of its own."""

    def __new__(cls) -> Any:  # type: ignore[misc]
        n = 0

        def count() -> int:
            nonlocal n
            n += 1
            return n

        return count


def of(begin: Any, mix: Any) -> type[Loop]:
    return type("Own", (Loop,), {"begin": lambda self: begin(), "mix": lambda self, kept, said: mix(kept, said)})


def after(change: Any, value: Any) -> Any:
    """The value, once something was changed."""
    return value


class Word(str):
    """A word with fields, and so a pair, and a member of an enumeration."""


class Pair(tuple):  # type: ignore[type-arg]
    pass


class Member(enum.Enum):
    A = 1


class Remembering(nn.Module):
    """A network that is no component of the pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def forward(self, y: Tensor) -> Tensor:
        self.kept.append(y)
        return mean(self.kept)


class Proxy:
    """Whatever it is asked for that it has not raises KeyError."""

    def __init__(self) -> None:
        object.__setattr__(self, "inside", {})

    def __getattr__(self, name: str) -> Any:
        return object.__getattribute__(self, "inside")[name]

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "inside")[name] = value


def count_in_field(kept: Any, y: Tensor) -> Tensor:
    try:
        kept.n += 1
    except (AttributeError, KeyError):
        kept.n = 1
    return y + 0.02 * kept.n  # type: ignore[no-any-return]


KEPT: dict[str, tuple[Any, Any]] = {
    "deque": (lambda: collections.deque(maxlen=2), lambda k, y: after(k.append(y), mean(k))),
    "set": (set, lambda k, y: after(k.add(float(y.mean())), y + 0.02 * len(k))),
    "ordered dict": (collections.OrderedDict, lambda k, y: after(k.update({len(k): y}), mean(k.values()))),
    "default dict": (lambda: collections.defaultdict(list), lambda k, y: after(k["a"].append(y), mean(k["a"]))),
    "slots": (Slotted, lambda k, y: after(setattr(k, "total", k.total * 0.5 + y), k.total)),
    "numpy's array": (lambda: np.zeros(2), lambda k, y: after(k.__iadd__(1), y + 0.02 * float(k[0]))),
    "random": (lambda: random.seed(1), lambda _, y: y + 0.1 * random.random()),
    "random's own": (lambda: random.Random(1), lambda k, y: y + 0.1 * k.random()),
    "numpy's stream": (lambda: np.random.seed(1), lambda _, y: y + 0.1 * np.random.rand()),
    "numpy's generator": (lambda: np.random.default_rng(1), lambda k, y: y + 0.1 * k.random()),
    "torch's generator": (lambda: torch.Generator().manual_seed(1), lambda k, y: y + 0.1 * torch.rand(1, generator=k)),
    "closure": (Counter, lambda k, y: y + 0.02 * k()),
    "bound method": (lambda: [].append, lambda k, y: after(k(y), mean(k.__self__))),
    "queue": (queue.Queue, lambda k, y: after(k.put(1), y + 0.02 * k.qsize())),
    "global": (HISTORY.clear, lambda _, y: after(HISTORY.append(y), mean(HISTORY))),
    "global object": (
        lambda: setattr(FIELDS, "n", 0),
        lambda _, y: after(setattr(FIELDS, "n", FIELDS.n + 1), y + 0.02 * FIELDS.n),
    ),
    "global array": (lambda: ARRAY.fill(0), lambda _, y: after(ARRAY.__iadd__(1), y + 0.02 * float(ARRAY[0]))),
    "global tensor": (lambda: TENSOR.zero_(), lambda _, y: after(TENSOR.add_(1), y + 0.02 * TENSOR)),
    "global stream": (lambda: STREAM.seed(1), lambda _, y: y + 0.1 * STREAM.random()),
    "thread's own": (
        lambda: setattr(LOCAL, "n", 0),
        lambda _, y: after(setattr(LOCAL, "n", LOCAL.n + 1), y + 0.02 * LOCAL.n),
    ),
    "another class": (lambda: after(Static.kept.clear(), setattr(Static, "n", 0)), lambda _, y: Static.add(y)),
    "default": (lambda: by_default.__defaults__[0].clear(), lambda _, y: by_default(y)),
    "function's field": (lambda: setattr(by_field, "n", 0), lambda _, y: by_field(y)),
    "array of objects": (
        lambda: np.array([0.0], dtype=object),
        lambda k, y: after(k.__setitem__(0, 0.5 * k[0] + y), k[0]),
    ),
    "user list": (lambda: collections.UserList(), lambda k, y: after(k.append(y), mean(k))),
    "numpy's matrix": (lambda: np.ma.zeros(1), lambda k, y: after(k.__iadd__(1), y + 0.02 * float(k[0]))),
    "field of a word": (lambda: Word("a"), count_in_field),
    "field of a tuple": (lambda: Pair((1, 2)), count_in_field),
    "field of a tensor": (lambda: torch.zeros(1), count_in_field),
    "field of a member": (lambda: after(vars(Member.A).pop("n", None), Member.A), count_in_field),
    "module": (Remembering, lambda k, y: k(y)),
    "proxy": (Proxy, count_in_field),
    "deep": (lambda: [[[[[[[]]]]]]], lambda k, y: after(k[0][0][0][0][0].append(1), y + 0.02 * len(k[0][0][0][0][0]))),
    "class": (Loop.kept_by_class.clear, lambda _, y: after(Loop.kept_by_class.append(y), mean(Loop.kept_by_class))),
}


def set_global(_: Any, y: Tensor) -> Tensor:
    global COUNT
    COUNT += 1
    return y + 0.02 * COUNT


def unset() -> None:
    global COUNT
    COUNT = 0


UNKEPT: dict[str, tuple[Any, Any, str]] = {
    "iterator": (lambda: iter(range(99)), lambda k, y: y + 0.02 * next(k), "kept, an iterator (range_iterator)"),
    "generator": (lambda: (k for k in range(99)), lambda k, y: y + 0.02 * next(k), "kept, an iterator (generator)"),
    "count": (itertools.count, lambda k, y: y + 0.02 * next(k), "kept, an iterator (count)"),
    "bound": (lambda: itertools.count().__next__, lambda k, y: y + 0.02 * k(), "kept.self, an iterator (count)"),
    "nested": (lambda: {"a": [iter(range(99))]}, lambda k, y: y + 0.02 * next(k["a"][0]), "kept.a.0, an iterator"),
    "file": (
        io.StringIO,  # a file on a disk would warn that nobody closed it
        lambda k, y: after(k.write("a"), y + 0.02 * k.tell()),
        "kept, an open file",
    ),
    "bytes": (bytearray, lambda k, y: after(k.append(1), y + 0.02 * len(k)), "kept, an object that may change"),
    "numpy's iterator": (lambda: np.arange(99.0).flat, lambda k, y: y + 0.02 * next(k), "kept, an iterator (flatiter)"),
    "ctypes": (
        lambda: ctypes.c_int(0),
        lambda k, y: after(setattr(k, "value", k.value + 1), y + 0.02 * k.value),
        "kept, an object that may change (c_int)",
    ),
    "global variable": (unset, set_global, "sets the global variable COUNT"),
}


def made(begin: Any, mix: Any) -> Any:
    pipe = of(begin, mix)(**text2image().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", KEPT)
def test_what_a_loop_keeps_is_kept(name: str) -> None:
    """A5: at tolerance 0 the sequential result, in rounds."""
    reference = made(*KEPT[name])().images
    pipe = made(*KEPT[name])
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        assert off(pipe().images, reference) <= EXACT
    assert not run.fallbacks and run.evaluations > 8 and max(run.windows) == 4


@pytest.mark.filterwarnings("ignore:.*nclosed file:ResourceWarning")  # of the loop's own, which is its to close
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", UNKEPT)
def test_what_cannot_be_kept_is_named_and_the_call_steps(name: str) -> None:
    """A5"""
    begin, mix, reason = UNKEPT[name]
    reference = made(begin, mix)().images
    pipe = made(begin, mix)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(pipe().images, reference)
    assert len(run.fallbacks) == 1 and reason in run.fallbacks[0] and max(run.windows, default=1) == 1


def test_a_users_callback_keeps_what_it_notes() -> None:
    """A5: what a callback holds is the user's, and not put back."""
    pipe, seen = text2image(), []
    pipe.set_progress_bar_config(disable=True)

    def note(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(i)
        return tensors

    with parallelize(pipe, tolerance=0, window=4) as run:
        pipe("a", num_inference_steps=6, output_type="latent", callback_on_step_end=note)
    assert seen == list(range(6)) and not run.fallbacks
