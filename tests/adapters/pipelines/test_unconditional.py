"""Unconditional pipelines as tables, a diffusers network in the core, and a noise predictor on the flow path."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers as df
import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from benchmarks.pipelines.pipelines import Flow
from benchmarks.zoo import ZOO, run

BY_NAME = {s.name: s for s in ZOO}


@pytest.mark.parametrize("name", ["DDPMPipeline", "DDIMPipeline", "DDIMPipeline+thresholding"])
def test_an_unconditional_pipeline_runs_as_a_table_and_is_equal(name: str) -> None:
    specimen = BY_NAME[name]
    expected = run(specimen, specimen.build())
    pipe = specimen.build()
    with pd.parallelize(pipe, tolerance=0, window=4) as report:
        found = run(specimen, pipe)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert report.visits == 0 and sum(report.accepted) == report.steps and not report.fallbacks


def test_a_scheduler_that_is_no_table_goes_the_way_of_all_others() -> None:
    specimen = BY_NAME["DDPMPipeline+learned_range"]
    expected = run(specimen, specimen.build())
    pipe = specimen.build()
    with pd.parallelize(pipe, tolerance=0, window=4) as report:
        found = run(specimen, pipe)
    assert float((found - expected).norm() / expected.norm()) < 1e-5 and report.visits >= report.steps


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_fast_path_heeds_eta_and_leaves_the_generator_where_sequential_does(eta: float) -> None:
    pipe = BY_NAME["DDIMPipeline"].build()
    pipe.set_progress_bar_config(disable=True)
    states, pictures = [], []
    for parallel in (False, True):
        generator = torch.Generator().manual_seed(3)
        how = {"generator": generator, "eta": eta, "num_inference_steps": 6, "output_type": "np"}
        if parallel:
            with pd.parallelize(pipe, tolerance=0, window=3):
                pictures.append(torch.from_numpy(pipe(**how).images))
        else:
            pictures.append(torch.from_numpy(pipe(**how).images))
        states.append(generator.get_state())
    assert torch.equal(*states) and torch.allclose(*pictures, atol=1e-5)


def test_the_core_samples_a_diffusers_network_by_a_diffusers_scheduler() -> None:
    pipe = BY_NAME["DDIMPipeline"].build()
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    expected = torch.from_numpy(pipe(generator=generator, num_inference_steps=6, output_type="np").images)
    system = pd.from_scheduler(pipe.scheduler, 6)
    shape = (1, pipe.unet.config.in_channels, *[pipe.unet.config.sample_size] * 2)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = pd.sample(pipe.unet, system, x, tolerance=0).x
    picture = (found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.allclose(picture, expected, atol=1e-5)


class Gaussian(nn.Module):
    """The exact noise predictor of data N(0, 1): E[noise | x] = sqrt(1 - A) x, interpolated between training steps."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self.config, self.dtype, self.device = SimpleNamespace(), torch.float64, torch.device("cpu")
        self.kept = scheduler.alphas_cumprod.double()

    def forward(self, x: Tensor, t: Tensor, **how: Any) -> tuple[Tensor]:
        ratio = ((1 - self.kept) / self.kept).log()
        low = t.long().clamp(max=len(ratio) - 2)
        level = torch.lerp(ratio[low], ratio[low + 1], (t - low).double())
        return (torch.sigmoid(level).sqrt()[:, None] * x,)


def test_a_noise_predictor_on_the_flow_path_gives_the_flow_of_gaussian_data() -> None:
    scheduler = df.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    flow = Flow(Gaussian(scheduler), scheduler)
    s = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (found,) = flow(x, 1000 * s)
    expected = ((2 * s - 1) / ((1 - s) ** 2 + s**2))[:, None] * x  # E[noise - data | x]
    assert torch.allclose(found, expected, atol=1e-6)
