"""A loop made rewindable is the loop it was, can be run again from any row, and knows which loops those are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import diffusers
import pytest

from paradigms.adapters.pipelines.code.rewrite import UnparallelError, has_loop, rewindable_function


class Scheduler:
    """Adds what it is given."""

    timesteps = (4, 3, 2, 1)

    def step(self, x: int, t: int, state: int) -> int:
        return state + x * t


class Halt(BaseException):
    pass


class Rows:
    """The hooks of a rewound loop: rows in the order `course`; locals at the beginning of each, as they first were."""

    Halt = Halt
    looks = True

    def __init__(self, course: list[int], pipe: Any, items: Any, scheduler: Any, state: str | None) -> None:
        self.items, self.course, self.given = list(items), course, (pipe, scheduler, state)
        self.before: dict[int, dict[str, Any]] = {}
        self.called: list[tuple[Any, ...]] = []
        self.row, self.halting = 0, -1
        self.left: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[Any]:
        for row in self.course:
            self.row = row
            yield self.items[row]

    def enter(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = {k: v for k, v in values.items() if not k.startswith("__")}
        return self.before.setdefault(self.row, kept)

    def go(self) -> None:
        if self.row == self.halting:
            raise Halt

    def leave(self, values: Mapping[str, Any]) -> None:
        self.left.append(dict(values))

    def callback(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.called.append((self.row, *args))
        return function(*args, **kwargs)


class Pipe:
    """Loops of many shapes."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()

    def plain(self, x: int) -> tuple[int, list[int]]:
        seen = []
        latents = x
        for i, t in enumerate(self.scheduler.timesteps):
            seen = [*seen, latents]
            latents = self.scheduler.step(i + 1, t, latents)
        return latents, seen

    def unbound(self, x: int) -> int:
        for i, t in enumerate(self.scheduler.timesteps):
            if i == 0:
                first = 10 * x
            x = self.scheduler.step(first, t, x)
        return x

    def skipping(self, x: int) -> int:
        for t in self.scheduler.timesteps:
            if t == 3:
                continue
            x = self.scheduler.step(1, t, x)
        return x

    def nested(self, x: int) -> int:
        for batch in range(2):
            for t in self.scheduler.timesteps:
                for k in range(3):
                    if k == 1:
                        break
                    x = self.scheduler.step(batch + k + 1, t, x)
        return x

    def calling(self, x: int, callback_on_step_end: Callable[..., Any]) -> int:
        for i, t in enumerate(self.scheduler.timesteps):
            x = self.scheduler.step(1, t, x)
            x = callback_on_step_end(self, i, t, {"x": x})["x"]
        return x

    def closing(self, x: int) -> int:
        scale = 2
        for t in self.scheduler.timesteps:
            x = sum(self.scheduler.step(scale, t, v) for v in [x])
        return x

    def early(self, x: int) -> int:
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(1, t, x)
            if x > 5:
                break
        return x

    def returning(self, x: int) -> int:
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(1, t, x)
            if x > 5:
                return x
        return x

    def loopless(self, x: int) -> int:
        return self.scheduler.step(1, 2, x)

    def otherwise(self, x: int) -> int:
        for t in range(3):
            x += t
        return x


class Child(Pipe):
    """Calls what it overrides."""

    def plain(self, x: int) -> tuple[int, list[int]]:
        for t in self.scheduler.timesteps[:2]:
            x = self.scheduler.step(1, t, x)
        return super().plain(x)


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return outer


def rewound(function: Callable[..., Any], course: list[int], made: list[Rows]) -> Callable[..., Any]:
    """The function over rows in the given order; the loops that it makes."""

    def make(*given: Any) -> Rows:
        made.append(Rows(course, *given))
        return made[-1]

    return rewindable_function(function, make)


@pytest.mark.parametrize("name", ["plain", "unbound", "skipping", "nested", "closing"])
def test_a_rewound_loop_that_goes_straight_on_is_the_loop(name: str) -> None:
    made: list[Rows] = []
    function = rewound(getattr(Pipe, name), [0, 1, 2, 3], made)
    assert function(Pipe(), 7) == getattr(Pipe(), name)(7)
    assert len(made) == (2 if name == "nested" else 1)


@pytest.mark.parametrize("name", ["plain", "unbound", "skipping", "closing"])
@pytest.mark.parametrize("course", [[0, 0, 1, 2, 3], [0, 1, 2, 1, 2, 3], [0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 2, 3]])
def test_a_loop_that_goes_back_gives_what_it_would_have_given(name: str, course: list[int]) -> None:
    function = rewound(getattr(Pipe, name), course, [])
    assert function(Pipe(), 7) == getattr(Pipe(), name)(7)


