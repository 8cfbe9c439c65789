"""A report says what was done and why, in one unit each; copies are plain; misuse says what to type."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput

import paradigms as pd
from benchmarks.zoo.unconditional import pixels
from paradigms import disable_parallel_sampling, enable_parallel_sampling, parallelize
from paradigms.adapters.pipelines import Run
from paradigms.adapters.pipelines.unconditional import record_solution
from paradigms.window.controller import WindowController
from promises import CLOSE, off, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

PLAIN = diffusers.StableDiffusionPipeline


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_and_pickles_of_a_parallel_pipeline_are_plain(copied: Any) -> None:
    """B7"""
    pipe = text2image()
    reference = sample(pipe)
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        twin = copied(pipe)
        assert type(twin) is PLAIN and not [k for k in vars(twin) if "paradigms" in k]
        assert torch.equal(sample(twin), reference) and run.calls == 0
        assert torch.equal(sample(pipe), reference) and run.calls == 1
        with parallelize(twin, tolerance=0, window=3, batched=False) as other:
            assert torch.equal(sample(twin), reference) and other.calls == 1
    assert type(pipe) is type(twin) is PLAIN


def test_a_copy_made_within_a_call_is_of_plain_networks_too() -> None:
    """B7"""
    pipe, twins = text2image(), []

    def note(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        twins.append(copy.deepcopy(pipe))
        pickle.dumps(pipe.unet)
        return tensors

    with parallelize(pipe, tolerance=0, window=4, batched=False):
        reference = sample(pipe, steps=2, callback_on_step_end=note)
    assert [type(t) for t in twins] == [PLAIN] * 2 and type(twins[0].unet) is diffusers.UNet2DConditionModel
    assert torch.equal(sample(twins[0], steps=2), reference)


def test_contexts_that_end_in_another_order_leave_nothing_parallel() -> None:
    """B7"""
    pipe = text2image()
    first, second, third = (parallelize(pipe, window=w) for w in (2, 3, 4))
    for context in (first, second, third):
        context.__exit__(None, None, None)
    assert type(pipe) is PLAIN and not [k for k in vars(pipe) if "paradigms" in k]
    first, second = parallelize(pipe, window=2), parallelize(pipe, window=3)
    disable_parallel_sampling(pipe)
    second.__exit__(None, None, None)
    first.__exit__(None, None, None)
    assert type(pipe) is PLAIN and not [k for k in vars(pipe) if "paradigms" in k]


def test_parallelize_without_with_is_parallel_for_good() -> None:
    """B1: what it gives is called as the pipeline is."""
    pipe = text2image()
    reference = sample(pipe)
    fast = parallelize(pipe, tolerance=0, window=4, batched=False)
    given = {"num_inference_steps": 5, "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    assert torch.equal(sample(fast._thing), reference) and fast.calls == 1
    assert fast("a red fox", **given).images.shape == reference.shape and fast.calls == 2
    assert "10 steps in " in str(fast) and str(fast).startswith("StableDiffusionPipeline, parallel")
    with pytest.raises(AttributeError, match=r"given \.scheduler; needed: that of the StableDiffusionPipeline itself"):
        fast.scheduler  # noqa: B018
    disable_parallel_sampling(pipe)
    assert type(pipe) is PLAIN


def test_parallelize_as_a_statement_is_parallel_for_good() -> None:
    """B1"""
    pipe = text2image()
    parallelize(pipe, tolerance=0, window=4)
    assert type(pipe) is not PLAIN
    disable_parallel_sampling(pipe)
    assert type(pipe) is PLAIN and not [k for k in vars(pipe) if "paradigms" in k]


def test_evaluations_are_calls_times_images_in_every_path() -> None:
    """A14: a loop in windows, stepped, row by row, and a table."""
    pipe = text2image()
    for how in ({"window": 1}, {"window": 4}, {"window": 4, "batched": False}, {"window": "auto"}):
        one, three = [], []
        for found, prompt in ((one, "a fox"), (three, ["a fox", "a sea", "a hill"])):
            with parallelize(pipe, tolerance=0, **how) as run:
                sample(pipe, prompt=prompt, guidance_scale=4.0)
            found += [run.evaluations, run.checks]
        assert three == [3 * v for v in one], how
    for window in (1, 4, "auto"):
        small = pixels("DDIMPipeline", diffusers.DDIMScheduler())
        small.set_progress_bar_config(disable=True)
        with parallelize(small, tolerance=0, window=window) as run:
            small(batch_size=3, num_inference_steps=5, output_type="np")
        assert run.evaluations >= 15 and run.evaluations % 3 == 0


def gaussian(pipe: Any) -> Any:
    """A pipeline whose network knows that its data are Gaussian, but of a variance that bends with the state."""
    alphas = pipe.scheduler.alphas_cumprod

    def forward(x: torch.Tensor, t: Any, **_: Any) -> Any:
        a = alphas[torch.as_tensor(t).long()].reshape(-1, 1, 1, 1)
        return UNet2DOutput(sample=(1 - a).sqrt() * x / (a * (0.3 + 0.05 * torch.tanh(x)) + 1 - a))

    pipe.unet.forward = forward
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("tables", [True, False])
def test_the_residual_is_in_the_noise_of_a_step_in_every_path(tables: bool) -> None:
    """A14: what is accepted by a step's noise has moved by about as much of it, as a loop and as a table."""
    pipe = gaussian(pixels("DDIMPipeline", diffusers.DDIMScheduler()))
    with parallelize(pipe, tolerance=pd.StepNoise(0.2), window=6) as run:
        vars(pipe)["_paradigms"][0].tables = tables
        pipe(num_inference_steps=30, output_type="np", eta=1.0, generator=torch.Generator().manual_seed(0))
    assert 0 < run.residual <= 0.2 * 5  # a state is judged in the noise of the step before


