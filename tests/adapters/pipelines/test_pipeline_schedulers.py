"""At tolerance 0 a pipeline samples what it samples step by step, whatever its scheduler."""

from __future__ import annotations

from typing import Any, ClassVar

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paradigms import parallelize
from promises import CLOSE, off, promise, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # diffusers' advice on configurations

ZERO: dict[str, Any] = {
    "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"
}  # fmt: skip
KARRAS: dict[str, Any] = {"use_karras_sigmas": True}
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "dpm++ 2m sde karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", **KARRAS}),
    "heun": ("HeunDiscreteScheduler", {}),
    "euler ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "lcm": ("LCMScheduler", {}),
    "zero snr": ("DDIMScheduler", ZERO),
    "lms": ("LMSDiscreteScheduler", {}),
    "sa solver": ("SASolverScheduler", {}),
}


def test_ddim_that_ends_at_the_first_level_is_right() -> None:
    """Stable Diffusion's default, where diffusers' own port of ParaDiGMS hard-codes the final level."""
    promise(text2image("DDIMScheduler", set_alpha_to_one=False))


@pytest.mark.parametrize("steps", [5, 7])
def test_ddim_that_ends_at_data_is_right(steps: int) -> None:
    promise(text2image("DDIMScheduler", set_alpha_to_one=True), steps=steps)


def test_ddpm_on_linspace_is_right() -> None:
    promise(text2image("DDPMScheduler", timestep_spacing="linspace"))


def test_ddpm_trailing_with_steps_that_do_not_divide_the_chain_is_right() -> None:
    promise(text2image("DDPMScheduler", timestep_spacing="trailing"), steps=7)


@pytest.mark.parametrize("variance", ["fixed_small_log", "fixed_large", "fixed_small"])
def test_ddpm_of_every_fixed_variance_is_right(variance: str) -> None:
    promise(text2image("DDPMScheduler", variance_type=variance))


def test_ddim_with_noise_is_right() -> None:
    promise(text2image(), eta=1.0)


def test_rescaled_guidance_is_right() -> None:
    promise(text2image(), guidance_rescale=0.7)


@pytest.mark.parametrize("name", list(SCHEDULERS)[1:])
def test_schedulers_that_the_port_refuses_are_right(name: str) -> None:
    scheduler, levels = SCHEDULERS[name]
    promise(text2image(scheduler, **levels))


@pytest.mark.parametrize("changes", [{"timesteps": [900, 700, 500, 200, 10]}, {"clip_sample": True}])
def test_timesteps_of_the_users_own_and_clipping_are_right(changes: dict[str, Any]) -> None:
    levels = {k: v for k, v in changes.items() if k != "timesteps"}
    promise(text2image("DDPMScheduler", **levels), **{k: v for k, v in changes.items() if k == "timesteps"})


def test_a_scheduler_that_adds_up_in_place_stays_in_windows() -> None:
    """PNDM's Runge-Kutta steps: their sums are changed by later rows, so they are copied and the call begins anew."""
    pipe = text2image("PNDMScheduler", skip_prk_steps=False)
    reference = sample(pipe, steps=5)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert off(sample(pipe, steps=5), reference) <= CLOSE
    assert not run.fallbacks and max(run.windows) == 4


@settings(max_examples=8, derandomize=True, deadline=None, database=None)
@given(
    name=st.sampled_from(sorted(SCHEDULERS)),
    window=st.integers(1, 9),
    steps=st.integers(2, 7),
    scale=st.sampled_from([1.0, 3.0]),
    seed=st.sampled_from([0, None]),
)
def test_every_scheduler_window_and_number_of_steps_is_right(
    name: str, window: int, steps: int, scale: float, seed: int | None
) -> None:
    scheduler, levels = SCHEDULERS[name]
    pipe = text2image(scheduler, **levels)
    reference = sample(pipe, steps=steps, guidance_scale=scale, seed=seed)
    with parallelize(pipe, tolerance=0, window=window, batched=False):
        found = sample(pipe, steps=steps, guidance_scale=scale, seed=seed)
    assert torch.equal(found, reference) and off(found, reference) == 0


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("tolerance", [0, 0.003])
def test_a_wrapped_step_is_called_by_the_loop_alone(name: str, tolerance: float) -> None:
    """An IndexError, as the copy whose course is read stepped the scheduler itself."""
    pipe, asked = text2image(name), list[int]()
    own, reference = pipe.scheduler.step, sample(text2image(name), steps=7)

    def step(*given: Any, **how: Any) -> Any:
        asked.append(len(asked))
        return own(*given, **how)

    pipe.scheduler.step = step
    with parallelize(pipe, tolerance=tolerance, window=4) as run:
        found = sample(pipe, steps=7)
    assert off(found, reference) <= max(tolerance, CLOSE)
    assert not run.fallbacks and max(run.windows) == 4 and asked == list(range(run.steps))


class Noting(diffusers.DDIMScheduler):  # type: ignore[misc]
    """Its steps are counted for all of its kind, and the count decides about them."""

    seen: ClassVar[dict[str, int]] = {"n": 0}

    def step(self, e: Any, *given: Any, **how: Any) -> Any:
        self.seen["n"] += 1
        return super().step(e * (1 + 0.01 * (self.seen["n"] % 3)), *given, **how)


def test_what_a_scheduler_notes_elsewhere_is_put_back_when_it_is_read() -> None:
    """A5: the copy whose course is read counted too; the call was stepped, and said that it may differ."""
    pipe = text2image()
    pipe.scheduler = Noting.from_config(pipe.scheduler.config)
    reference, steps = sample(pipe, steps=8), Noting.seen["n"]
    Noting.seen["n"] = 0
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        assert off(sample(pipe, steps=8), reference) <= CLOSE
    assert not run.fallbacks and max(run.windows) == 4 and Noting.seen["n"] == steps
