"""The table of an unconditional pipeline is used only where its own loop does the same; NaN stops with its place."""

from __future__ import annotations

import logging
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import paradigms as pd
from benchmarks.zoo.unconditional import pixels
from paradigms import parallelize
from promises import CLOSE, off, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SCHEDULERS = sorted(name for name in dir(diffusers) if name.endswith("Scheduler"))


def call(pipe: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    return torch.as_tensor(pipe(num_inference_steps=5, output_type="np", generator=generator)[0])


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.disable(logging.WARNING)  # schedulers warn at each step of a loop that scales no inputs
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_ddpm_pipeline_is_its_own_under_every_scheduler_of_diffusers(name: str) -> None:
    """A3: at tolerance 0, with those that its own loop runs with; it scales no inputs and knows no times before."""
    try:
        pipe = pixels("DDPMPipeline", getattr(diffusers, name)())
        reference = call(pipe)
    except Exception as error:
        pytest.skip(f"its own loop does not run with it: {type(error).__name__}")
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert off(call(pipe), reference) <= CLOSE
    assert run.rounds <= run.steps >= 5 and not run.fallbacks


def test_a_pipeline_of_that_name_that_steers_by_itself_is_not_its_table() -> None:
    """A3: the loop that runs is compared, not the name."""

    class DDPMPipeline(diffusers.DDPMPipeline):  # type: ignore[misc]
        @torch.no_grad()
        def __call__(self, batch_size: int = 1, generator: Any = None, num_inference_steps: int = 9, **_: Any) -> Any:
            image = torch.randn(batch_size, 3, 8, 8, generator=generator)
            self.scheduler.set_timesteps(num_inference_steps)
            for t in self.progress_bar(self.scheduler.timesteps):
                said = self.unet(image, t).sample + 0.3 * (image - 0.8)
                image = self.scheduler.step(said, t, image, generator=generator).prev_sample
            return (image,)

    pipe = DDPMPipeline(**pixels("DDPMPipeline", diffusers.DDPMScheduler()).components)
    reference = call(pipe)
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert off(call(pipe), reference) <= CLOSE
    assert not run.fallbacks


def poisoned(pipe: Any, before: int, value: float) -> Any:
    """A pipeline whose network says so of the last sample, at times before."""
    plain = pipe.unet.forward

    def forward(x: Tensor, t: Any, *args: Any, **how: Any) -> Any:
        said = plain(x, t, *args, **how)
        times = torch.as_tensor(t).expand(len(x))
        said[0][-1][(times[-1] < before).expand_as(said[0][-1])] = value
        return said

    pipe.unet.forward = forward
    return pipe


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("window", [1, 4, "auto"])
def test_a_nan_stops_with_the_network_the_step_and_the_sample(window: Any, value: float) -> None:
    """A9: in a fixed window, stepped, and in auto; 416 evaluations before."""
    message = r"UNet2DConditionModel: its answer is not finite at step 3 of 12 \(t = 665\), sample 1;"
    for batched in (True, False):
        pipe = poisoned(text2image(), 700, value)
        with pytest.raises(pd.NonFiniteError, match=message), parallelize(pipe, window=window, batched=batched) as run:
            sample(pipe, steps=12, prompt=["a", "b"])
        assert run.evaluations + run.checks <= 2 * 30 and type(pipe.unet) is diffusers.UNet2DConditionModel


def test_a_nan_in_a_table_names_the_network_too() -> None:
    """A9"""
    pipe = poisoned(pixels("DDPMPipeline", diffusers.DDPMScheduler()), 500, float("nan"))
    with pytest.raises(pd.NonFiniteError, match="UNet2DModel: its output is not finite at step"), parallelize(pipe):
        call(pipe)
