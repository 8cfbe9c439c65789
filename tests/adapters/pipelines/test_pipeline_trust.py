"""A pipeline's answer is within its tolerance of the plain call, or its report says what the error may be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from benchmarks.zoo.unconditional import pixels
from paradigms import FinalError, parallelize
from paradigms.adapters.pipelines.loop import repeat_doubtful as doubt
from paradigms.adapters.pipelines.loop.acceptance import AcceptanceTest
from paradigms.adapters.report import Run, Settings
from paradigms.methods.spectral import Spectral
from promises import EXACT, off, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def modes(seed: int, spread: float = 0.6) -> Any:
    """A pipeline of data with two modes, whose network is exact, as a loop and not as a table."""
    pipe = pixels("DDIMPipeline", diffusers.DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    alphas, one = pipe.scheduler.alphas_cumprod, (-1, 1, 1, 1)
    mu = spread * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

    def forward(x: Tensor, t: Any, **_: Any) -> Any:
        a = alphas[torch.as_tensor(t).long()].reshape(one).expand(len(x), 1, 1, 1).sqrt()
        v = (0.3 * a) ** 2 + 1 - a**2
        d = x[:, None] - a[:, None] * mu
        w = torch.softmax(-d.square().flatten(2).sum(2) / (2 * v[:, :, 0, 0]), 1)[..., None, None, None]
        data = (w * (mu + (a * 0.09 / v)[:, None] * d)).sum(1)
        return UNet2DOutput(sample=(x - a * data) / (1 - a**2).sqrt())

    pipe.unet.forward = forward
    return pipe


def call(pipe: Any, seed: int, kind: str = "np", **how: Any) -> Any:
    """The pictures of a call."""
    given = {"batch_size": 4, "num_inference_steps": 50, "eta": 1.0, "output_type": kind} | how
    return pipe(**given, generator=torch.Generator().manual_seed(seed)).images


def through(pipe: Any, seed: int, how: dict[str, Any], **arguments: Any) -> tuple[Any, Run]:
    """The pictures of a parallel call that is no table, and its report."""
    with parallelize(pipe, **how) as run:
        vars(pipe)["_paradigms"][0].tables = False
        return call(pipe, seed, **arguments), run


def test_samples_near_a_boundary_of_modes_are_within_the_tolerance_or_named() -> None:
    """A1, A2, of pipelines."""
    for seed in range(3):
        pipe = modes(seed)
        reference = torch.as_tensor(call(pipe, seed))
        found, run = through(pipe, seed, {"window": 16})
        error = max(off(a, b) for a, b in zip(torch.as_tensor(found), reference, strict=True))
        assert error <= 0.003 or run.doubts, (seed, error)
        assert run.estimate is not None and error <= max(run.estimate, EXACT) and run.rounds < 50


def test_tolerance_zero_is_to_the_rounding_of_the_numbers_in_half_the_rounds() -> None:
    """B3: with a loop and with a table."""
    pipe = modes(5, 0.3)
    reference, picture = torch.as_tensor(call(pipe, 5)), call(pipe, 5, "pil")[0].tobytes()
    found, run = through(pipe, 5, {"tolerance": 0, "window": 50})
    assert off(torch.as_tensor(found), reference) <= EXACT and run.rounds <= 25 and not run.fallbacks
    assert through(pipe, 5, {"tolerance": 0, "window": 50}, kind="pil")[0][0].tobytes() == picture


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_tolerance_zero_is_half_the_rounds_of_a_guided_pipeline(scheduler: str) -> None:
    """B3"""
    pipe = text2image(scheduler)
    reference = sample(pipe, steps=50)
    with parallelize(pipe, tolerance=0, window=50) as run:
        assert off(sample(pipe, steps=50), reference) <= EXACT
    assert run.rounds <= 25 and not run.fallbacks and run.status == "converged"


def test_a_window_of_one_is_the_pipelines_own_loop_bit_for_bit() -> None:
    pipe = text2image()
    reference = sample(pipe, steps=6)
    with parallelize(pipe, window=1) as run:
        assert torch.equal(sample(pipe, steps=6), reference)
    assert run.rounds == 6 and run.estimate is None


def doubtful(monkeypatch: pytest.MonkeyPatch, until: float) -> None:
    """Estimates are 1 at tolerances above `until`."""
    plain = AcceptanceTest.estimate.fget  # type: ignore[attr-defined]

    def estimate(self: AcceptanceTest) -> float | None:
        return 1.0 if self.stop.tolerance > until else plain(self)

    monkeypatch.setattr(AcceptanceTest, "estimate", property(estimate))


def test_a_call_in_doubt_is_made_again_at_a_smaller_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful(monkeypatch, 0.005)
    pipe = text2image()
    reference = sample(pipe, steps=20)
    with parallelize(pipe, tolerance=0.05, window=20) as run:
        assert off(sample(pipe, steps=20), reference) <= 0.05 / doubt.STRICTER
    assert run.retries == 1 and run.steps == 20 and run.checks > 0 and not run.fallbacks
    assert "made again once" in str(run) and run.status == "converged" and run.estimate is not None
    assert vars(pipe).get("_paradigms") is None


def test_a_call_in_doubt_twice_is_stepped_through_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful(monkeypatch, -1.0)
    pipe, given = text2image(), torch.Generator().manual_seed(3)
    reference = sample(pipe, steps=20, generator=torch.Generator().manual_seed(3), eta=1.0)
    with parallelize(pipe, tolerance=0.05, window=20) as run:
        assert torch.equal(sample(pipe, steps=20, generator=given, eta=1.0), reference)
    assert run.retries == 2 and run.estimate is None and run.status == "converged" and run.steps == 20


def test_a_call_in_doubt_whose_callbacks_were_called_says_what_the_error_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doubtful(monkeypatch, -1.0)
    pipe, seen = text2image(), []

    def note(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(i)
        return tensors

    with parallelize(pipe, tolerance=0.05, window=20) as run:
        sample(pipe, steps=20, callback_on_step_end=note)
    assert seen == list(range(20)) and run.retries == 0
    assert run.status.startswith("the error may be 1, beyond the tolerance 0.05; type tolerance=0.0017, or window=1")
    assert run.status in str(run)


def test_what_a_call_is_made_again_with() -> None:
    """A smaller tolerance once, in a window that is fixed; step by step where windows or numbers give no more."""
    settings = Settings(Spectral(), FinalError(0.03), "auto", True)
    again = doubt.stricter_settings(settings, 0.03, 1e-5, 5, 20, 8)
    assert again is not None and math.isclose(again.stop.tolerance, 0.001) and again.window == 8 and again.asked == 0.03
    assert doubt.beyond_tolerance(again, 0.05, 1e-5) is None and doubt.beyond_tolerance(again, 0.2, 1e-5) == 0.03
    assert doubt.stricter_settings(again, 0.03, 1e-5, 5, 20, 8) is None
    assert doubt.stricter_settings(settings, 0.03, 1e-5, 11, 20, 8) is None
    assert doubt.stricter_settings(settings, 0.03, 2e-3, 5, 20, 8) is None
    assert doubt.stricter_settings(replace(settings, batched=False), 0.03, 1e-5, 5, 20, 8) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_not_held_to_more_than_it_holds(dtype: torch.dtype) -> None:
    """A12: rounds of a pipeline in half precision are as few as its numbers allow."""
    pipe = text2image().to(dtype)
    reference = sample(pipe, steps=30).float()
    with parallelize(pipe, window=30) as run:
        found = sample(pipe, steps=30).float()
    assert run.rounds <= 20 and off(found, reference) <= 10 * torch.finfo(dtype).eps


def test_compare_on_a_mesh_is_refused() -> None:
    pipe = text2image()
    with pytest.raises(ValueError, match=r"compare: given with mesh.*needed: one of the two"):
        parallelize(pipe, mesh=object(), compare=True)
