"""Rounds and evaluations of parallel pipelines: what is counted is what was asked, and tolerance buys rounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from benchmarks.zoo import ZOO, run
from paradigms import (
    Anderson,
    ExponentialPicard,
    Jacobi,
    Picard,
    QuasiNewton,
    Skeleton,
    Spectral,
    StepNoise,
    parallelize,
)
from paradigms.methods.base import AbstractMethod
from promises import CLOSE, EXACT, off, promise, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

METHODS = {
    "frozen output": ExponentialPicard(variance=math.inf),
    "frozen data": ExponentialPicard(variance=0.0),
    "picard": Picard(),
    "jacobi": Jacobi(),
    "spectral": Spectral(),
}
SPECIMENS = {s.name: s for s in ZOO}


@contextmanager
def counted(network: Any, halves: int = 1) -> Iterator[list[int]]:
    """The rows of each call of a network, `halves` samples a row, in a hook of torch: on the network it is a note."""
    rows: list[int] = []

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], said: Any) -> None:
        if module is network:
            x = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
            rows.append(len(x) // halves)

    handle = register_module_forward_hook(hook, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_every_method_is_exact_at_tolerance_zero(name: str, scheduler: str) -> None:
    pipe, method = text2image(scheduler), METHODS[name]
    reference = sample(pipe, steps=6)
    with parallelize(pipe, method, tolerance=0, window=4, batched=False):
        assert off(sample(pipe, steps=6), reference) <= EXACT
    with parallelize(pipe, method, tolerance=0, window=4):
        assert off(sample(pipe, steps=6), reference) <= CLOSE


@pytest.mark.parametrize("method", [Anderson(), QuasiNewton(), Skeleton()])
def test_methods_that_correct_states_are_refused(method: AbstractMethod) -> None:
    pipe = text2image()
    with (
        pytest.raises(ValueError, match=rf"given {type(method).__name__}.*needed: .*Spectral\(\)"),
        parallelize(pipe, method),
    ):
        raise AssertionError("entered")
    assert "_paradigms" not in vars(pipe) and type(pipe).__call__ is type(text2image()).__call__


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"window": 0}, "window: given 0"),
        ({"window": 2.5}, "window: given 2.5"),
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
    ],
)
def test_windows_and_tolerances_that_mean_nothing_are_refused(how: dict[str, Any], said: str) -> None:
    pipe = text2image()
    with pytest.raises(ValueError, match=said), parallelize(pipe, **how):
        raise AssertionError("entered")
    assert sample(pipe).shape == (1, 4, 8, 8) and "_paradigms" not in vars(pipe)


@pytest.mark.parametrize(("window", "steps"), [(1, 4), (50, 4), (4, 1), (1, 1), (3, 3)])
def test_any_window_and_any_number_of_steps_work(window: int, steps: int) -> None:
    found = promise(text2image(), window=window, steps=steps)
    assert found.steps == steps == sum(found.accepted) and max(found.accepted) <= window


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_what_is_counted_is_what_was_asked(scheduler: str, tolerance: float) -> None:
    pipe = text2image(scheduler)
    with counted(pipe.unet, halves=2) as rows, parallelize(pipe, tolerance=tolerance, window=8) as report:
        sample(pipe, steps=12)
    if report.retries:  # what was given up counts as checks, too
        assert sum(rows) >= report.evaluations / 2 and sum(report.accepted) == report.steps == 12
        return
    assert sum(rows) == report.evaluations + report.checks and report.checks <= report.rounds + 6
    assert sum(report.accepted) == report.steps == 12 and min(report.accepted) >= 1
    assert report.rounds <= report.steps + 2 and len(rows) <= report.rounds + report.checks
    assert 0 < report.model_seconds < report.seconds


def test_one_row_at_a_time_counts_the_same() -> None:
    pipe = text2image()
    with counted(pipe.unet, halves=2) as rows, parallelize(pipe, tolerance=0, window=4, batched=False) as report:
        sample(pipe)
    assert set(rows) == {1} and len(rows) == report.evaluations + report.checks
    assert report.rounds <= report.steps + 2


def test_a_report_adds_up_over_calls_and_can_be_read() -> None:
    pipe = text2image()
    with parallelize(pipe, tolerance=0, window=4) as report:
        sample(pipe)
        once = report.rounds, report.evaluations
        sample(pipe)
    assert (report.calls, report.steps) == (2, 10) and (report.rounds, report.evaluations) == (2 * once[0], 2 * once[1])
    assert str(report).startswith(f"10 steps in {report.rounds} rounds, {report.evaluations} evaluations, ")
    assert str(report).endswith("\nwindows of up to 4 steps")
    report.fallbacks.append("why")
    assert str(report).endswith("\none by one: why")


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "FluxPipeline", "StableDiffusionPipeline+dpmpp_2m"],
)
def test_a_tolerance_saves_rounds_and_is_about_the_error(name: str) -> None:
    specimen = SPECIMENS[name]
    pipe, inputs = specimen.build(), specimen.inputs

    def call() -> torch.Tensor:
        torch.manual_seed(0)
        pipe.set_progress_bar_config(disable=True)
        return pipe(**inputs() | {"num_inference_steps": 20}).images

    reference = call()
    with parallelize(pipe, tolerance=0.01, window=20) as report:
        found = call()
    assert off(found, reference) <= 0.1 and report.rounds < 20 and not report.fallbacks
    assert report.residual > 0


def test_less_tolerance_is_less_error_and_more_rounds() -> None:
    pipe = text2image()
    reference, found = sample(pipe, steps=25), []
    for tolerance in (0.05, 0.005, 0.0005):
        with parallelize(pipe, tolerance=tolerance, window=25) as report:
            found.append((off(sample(pipe, steps=25), reference), report.rounds))
    errors, rounds = zip(*found, strict=True)
    assert sorted(errors, reverse=True) == list(errors) and sorted(rounds) == list(rounds) and rounds[-1] < 25


def test_the_papers_criterion_is_taken_too() -> None:
    pipe = text2image("DDPMScheduler")
    reference = sample(pipe, steps=20)
    with parallelize(pipe, Picard(), tolerance=StepNoise(0.01), window=20) as report:
        assert off(sample(pipe, steps=20), reference) <= 0.1
    assert report.rounds < 20


@pytest.mark.parametrize("name", ["DDPMPipeline", "DDIMPipeline"])
def test_unconditional_pipelines_give_the_sequential_sample_as_tables_too(name: str) -> None:
    specimen = SPECIMENS[name]
    pipe = specimen.build()
    reference = run(specimen, pipe)
    for batched, most in ((False, EXACT), (True, CLOSE)):
        with parallelize(pipe, tolerance=0, window=4, batched=batched) as report:
            assert off(run(specimen, pipe), reference) <= most
        assert report.steps == sum(report.accepted) and not report.fallbacks
