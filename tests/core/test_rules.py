"""Each rule, run row by row, equals diffusers' scheduler of its name to 1e-5, terminal step included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import paradigms as pd
from toy import Mixture

SCHEDULES = {
    "linear": (pd.linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (pd.scaled_linear(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    "cosine": (pd.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
}
SHAPE = (3, 1, 4, 4)


def spoken(schedule: pd.Schedule, prediction: str, sharp: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """A mixture's exact answer in the tongue of `prediction`; `sharp` > 1 leaves [-1, 1], so that clips act."""
    mixture = Mixture(d=16, schedule=schedule, seed=3)
    mixture.means = mixture.means.clamp(-1, 1) * sharp

    def model(x: Tensor, t: Tensor) -> Tensor:
        low = t.double().floor().long().clamp(max=len(schedule.t) - 2)
        ratio = torch.lerp(schedule.ratio[low], schedule.ratio[low + 1].clamp(max=1e6), t.double() - low)
        alpha = (1 + ratio**2).rsqrt()[:, None].to(x)
        sigma = (1 - alpha**2).sqrt()
        data = mixture.denoise(x.flatten(1), alpha, sigma)
        eps = (x.flatten(1) - alpha * data) / sigma
        return {"epsilon": eps, "v": alpha * eps - sigma * data, "x0": data}[prediction].reshape(x.shape)

    return model


