"""The window that picks itself in a pipeline: its own steps where they are faster, in and out of windows exactly."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from devices import Scheduled
from paradigms import parallelize
from paradigms.execution import clock, model_key
from promises import CLOSE, off, sample, text2image


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    model_key.forget()
    yield
    model_key.forget()


@pytest.fixture(scope="module")
def pipe() -> Any:
    return text2image()


@pytest.mark.parametrize("windows", [[-2, 4, 4, -3, 8], [3, 6, 2, 2], [5, -1], [2, 20]])
def test_any_order_of_windows_is_sequential_at_tolerance_zero(pipe: Any, windows: list[int]) -> None:
    reference = sample(pipe, steps=10)
    with parallelize(pipe, tolerance=0, window=Scheduled(windows)) as run:
        assert off(sample(pipe, steps=10), reference) <= CLOSE
    assert sum(run.accepted) == 10 and len(run.windows) == len(run.accepted) <= run.rounds and not run.fallbacks


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"])
def test_what_a_scheduler_keeps_is_put_back_where_windows_end(pipe: Any, scheduler: str) -> None:
    import diffusers

    kept = pipe.scheduler
    pipe.scheduler = getattr(diffusers, scheduler).from_config(kept.config)
    try:
        reference = sample(pipe, steps=10)
        with parallelize(pipe, tolerance=0, window=Scheduled([-2, 5, -3, 4])):
            assert off(sample(pipe, steps=10), reference) <= CLOSE
    finally:
        pipe.scheduler = kept


def test_steps_are_the_pipelines_own_bit_for_bit_and_nothing_of_them_is_visited(pipe: Any) -> None:
    reference = sample(pipe, steps=8, eta=1.0)
    for how in ({"window": 1}, {"tolerance": 0}, {"window": Scheduled([-3])}):
        with parallelize(pipe, **how) as run:
            assert torch.equal(sample(pipe, steps=8, eta=1.0), reference)
        assert (run.rounds, run.evaluations, run.visits, run.windows) == (8, 8, 0, [1] * 8)


def test_callbacks_are_called_once_a_row_and_in_order(pipe: Any) -> None:
    rows: list[int] = []

    def callback(_: Any, row: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
        rows.append(row)
        return {"latents": values["latents"] * 0.99}

    reference = sample(pipe, steps=10, callback_on_step_end=callback)
    rows.clear()
    with parallelize(pipe, tolerance=0, window=Scheduled([-2, 4, 3, -1])):
        assert off(sample(pipe, steps=10, callback_on_step_end=callback), reference) <= CLOSE
    assert rows == list(range(10))


def test_the_bar_moves_once_a_row(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import pipelines

    moved: list[float] = []
    tqdm = pipelines.pipeline_utils.tqdm

    class Counting(tqdm):  # type: ignore[misc, valid-type]
        def update(self, n: float = 1) -> Any:
            moved.append(n)
            return super().update(n)

    monkeypatch.setattr(pipelines.pipeline_utils, "tqdm", Counting)
    with parallelize(pipe, tolerance=0, window=Scheduled([-2, 4, 3, -1])):
        pipe.set_progress_bar_config(disable=False)
        given = {"num_inference_steps": 9, "output_type": "latent", "height": 16, "width": 16}
        pipe("a boat", generator=torch.Generator().manual_seed(0), **given)
    pipe.set_progress_bar_config(disable=True)
    assert sum(moved) == 9


def test_windows_are_used_where_a_call_takes_the_same_however_many_rows(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reading of the clock finds it a hundredth of a second later."""
    now = [0.0]

    def tick() -> float:
        now[0] += 1e-2
        return now[0]

    monkeypatch.setattr(clock.time, "perf_counter", tick)
    monkeypatch.setattr(clock, "waited", float)
    reference = sample(pipe, steps=40)
    for _ in range(6):
        with parallelize(pipe, tolerance=0.01) as run:
            found = sample(pipe, steps=40)
    assert run.rounds < 25 and max(run.windows) > 4, run.windows
    assert off(found, reference) < 0.01


def test_a_pipeline_that_needs_no_windows_is_left_alone(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network takes a hundredth of a second a row."""
    now, kind = [0.0], type(pipe.unet)
    forward = kind.forward

    def slow(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        now[0] += 1e-2 * len(x)
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(clock, "waited", lambda: 0.0)
    monkeypatch.setattr(kind, "forward", slow)
    reference = sample(pipe, steps=40)
    with parallelize(pipe) as run:
        sample(pipe, steps=40)  # windows are tried
    with parallelize(pipe) as run:
        found = [sample(pipe, steps=40) for _ in range(4)]
    assert all(torch.equal(x, reference) for x in found) and run.steps == run.evaluations == 160
    assert set(run.windows) == {1} and "would take" in str(run)


def test_a_pace_is_told_of_every_row_that_the_network_answered_and_of_none_twice(pipe: Any) -> None:
    """Under a sampler that shows what it showed before, answers are known, and a round takes no time."""

    class Record(Scheduled):
        rows = 0

        def on_round(self, row: int, window: int, asked: int, count: int, evaluate: Any) -> None:
            self.rows += asked

        def on_steps(self, row: int, steps: int, evaluate: Any) -> None:
            self.rows += steps

    pace = Record([-2, 4, 3, -1])
    with parallelize(pipe, tolerance=0, window=pace) as run:
        sample(pipe, steps=10)
    assert pace.rows == run.evaluations > 10


def test_a_row_that_is_stepped_through_keeps_nothing_of_the_one_before(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, alive, kept = type(pipe.scheduler), list[int](), list[weakref.ref[Any]]()
    step = kind.step

    def looked(self: Any, said: Any, *args: Any, **kwargs: Any) -> Any:
        alive.append(sum(v() is not None for v in kept))
        kept.append(weakref.ref(said))
        return step(self, said, *args, **kwargs)

    monkeypatch.setattr(kind, "step", looked)
    with parallelize(pipe, window=1):
        sample(pipe, steps=6)
    assert alive == [0] * 6