def test_a_row_that_is_left_before_its_end_leaves_no_trace() -> None:
    made: list[Rows] = []

    def make(*given: Any) -> Rows:
        made.append(Rows([0, 1, 2, 1, 2, 3], *given))
        made[0].halting = 2
        return made[0]

    assert rewindable_function(Pipe.plain, make)(Pipe(), 7) == rewound(Pipe.plain, [0, 1, 3], [])(Pipe(), 7)


def test_the_loop_is_told_who_steps_what() -> None:
    made: list[Rows] = []
    pipe = Pipe()
    rewound(Pipe.plain, [0, 1, 2, 3], made)(pipe, 7)
    assert made[0].given == (pipe, pipe.scheduler, "latents") and made[0].items == [(0, 4), (1, 3), (2, 2), (3, 1)]
    assert [v["latents"] for v in made[0].left] == [11, 17, 23, 27]


def test_callbacks_go_by_way_of_the_loop() -> None:
    made: list[Rows] = []
    pipe = Pipe()

    def double(pipe: Any, i: int, t: int, values: dict[str, int]) -> dict[str, int]:
        return {"x": 2 * values["x"]}

    assert rewound(Pipe.calling, [0, 1, 2, 3], made)(pipe, 1, double) == pipe.calling(1, double)
    assert [called[:3] for called in made[0].called] == [(i, pipe, i) for i in range(4)]


def test_super_and_decorators_are_kept() -> None:
    course = [0, 1, 1]
    assert rewound(Child.plain, course, [])(Child(), 7) == Child().plain(7)
    assert rewound(decorated(Pipe.plain), [0, 1, 2, 3], [])(Pipe(), 7) == Pipe().plain(7)


@pytest.mark.parametrize("name", ["early", "returning"])
def test_a_loop_that_can_be_left_early_says_so(name: str) -> None:
    function = getattr(Pipe, name)
    assert has_loop(function)
    with pytest.raises(UnparallelError, match=rf"Pipe.{name} can be left early, by (break|return)"):
        rewound(function, [], [])


@pytest.mark.parametrize("name", ["yielding", "handing_on"])
def test_a_loop_that_hands_over_its_rows_says_so(name: str) -> None:
    """Whoever takes them would see guesses, and would see rows twice."""

    class Handing:
        def yielding(self, x: int) -> Any:
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(1, t, x)
                yield x

        def handing_on(self, x: int) -> Any:
            for t in self.scheduler.timesteps:
                yield from (x, self.scheduler.step(1, t, x))

    with pytest.raises(UnparallelError, match="hands over a value within a step"):
        rewound(getattr(Handing, name), [], [])


def test_only_loops_around_a_step_are_denoising_loops() -> None:
    assert not has_loop(Pipe.loopless) and not has_loop(Pipe.otherwise) and not has_loop(len)
    namespace: dict[str, Any] = {}
    exec("def made(self):\n    for t in self.scheduler.timesteps: self.scheduler.step(1, t, 2)", namespace)
    assert not has_loop(namespace["made"])  # its source cannot be read


def test_the_rewound_pipeline_keeps_its_lines_for_tracebacks() -> None:
    plain = inspect.unwrap(diffusers.StableDiffusionPipeline.__call__)
    made = inspect.unwrap(rewound(plain, [], []))
    assert made.__code__.co_filename == plain.__code__.co_filename
    lines, old = ({line for *_, line in f.__code__.co_lines() if line} for f in (made, plain))
    assert old - lines <= {min(old)} and lines - old <= {plain.__code__.co_firstlineno}


def test_code_that_needs_names_from_around_it_says_so() -> None:
    much = 3

    def inner(self: Any, x: int) -> int:
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(much, t, x)
        return x

    with pytest.raises(UnparallelError, match="inner needs much of the function"):
        rewound(inner, [], [])

    class Body:
        own = 4

        def call(self, x: int, much: int = own) -> int:
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(much, t, x)
            return x

    with pytest.raises(UnparallelError, match=r"call cannot be made again.*own"):
        rewound(Body.call, [], [])


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionPipeline", "StableDiffusionXLInpaintPipeline", "FluxPipeline", "StableVideoDiffusionPipeline",
     "WanPipeline", "DDPMPipeline", "StableAudioPipeline", "KandinskyV22Pipeline", "IFPipeline", "LTXPipeline"],
)  # fmt: skip
def test_pipelines_loops_are_found_and_can_be_rewound(name: str) -> None:
    call = getattr(diffusers, name).__call__
    assert has_loop(call) and callable(rewound(call, [], []))