def by_diffusers(
    scheduler: Any, model: Callable[[Tensor, Tensor], Tensor], x: Tensor, steps: int, **how: Any
) -> Tensor:
    """The loop that diffusers' own pipelines run."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(7)
    if "DDPM" in type(scheduler).__name__ or how.get("eta"):
        how["generator"] = generator
    for t in scheduler.timesteps:
        m = (
            model(scheduler.scale_model_input(x, t), t.expand(len(x)))
            if hasattr(scheduler, "scale_model_input")
            else model(x, t.expand(len(x)))
        )
        x = scheduler.step(m, t, x, **how).prev_sample
    return x


def doubled(scheduler: Any, schedule: pd.Schedule) -> Any:
    """`scheduler` computing in float64: its own float32 table of alphas is off by up to 3e-4 in the sample."""
    scheduler.alphas_cumprod, scheduler.one = schedule.alpha**2, torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        one = bool(scheduler.config.set_alpha_to_one)
        scheduler.final_alpha_cumprod = scheduler.one if one else scheduler.alphas_cumprod[0]
    return scheduler


def agree(
    system: pd.System,
    scheduler: Any,
    model: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    dtype: torch.dtype = torch.float32,
    **how: Any,
) -> float:
    """The relative distance of `sequential` from diffusers on the same starting noise and the same stream of z."""
    x = system.noise(SHAPE, torch.Generator().manual_seed(0), dtype=dtype)
    ours = pd.sequential(model, system, x, generator=torch.Generator().manual_seed(7))
    theirs = by_diffusers(scheduler, model, x, steps, **how)
    return float((ours - theirs).norm() / theirs.norm())


NAMES = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
STEPS = (10, 50, 200)


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "ddim clipped", "dpmsolver", "dpmsolver_single", "heun", "flow"])
def test_a_chain_of_every_timestep_equals_diffusers(rule: str) -> None:
    """Of 1000 steps: no timestep is left out, and the rounding of them all adds up."""
    name, beta = rule.removesuffix(" clipped"), "linear" if rule == "ddim clipped" else "scaled_linear"
    schedule, config = SCHEDULES[beta]
    sharp, clip = (1.2, 1.0) if "clipped" in rule else (1.0, None)
    scheduler = {
        "ddpm": lambda: diffusers.DDPMScheduler(**config, clip_sample=False),
        "ddim": lambda: diffusers.DDIMScheduler(**config, clip_sample=clip is not None),
        "dpmsolver": lambda: diffusers.DPMSolverMultistepScheduler(**config, timestep_spacing="trailing"),
        "dpmsolver_single": lambda: diffusers.DPMSolverSinglestepScheduler(**config, final_sigmas_type="zero"),
        "heun": lambda: diffusers.HeunDiscreteScheduler(**config, timestep_spacing="trailing"),
        "flow": diffusers.FlowMatchEulerDiscreteScheduler,
    }[name]()
    how = {"ddim": {"clip": clip}, "dpmsolver": {"spacing": "trailing"}, "heun": {"karras": False}}.get(name, {})
    if name == "flow":
        assert agree(pd.flow(1000), scheduler, velocity, 1000) < 1e-5
        return
    how |= {"spacing": "trailing"} if name == "heun" else {}
    system, model = getattr(pd, name)(schedule, 1000, **how), spoken(schedule, "epsilon", sharp=sharp)
    if name in ("ddpm", "ddim"):
        assert agree(system, doubled(scheduler, schedule), model, 1000, torch.float64) < 1e-9
    else:
        assert agree(system, scheduler, model, 1000) < 1e-5


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("beta", SCHEDULES)
def test_ddpm_equals_diffusers(beta: str, spacing: str, steps: int) -> None:
    schedule, config = SCHEDULES[beta]
    scheduler = diffusers.DDPMScheduler(**config, clip_sample=False, timestep_spacing=spacing)
    system, model = pd.ddpm(schedule, steps, spacing=spacing), spoken(schedule, "epsilon")
    if beta == "linear":
        assert agree(system, scheduler, model, steps) < 1e-5
    assert agree(system, doubled(scheduler, schedule), model, steps, torch.float64) < 1e-9


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddim_equals_diffusers(spacing: str, final: bool, steps: int) -> None:
    schedule, config = SCHEDULES["scaled_linear"]
    scheduler = diffusers.DDIMScheduler(**config, clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=final)
    system = pd.ddim(schedule, steps, spacing=spacing, final_alpha_one=final)
    assert agree(system, scheduler, spoken(schedule, "epsilon"), steps) < 1e-5
    assert agree(system, doubled(scheduler, schedule), spoken(schedule, "epsilon"), steps, torch.float64) < 1e-9


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_ddim_with_eta_equals_diffusers(eta: float, steps: int) -> None:
    schedule, config = SCHEDULES["linear"]
    scheduler = diffusers.DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=True)
    assert agree(pd.ddim(schedule, steps, eta=eta), scheduler, spoken(schedule, "epsilon"), steps, eta=eta) < 1e-5


@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver", "heun"])
def test_every_prediction_type_equals_diffusers(rule: str, prediction: str) -> None:
    schedule, config = SCHEDULES["scaled_linear"]
    config = {**config, "prediction_type": NAMES[prediction]}
    system = getattr(pd, rule)(schedule, 20, prediction=prediction)
    scheduler = {
        "ddpm": lambda: diffusers.DDPMScheduler(**config, clip_sample=False),
        "ddim": lambda: diffusers.DDIMScheduler(**config, clip_sample=False),
        "dpmsolver": lambda: diffusers.DPMSolverMultistepScheduler(**config),
        "heun": lambda: diffusers.HeunDiscreteScheduler(**config, use_karras_sigmas=True),
    }[rule]()
    assert agree(system, scheduler, spoken(schedule, prediction), 20) < 1e-5


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", ["ddpm", "ddim", "heun"])
def test_clipping_equals_diffusers(rule: str, steps: int) -> None:
    schedule, config = SCHEDULES["linear"]
    scheduler = {
        "ddpm": lambda: diffusers.DDPMScheduler(**config, clip_sample=True),
        "ddim": lambda: diffusers.DDIMScheduler(**config, clip_sample=True),
        "heun": lambda: diffusers.HeunDiscreteScheduler(**config, clip_sample=True, use_karras_sigmas=True),
    }[rule]()
    model = spoken(schedule, "epsilon", sharp=1.2)  # at 1.5 the chain itself blows 1e-12 up to 1e-5
    system = getattr(pd, rule)(schedule, steps, clip=1.0)
    if rule == "heun":
        assert agree(system, scheduler, model, steps) < 1e-5
    else:
        assert agree(system, doubled(scheduler, schedule), model, steps, torch.float64) < 1e-9
    free = agree(getattr(pd, rule)(schedule, steps), scheduler, model, steps)
    assert free > 1e-2, "the clip never acted, so this compared nothing"


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver", "dpmsolver_single"])
def test_dynamic_thresholding_equals_diffusers(rule: str) -> None:
    schedule, config = SCHEDULES["linear"]
    config = {**config, "thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.4}
    scheduler = {
        "ddpm": lambda: diffusers.DDPMScheduler(**config),
        "ddim": lambda: diffusers.DDIMScheduler(**config),
        "dpmsolver": lambda: diffusers.DPMSolverMultistepScheduler(**config),
        "dpmsolver_single": lambda: diffusers.DPMSolverSinglestepScheduler(**config),
    }[rule]()
    system = getattr(pd, rule)(schedule, 20, threshold=(0.9, 1.4))
    assert agree(system, scheduler, spoken(schedule, "epsilon", sharp=1.5), 20) < 1e-5


ZERO = [(r, s, n) for r in ("ddpm", "ddim", "dpmsolver") for s in ("trailing", "linspace") for n in STEPS]


@pytest.mark.parametrize(("rule", "spacing", "steps"), ZERO)
def test_zero_terminal_snr_equals_diffusers(rule: str, spacing: str, steps: int) -> None:
    schedule, config = pd.zero_terminal_snr(pd.scaled_linear()), dict(SCHEDULES["scaled_linear"][1])
    config.update(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing=spacing)
    scheduler = {
        "ddpm": lambda: diffusers.DDPMScheduler(**config, clip_sample=False),
        "ddim": lambda: diffusers.DDIMScheduler(**config, clip_sample=False),
        "dpmsolver": lambda: diffusers.DPMSolverMultistepScheduler(**config),
    }[rule]()
    system = getattr(pd, rule)(schedule, steps, spacing=spacing, prediction="v")
    if rule == "dpmsolver":  # it keeps its table in float32, whatever is done to it
        assert agree(system, scheduler, spoken(schedule, "v"), steps) < 1e-5
    else:
        assert agree(system, doubled(scheduler, schedule), spoken(schedule, "v"), steps, torch.float64) < 1e-9


GRIDS = [(g, n) for g in ("trailing", "karras") for n in STEPS]
GRIDS += [(g, n) for g in ("leading", "linspace") for n in (10, 50, 199)]


@pytest.mark.parametrize(("grid", "steps"), GRIDS)
@pytest.mark.parametrize("final", [True, False])
def test_dpmsolver_equals_diffusers(grid: str, final: bool, steps: int) -> None:
    schedule, config = SCHEDULES["scaled_linear"]
    how = {"karras": True} if grid == "karras" else {"spacing": grid}
    theirs = {"use_karras_sigmas": True} if grid == "karras" else {"timestep_spacing": grid}
    ends = "zero" if final else "sigma_min"
    scheduler = diffusers.DPMSolverMultistepScheduler(**config, **theirs, final_sigmas_type=ends)
    system = pd.dpmsolver(schedule, steps, final_zero=final, **how)
    assert agree(system, scheduler, spoken(schedule, "epsilon"), steps) < 1e-5


def test_a_repeated_timestep_is_stepped_over_where_diffusers_gives_nan() -> None:
    """1000 steps on a linspace grid are 1001 points on 1000 timesteps, so one step has no length."""
    schedule, config = SCHEDULES["scaled_linear"]
    x, model = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)), spoken(schedule, "epsilon")
    theirs = by_diffusers(diffusers.DPMSolverMultistepScheduler(**config), model, x, 1000)
    ours = pd.sequential(model, pd.dpmsolver(schedule, 1000), x)
    near = pd.sequential(model, pd.dpmsolver(schedule, 1000, spacing="trailing"), x)
    assert bool(theirs.isnan().any()) and float((ours - near).norm() / near.norm()) < 1e-2


@pytest.mark.parametrize("steps", [10, 11, 50, 199, 200])
@pytest.mark.parametrize("karras", [True, False])
def test_dpmsolver_single_equals_diffusers(karras: bool, steps: int) -> None:
    schedule, config = SCHEDULES["scaled_linear"]
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        **config, solver_order=2, use_karras_sigmas=karras, lower_order_final=True, final_sigmas_type="zero"
    )
    assert (
        agree(pd.dpmsolver_single(schedule, steps, karras=karras), scheduler, spoken(schedule, "epsilon"), steps) < 1e-5
    )


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("grid", ["karras", "linspace", "leading", "trailing"])
def test_heun_equals_diffusers(grid: str, steps: int) -> None:
    schedule, config = SCHEDULES["scaled_linear"]
    theirs = {"use_karras_sigmas": True} if grid == "karras" else {"timestep_spacing": grid}
    how = {} if grid == "karras" else {"karras": False, "spacing": grid}
    scheduler = diffusers.HeunDiscreteScheduler(**config, **theirs)
    system = pd.heun(schedule, steps, **how)
    scheduler.set_timesteps(steps)
    assert system.start == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-5)
    assert agree(system, scheduler, spoken(schedule, "epsilon"), steps) < 1e-5


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """A flow model that a closed form gives: the exact velocity of a mixture at s = t / 1000."""
    s = (t / 1000).reshape(-1, 1).to(x)
    data = Mixture(d=16, seed=3).denoise(x.flatten(1), 1 - s, s)
    return ((x.flatten(1) - data) / s).reshape(x.shape)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("order", [1, 2])
def test_flow_equals_diffusers(order: int, shift: float, steps: int) -> None:
    kind = diffusers.FlowMatchEulerDiscreteScheduler if order == 1 else diffusers.FlowMatchHeunDiscreteScheduler
    system = (pd.flow if order == 1 else pd.flow_heun)(steps, shift=shift)
    assert agree(system, kind(shift=shift), velocity, steps) < 1e-5


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_variance_equals_diffusers(variance: str) -> None:
    schedule, config = SCHEDULES["linear"]
    scheduler = diffusers.DDPMScheduler(**config, clip_sample=False, variance_type=f"fixed_{variance}")
    assert agree(pd.ddpm(schedule, 50, variance=variance), scheduler, spoken(schedule, "epsilon"), 50) < 1e-5
