"""What cannot be parallel is refused with the reason, or runs step by step and says so; it is never another image."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from benchmarks.zoo import ZOO, run
from paradigms import parallelize
from promises import sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SPECIMENS = {s.name: s for s in ZOO}
ONE_BY_ONE = {
    "StableDiffusionSAGPipeline": "self-attention guidance reads what the network kept",
    "StableDiffusionAttendAndExcitePipeline": "its steps take gradients",
    "LEditsPPPipelineStableDiffusion": "its attention keeps maps",
    "StableDiffusionGLIGENPipeline": "a step switches the network over",
}


class Loopless(diffusers.DiffusionPipeline):
    """A pipeline of one step."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet)

    def __call__(self) -> Any:
        return self.unet(torch.zeros(1, 4, 8, 8), 0, torch.zeros(1, 2, 8))


CACHES: dict[str, Any] = {
    "FirstBlockCacheConfig": {"threshold": 0.1},
    "PyramidAttentionBroadcastConfig": {"spatial_attention_block_skip_range": 2, "current_timestep_callback": int},
    "FasterCacheConfig": {"spatial_attention_block_skip_range": 2, "current_timestep_callback": lambda: 950,
                          "attention_weight_callback": lambda _: 0.5, "is_guidance_distilled": True},
    "TaylorSeerCacheConfig": {"disable_cache_before_step": 2, "cache_interval": 2},
    "MagCacheConfig": {"num_inference_steps": 5, "mag_ratios": [1.0] * 5},
}  # fmt: skip
KNOWN = [name for name in CACHES if hasattr(diffusers, name)]


def cached(name: str, hooked: bool) -> Any:
    """A Flux pipeline with a step cache of diffusers, by the network's own method or by the function for any module."""
    pipe, config = SPECIMENS["FluxPipeline"].build(), getattr(diffusers, name)(**CACHES[name])
    if hooked:
        plain = name.removesuffix("Config").lower()
        apply = next(f for f in dir(diffusers.hooks) if f.startswith("apply_") and f[6:].replace("_", "") == plain)
        getattr(diffusers.hooks, apply)(pipe.transformer, config)
    else:
        pipe.transformer.enable_cache(config)
    return pipe


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("name", KNOWN)
def test_a_step_cache_of_diffusers_runs_step_by_step_and_says_what_to_type(name: str, hooked: bool) -> None:
    """A4: what the pipeline makes with its cache, and why it was not in parallel."""
    specimen = SPECIMENS["FluxPipeline"]
    reference = run(specimen, cached(name, hooked))
    pipe = cached(name, hooked)
    with parallelize(pipe, window=4) as report:
        assert torch.equal(run(specimen, pipe), reference)
    assert len(report.fallbacks) == 1 and "step cache" in report.fallbacks[0]
    assert "pipe.transformer.disable_cache()" in report.fallbacks[0] and max(report.windows) == 1
    assert "window=1 was given" not in str(report) and str(report).count("step cache") == 1


def test_a_pipeline_whose_cache_is_disabled_is_parallel_again() -> None:
    """A4"""
    specimen, pipe = SPECIMENS["FluxPipeline"], cached("FirstBlockCacheConfig", False)
    with parallelize(pipe, window=4) as report:
        run(specimen, pipe)
        pipe.transformer.disable_cache()
        run(specimen, pipe)
    assert report.calls == 2 and len(report.fallbacks) == 1 and max(report.windows) == 4


def test_a_pipeline_without_a_loop_is_refused() -> None:
    pipe = Loopless(text2image().unet)
    with pytest.raises(ValueError, match="Loopless has no loop"), parallelize(pipe):
        raise AssertionError("entered")
    assert type(pipe) is Loopless and pipe().sample.shape == (1, 4, 8, 8)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_what_cannot_be_parallel_runs_step_by_step_and_says_why(name: str) -> None:
    specimen = SPECIMENS[name]
    pipe = specimen.build()
    reference = run(specimen, pipe)
    with parallelize(pipe, tolerance=0.01, window=4) as report:
        found = run(specimen, pipe)
    assert torch.equal(found, reference)
    assert len(report.fallbacks) == 1 and report.fallbacks[0].startswith(name)
    assert len(report.fallbacks[0]) > len(name) + 10 and set(report.accepted) == {1}


def test_what_runs_step_by_step_draws_the_sequential_noise_and_calls_back_once_a_step() -> None:
    specimen = SPECIMENS["StableDiffusionGLIGENPipeline"]
    pipe, seen = specimen.build(), []

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        pipe.set_progress_bar_config(disable=True)
        seen.clear()
        torch.manual_seed(3)
        given = specimen.inputs() | {"generator": None, "eta": 1.0}
        images = pipe(**given, callback=lambda i, t, x: seen.append(i), callback_steps=1).images
        return images, torch.get_rng_state()

    reference, order = call(), list(seen)
    with parallelize(pipe, window=4) as report:
        found = call()
    assert all(map(torch.equal, found, reference)) and report.fallbacks and seen == order


def test_a_call_that_never_comes_to_its_loop_says_so() -> None:
    class Early(diffusers.StableDiffusionPipeline):
        def __call__(self, prompt: str, early: bool = False) -> Any:
            self.scheduler.set_timesteps(3)
            x = torch.ones(1, 4, 8, 8)
            if early:
                return x
            words = torch.zeros(1, 2, 8)
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(self.unet(x, t, words).sample, t, x).prev_sample
            return x

    made = text2image()
    pipe = Early(**made.components, requires_safety_checker=False)
    with torch.no_grad(), parallelize(pipe, tolerance=0, batched=False) as report:
        assert torch.equal(pipe("a", early=True), torch.ones(1, 4, 8, 8))
        assert len(report.fallbacks) == 1 and "did not come to a loop" in report.fallbacks[0]
        found = pipe("a")
    with torch.no_grad():
        assert torch.equal(found, pipe("a")) and len(report.fallbacks) == 1 and sum(report.accepted) == 3


def test_the_refused_pipeline_samples_as_before() -> None:
    pipe = text2image()
    reference = sample(pipe)
    with pytest.raises(ValueError, match="window"), parallelize(pipe, window=-1):
        raise AssertionError("entered")
    assert torch.equal(sample(pipe), reference)


def test_a_loop_whose_batch_shrinks_is_stepped_and_named() -> None:
    """Samples that leave a batch early take their errors with them."""

    class Shrinking(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
        @torch.no_grad()
        def __call__(self) -> torch.Tensor:
            self.scheduler.set_timesteps(8)
            x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
            for i, t in enumerate(self.scheduler.timesteps):
                words = torch.zeros(len(x), 7, self.unet.config.cross_attention_dim)
                x = self.scheduler.step(self.unet(x, t, words).sample, t, x).prev_sample
                x = x[1:] if i == 4 else x
            return x

    def made() -> Any:
        pipe = Shrinking(**text2image().components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    reference, pipe = made()(), made()
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(pipe(), reference)
    assert len(run.fallbacks) == 1 and "number of its samples changes" in run.fallbacks[0]