def test_the_report_says_the_window_and_with_compare_error_and_speedup() -> None:
    """B1, B2"""
    pipe = text2image()
    with parallelize(pipe, tolerance=0.01, window=4, compare=True) as run:
        state = torch.Generator().manual_seed(0)
        found = sample(pipe, generator=state, steps=6)
    plain = torch.Generator().manual_seed(0)
    reference = sample(pipe, generator=plain, steps=6)
    assert run.max_error == pytest.approx(off(found, reference), rel=1e-3, abs=1e-7) and 0 < run.max_error < 0.02
    assert torch.equal(state.get_state(), plain.get_state())
    assert run.calls == 1 and run.steps == 6 and run.sequential_seconds is not None and run.speedup is not None
    text = str(run)
    assert "windows of up to 4 steps" in text and "times as fast as stepping, measured" in text
    assert f"relative error against the same calls step by step: {run.max_error:.2g}" in text


def test_compare_is_of_pictures_and_of_tables_too() -> None:
    """B2"""
    pipe = pixels("DDPMPipeline", diffusers.DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    for kind in ("np", "pil"):
        with parallelize(pipe, tolerance=0, window=3, compare=True) as run:
            pipe(num_inference_steps=5, output_type=kind, generator=torch.Generator().manual_seed(3))
        assert run.max_error is not None and run.max_error <= CLOSE


def test_the_report_says_that_all_was_stepped() -> None:
    """B2"""
    pipe = text2image()
    with parallelize(pipe, tolerance=0, window="auto") as run:
        sample(pipe)
    assert "no windows, one step at a time" in str(run) and run.window == 1


class Reasoned(WindowController):
    """A pace that steps and says why."""

    def next(self, row: int) -> tuple[int, int]:
        return 1, 2

    def reason(self) -> str:
        return "a window of 16 would take 1.3 times as long here"


def test_the_report_says_why_it_stepped() -> None:
    """B2"""
    pipe = text2image()
    with parallelize(pipe, window=Reasoned()) as run:
        sample(pipe)
        sample(pipe)
    assert "stepped because a window of 16 would take 1.3 times as long here" in str(run) and len(run.reasons) == 1


REFUSED: dict[str, tuple[Any, str]] = {
    "a number for the method": (lambda p: (p, 0.003), r"method: given 0\.003; needed.*type tolerance=0\.003"),
    "a network": (lambda p: (p.unet,), r"UNet2DConditionModel.*enable_parallel_sampling\(pipe\), the pipeline itself"),
    "nothing": (lambda p: (None,), r"given None; needed: a diffusers pipeline"),
    "a class": (lambda p: (PLAIN,), r"given the class StableDiffusionPipeline; needed: a diffusers pipeline"),
    "a method's class": (lambda p: (p, pd.Picard), r"method: given .*Picard.*type Picard\(\)"),
    "a method's name": (
        lambda p: (p, "picard"),
        r"method: given 'picard'; needed: one of Anderson\(\).*; type Picard\(\)",
    ),
    "a name": (lambda p: ("stabilityai/sd",), r"given 'stabilityai/sd'; needed: a diffusers pipeline"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("function", [enable_parallel_sampling, parallelize])
def test_what_is_no_pipeline_or_no_method_says_what_to_type(name: str, function: Any) -> None:
    """B4"""
    given, message = REFUSED[name]
    pipe = text2image()
    with pytest.raises(ValueError, match=message):
        function(*given(pipe))
    assert type(pipe) is PLAIN


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"tolerance": -1}, "tolerance: given -1"),
        ({"tolerance": float("nan")}, "tolerance: given nan"),
        ({"tolerance": "fine"}, "tolerance: given 'fine'"),
        ({"warm_start": True}, "warm_start: given True; needed: a policy"),
        ({"batched": 0}, "batched: given 0; needed: True or False"),
        ({"compare": "yes"}, "compare: given 'yes'; needed: True or False"),
        ({"window": 0}, "window: given 0"),
    ],
)
def test_arguments_that_are_none_are_refused(how: dict[str, Any], message: str) -> None:
    """B4"""
    with pytest.raises(ValueError, match=message):
        parallelize(text2image(), **how)


def test_a_misspelt_argument_is_an_error() -> None:
    """B4"""
    with pytest.raises(TypeError, match="tolerence"):
        parallelize(text2image(), tolerence=0.01)  # type: ignore[call-arg]


def test_the_floor_of_half_precision_is_in_the_report() -> None:
    """A12: the tolerance that was held to, where the numbers hold none as small as was asked for."""
    pipe = text2image().to(torch.bfloat16)
    with parallelize(pipe, window=4) as run:
        sample(pipe)
    assert run.asked == 0.003 and run.tolerance == pytest.approx(8 * torch.finfo(torch.bfloat16).eps)
    assert run.status.startswith("converged to 0.062, the finest") and run.status in str(run)


def test_each_sample_that_did_not_converge_is_in_the_report() -> None:
    """A call of an unconditional pipeline is the core's, whose samples end one by one."""
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    how: dict[str, Any] = {"window": 2, "max_rounds": 1, "generator": torch.Generator().manual_seed(1)}
    solution, run = pd.sample(lambda x, t: 0.5 * x, pd.ddpm(pd.linear(), 8), x, **how), Run()
    record_solution(run, 0.003, solution)
    assert run.doubts == [f"sample {b}: {why}" for b, why in enumerate(solution.status)]
    assert "converged" not in run.status and run.status in str(run).replace("\n", "; ")
