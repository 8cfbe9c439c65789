"""Every scheduler of the list, read as a table, is that scheduler; what is no table is refused with the reason."""

from __future__ import annotations

import copy
import inspect
import types
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import paradigms as pd
import paradigms.adapters.schedulers.table
from paradigms.adapters import SchedulerError, from_scheduler
from paradigms.adapters.schedulers.table import as_shown
from problems import LINEAR, seeded
from schedulers import BROKEN, NEWEST, REFUSED, TABLES, Config
from toy import Mixture

SHAPE = (2, 3, 4, 4)


def there(config: Config) -> bool:
    """Whether the installed diffusers has the class and its settings."""
    made = getattr(diffusers, config[0], None)
    return made is not None and set(config[1]) <= set(inspect.signature(made).parameters)


def built(config: Config) -> Any:
    """The scheduler of a configuration; skips where an older diffusers has no such class or setting, or fails."""
    name, settings, _ = config
    if not there(config):
        assert diffusers.__version__ != NEWEST
        pytest.skip(f"diffusers {diffusers.__version__} has no {name} with {settings}")
    if diffusers.__version__.startswith("0.31.") and config in BROKEN:
        pytest.skip(f"{name} of diffusers 0.31 does not run with {settings}")
    return getattr(diffusers, name)(**settings)


def bent(x: Tensor, t: Tensor) -> Tensor:
    """A model that no table can hold: neighbours act on each other, and nothing is linear."""
    return torch.sin(1.3 * x + 0.5 * x.roll(1, -1)) + 0.3 * torch.cos(t.double() / 200).reshape(-1, 1, 1, 1).to(x)


class Draws(TorchFunctionMode):
    """Keeps the last noise drawn since `row` was emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.row: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (torch.randn, torch.randn_like):
            self.row.append(made)
        return made


def by_pipeline(scheduler: Any, x: Tensor, steps: int | None, how: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The sample of the loop that the scheduler's own pipelines run, and the noise (N, B, ...) it drew on the way."""
    takes = inspect.signature(scheduler.step).parameters
    step = {k: v for k, v in how.items() if k in takes and k != "timesteps"}
    count = {} if steps is None else {"num_inference_steps": steps}
    scheduler.set_timesteps(**count, **{k: v for k, v in how.items() if k not in step})
    if "generator" in takes:
        step["generator"] = seeded(7)
    times = list(scheduler.timesteps)
    if type(scheduler).__name__ in ("SCMScheduler", "DDPMWuerstchenScheduler"):
        times = times[:-1]
    old, noise = None, []
    for i, t in enumerate(times):
        shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        m = bent(shown, t[None])
        with Draws() as draws:
            if type(scheduler).__name__ == "CogVideoXDPMScheduler":
                x, old = scheduler.step(m, old, t, times[i - 1] if i else None, x, **step, return_dict=False)
            elif type(scheduler).__name__ == "UnCLIPScheduler":
                following = times[i + 1] if i + 1 < len(times) else None
                x = scheduler.step(m, t, x, prev_timestep=following, **step).prev_sample
            elif type(scheduler).__name__ == "DDPMWuerstchenScheduler":
                x = scheduler.step(m, t.expand(len(x)), x, **step).prev_sample
            else:
                x = scheduler.step(m, t, x, **step).prev_sample
        noise.append(draws.row[-1].double() if draws.row else torch.zeros_like(x))
    return x, torch.stack(noise)


def apart(x: Tensor, y: Tensor) -> float:
    return float((x - y).norm() / y.norm())


def lengths(name: str) -> tuple[int | None, ...]:
    """10 and 20 steps, or the configuration's own."""
    return (None,) if {"timesteps", "sigmas"} & set(TABLES[name][2]) else (10, 20)


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_the_scheduler(name: str) -> None:
    scheduler, how = built(TABLES[name]), TABLES[name][2]
    for N in lengths(name):
        system = from_scheduler(scheduler, N, more=how)
        x = system.noise(SHAPE, seeded(0), dtype=torch.float64)
        theirs, z = by_pipeline(copy.deepcopy(scheduler), x, N, how)
        assert len(z) == len(system)
        assert apart(pd.sequential(bent, system, x, noise=z), theirs) < 1e-5


def test_at_least_sixty_configurations_are_tables(capsys: pytest.CaptureFixture[str]) -> None:
    here = [name for name, config in TABLES.items() if there(config)]
    with capsys.disabled():
        print(f"{len(here)} configurations of {len({TABLES[name][0] for name in here})} schedulers are tables")
    assert len(here) >= 60


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_with_the_reason(name: str) -> None:
    config, reason = REFUSED[name]
    with pytest.raises(SchedulerError, match=reason) as refused:
        from_scheduler(built(config), 10, more=config[2])
    assert config[0] in str(refused.value)


DRAWING = [
    "ddim, eta 0.5", "ddpm", "ddpm, Wuerstchen", "unclip", "euler, churned", "euler ancestral", "kdpm2 ancestral",
    "lcm", "tcd", "sde-dpmsolver++ 2", "sde-dpmsolver++ single 2", "sasolver", "edm, churned", "edm sde-dpmsolver++ 2",
    "consistency, clipped", "flow, LCM", "flow, LTX", "scm",
]  # fmt: skip


@pytest.mark.parametrize("name", DRAWING)
def test_the_same_seed_gives_the_schedulers_own_sample(name: str) -> None:
    """In float32, as pipelines run; rows that draw noise and throw it away are drawn for too.

    Not here: CogVideoX' DPM, which draws twice a step, and stochastic flow, which does not ask its generator.
    """
    scheduler, how = built(TABLES[name]), TABLES[name][2]
    system = from_scheduler(scheduler, 10, more=how)
    x = system.noise(SHAPE, seeded(0))
    theirs, _ = by_pipeline(scheduler, x, 10, how)
    assert apart(pd.sequential(bent, system, x, generator=seeded(7)), theirs) < 1e-4


def test_noise_that_is_thrown_away_weighs_nothing() -> None:
    """But it is drawn for, in the last row too, so that a generator ends where the scheduler leaves it."""
    system = from_scheduler(built(TABLES["kdpm2 ancestral"]), 10)
    assert bool((system.c[0:-1:2].abs() <= 1e-30).all() and (system.c[1:-1:2] > 1e-3).all())
    assert 0 < from_scheduler(built(TABLES["euler ancestral"]), 10).c[-1] <= 1e-30
    assert from_scheduler(built(TABLES["euler"]), 10).c.count_nonzero() == 0


PARALLEL = [
    "ddim, clipped at 0.7, eta 0.5", "ddpm, thresholded", "heun, clipped", "kdpm2 ancestral", "lms", "pndm", "unipc 3",
    "sde-dpmsolver++ single 2", "sasolver", "edm dpmsolver++ 2", "flow, Euler, FLUX", "flow, LCM",
]  # fmt: skip


@pytest.mark.parametrize("name", PARALLEL)
def test_sampling_the_table_in_parallel_gives_the_schedulers_own_sample(name: str) -> None:
    scheduler, how = built(TABLES[name]), TABLES[name][2]
    system = from_scheduler(scheduler, 10, more=how)
    x = system.noise(SHAPE, seeded(0), dtype=torch.float64)
    theirs, z = by_pipeline(scheduler, x, 10, how)
    solution = pd.sample(bent, system, x, pd.Picard(pd.Extrapolate()), window=6, tolerance=0.0, noise=z)
    assert apart(solution.x, theirs) < 1e-5


LIMITS = {"clip_sample": False, "thresholding": False, "clip_denoised": False}


@pytest.mark.parametrize("name", [name for name in TABLES if "clipped" in name or "thresholded" in name])
def test_the_limits_of_the_list_act(name: str) -> None:
    """So that the equality of a clipped table with its scheduler is one of clips."""
    scheduler, how = built(TABLES[name]), TABLES[name][2]
    free = type(scheduler).from_config(scheduler.config, **{k: v for k, v in LIMITS.items() if k in scheduler.config})
    x = torch.randn(SHAPE, generator=seeded(0), dtype=torch.float64) * float(scheduler.init_noise_sigma)
    limited, _ = by_pipeline(scheduler, x, 10, how)
    assert apart(by_pipeline(free, x, 10, how)[0], limited) > 0.01
    assert from_scheduler(free, 10, more=how).denoiser.clip is None


def doubled(scheduler: Any, schedule: pd.Schedule) -> Any:
    """`scheduler` with its table of levels in float64."""
    scheduler.alphas_cumprod, scheduler.one = schedule.alpha**2, torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.one if scheduler.config.set_alpha_to_one else schedule.alpha[0] ** 2
    return scheduler


OURS: dict[str, tuple[Any, pd.System, float]] = {
    "ddpm": (doubled(diffusers.DDPMScheduler(), LINEAR), pd.ddpm(LINEAR, 25, clip=1.0), 1e-9),
    "ddim": (doubled(diffusers.DDIMScheduler(clip_sample=False), LINEAR), pd.ddim(LINEAR, 25), 1e-9),
    "ddim, final level": (
        doubled(diffusers.DDIMScheduler(clip_sample_range=2.0), LINEAR), pd.ddim(LINEAR, 25, clip=2.0), 1e-9
    ),
    "dpmsolver": (
        diffusers.DPMSolverMultistepScheduler(beta_schedule="linear"), pd.dpmsolver(LINEAR, 25), 1e-4
    ),
    "dpmsolver_single": (
        diffusers.DPMSolverSinglestepScheduler(beta_schedule="linear"), pd.dpmsolver_single(LINEAR, 24), 1e-4
    ),
    "heun": (
        diffusers.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True),
        pd.heun(LINEAR, 13), 1e-4,
    ),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), pd.flow(25, shift=3.0), 1e-4),
    "flow_heun": (diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0), pd.flow_heun(13, shift=3.0), 1e-4),
}  # fmt: skip


@pytest.mark.parametrize("rule", OURS)
def test_our_own_rules_are_the_tables_of_their_schedulers(rule: str) -> None:
    """All of them: coefficients, levels, the reading of the model, clips and the unit of the tolerance.

    In one choice of units: `heun` counts in sigma / alpha, a table as the model is shown its states.
    """
    scheduler, ours, close = OURS[rule]
    ours = as_shown(ours)
    system = from_scheduler(scheduler, {"heun": 13, "flow_heun": 13, "dpmsolver_single": 24}.get(rule, 25))
    for name in ("a", "b", "c", "alpha", "sigma", "std"):
        assert torch.allclose(getattr(system, name), getattr(ours, name), rtol=close, atol=close), name
    for name in ("into", "p", "q", "gain") if ours.denoiser.clip else ("into", "p", "q"):
        read, by_ours = getattr(system.denoiser, name), getattr(ours.denoiser, name)
        assert torch.allclose(read, by_ours, rtol=close, atol=close), name
    assert torch.allclose(system.t.double(), ours.t.double(), atol=0.01)  # T = 1000, looked up in float32
    assert system.denoiser.clip == ours.denoiser.clip and abs(system.start / ours.start - 1) < 1e-4


READ = ["ddim, v", "euler, v, trailing", "dpmsolver++ 3", "unipc 2, flow", "edm", "lcm", "flow, Heun"]


@pytest.mark.parametrize("name", READ)
def test_the_table_reads_the_data_that_an_answer_stands_for(name: str) -> None:
    """D of alpha data + sigma noise, given what a model that knows both would say, is the data; levels fall."""
    scheduler = built(TABLES[name])
    system = from_scheduler(scheduler, 10)
    data, noise = (torch.randn(len(system), 4, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    alpha, sigma, into = system.alpha[:, None], system.sigma[:, None], system.denoiser.into[:, None]
    n, x = torch.arange(len(system)), alpha * data + sigma * noise
    answer = {
        "epsilon": lambda: noise,
        "v_prediction": lambda: into * (alpha * noise - sigma * data),
        "flow_prediction": lambda: noise - data,
    }[scheduler.config.get("prediction_type", "flow_prediction")]()
    if name == "edm":  # EDM's own tongue, in its own units: c_skip x + c_out m
        s = sigma / alpha
        answer = (data - x / alpha * 0.25 / (s**2 + 0.25)) / (s * 0.5 / (s**2 + 0.25).sqrt())
    assert torch.allclose(system.denoiser.read(into * x, answer, n), data, atol=1e-5)
    assert bool((sigma[1:] / alpha[1:] <= sigma[:-1] / alpha[:-1].clamp(min=1e-9)).all())


TAPS = {
    "ddim": 1, "euler ancestral": 1, "heun": 2, "kdpm2": 2, "dpmsolver++ 2": 2, "dpmsolver++ 3": 3, "deis 3": 3,
    "lms": 4, "dpmsolver++ single 2": 2, "sde-dpmsolver++ single 2": 2, "edm dpmsolver++ 2": 2, "unipc 2": 3,
    "sasolver": 3, "ipndm": 4,
}  # fmt: skip


@pytest.mark.parametrize("name", TAPS)
def test_a_table_has_no_more_taps_than_its_rule(name: str) -> None:
    """A corrector that goes back to an earlier state has one more than its order, and no history grows with N."""
    for N in (10, 40):
        assert from_scheduler(built(TABLES[name]), N).taps == TAPS[name]


@pytest.mark.parametrize("name", ["flow, MiniMax", "ddim inverse", "lms", "scm"])
def test_levels_that_do_not_lead_to_each_other_or_are_no_datas_are_not_given(name: str) -> None:
    """MiniMax' velocity has the other sign, an inversion is told the next level: D is then what the model says."""
    system = from_scheduler(built(TABLES[name]), 10, more=TABLES[name][2])
    assert not system.alpha.any() and not system.denoiser.p.any() and bool((system.denoiser.q == 1).all())


@pytest.mark.parametrize("name", ["sde-dpmsolver++ 3", "edm, v, exponential", "euler ancestral", "flow, LTX"])
def test_a_table_is_compared_in_float64_whatever_its_scheduler_casts_to(name: str, monkeypatch: Any) -> None:
    """So that rounding, which long chains amplify, never makes a table look unlike its scheduler."""
    monkeypatch.setattr(paradigms.adapters.schedulers.table, "EQUAL", 1e-10)
    from_scheduler(built(TABLES[name]), 50)


def test_the_unit_of_an_inversion_is_the_noise_of_the_step_back() -> None:
    """Source of the formula: Ho et al. 2020, eq. 7, from the level of row n + 1 to that of row n."""
    system = from_scheduler(built(TABLES["dpmsolver inverse"]), 10)
    alpha, sigma = system.alpha, system.sigma
    back = sigma[:-1] * (1 - (alpha[1:] * sigma[:-1] / (alpha[:-1] * sigma[1:])) ** 2).sqrt()
    assert bool((sigma[1:] > sigma[:-1]).all())
    assert torch.allclose(system.std[:-1], back, rtol=1e-4)


def test_the_units_of_a_table_leave_its_sample_and_halve_picards_rounds() -> None:
    """Euler in sigma up to 157, stepped in those units by hand, and as a table in the units of the model's eyes."""
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=1e-4, beta_end=0.02)
    system = from_scheduler(scheduler, 50)
    assert bool((system.denoiser.into[1:] == 1).all())
    s = torch.cat([scheduler_sigmas(scheduler, 50), torch.zeros(1)]).double()
    one, none = torch.ones(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    reader = replace(system.denoiser, into=(1 + s[:-1] ** 2).rsqrt())
    a, b = s[1:] / s[:-1], 1 - s[1:] / s[:-1]
    std = system.std * torch.cat([(1 + s[1:-1] ** 2).sqrt(), one[:1]])
    wide = pd.System(system.t, a, b[:, None], none, std, one, s[:-1], reader, system.start)
    x = system.noise((3, 6), seeded(0), dtype=torch.float64)
    how: dict[str, Any] = {"compare": True, "window": 32, "tolerance": pd.StepNoise(0.001)}
    narrow, far = (pd.sample(Mixture(), v, x, pd.Picard(), **how) for v in (system, wide))
    assert narrow.comparison is not None and far.comparison is not None
    assert apart(narrow.comparison.x, far.comparison.x) < 1e-6
    assert narrow.rounds <= 0.6 * far.rounds


def scheduler_sigmas(scheduler: Any, N: int) -> Tensor:
    """The N levels that a scheduler steps from."""
    fresh = copy.deepcopy(scheduler)
    fresh.set_timesteps(N)
    return fresh.sigmas[:N]


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_a_scheduler_whose_step_is_wrapped_is_left_alone(name: str) -> None:
    """Its copy's step was its own."""
    scheduler = getattr(diffusers, name)()
    own = scheduler.step
    scheduler.step = lambda *given, **how: own(*given, **how)
    wanted = pd.from_scheduler(getattr(diffusers, name)(), 6)
    assert torch.equal(pd.from_scheduler(scheduler, 6).a, wanted.a) and scheduler.step_index is None


def test_a_step_that_holds_what_is_not_copied_is_no_table() -> None:
    scheduler, pipe = diffusers.DDIMScheduler(), types.SimpleNamespace(n=0)
    own = scheduler.step
    scheduler.step = lambda *given, **how: (pipe, own(*given, **how))[1]
    with pytest.raises(ValueError, match="step was put on it, and holds an object"):
        pd.from_scheduler(scheduler, 6)


def test_the_scheduler_is_left_as_it_was() -> None:
    scheduler = diffusers.UniPCMultistepScheduler(thresholding=True)
    before = copy.deepcopy(vars(scheduler))
    from_scheduler(scheduler, 10)
    assert vars(scheduler).keys() == before.keys()
    for name, value in before.items():
        same = vars(scheduler)[name]
        assert torch.equal(same, value) if isinstance(value, Tensor) else same == value, name


class Bending(diffusers.DDIMScheduler):
    """A scheduler that is linear on unit vectors, and nowhere else."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        out = super().step(*args, **kwargs)
        out.prev_sample = out.prev_sample + 0.1 * (out.prev_sample**2 - out.prev_sample)
        return out


class Adding(diffusers.DDIMScheduler):
    """A scheduler that adds a constant."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        out = super().step(*args, **kwargs)
        out.prev_sample = out.prev_sample + 0.1
        return out


@pytest.mark.parametrize("scheduler", [Bending, Adding])
def test_a_scheduler_that_is_not_linear_is_caught_by_the_run_against_it(scheduler: Any) -> None:
    with pytest.raises(SchedulerError, match="not linear"):
        from_scheduler(scheduler(clip_sample=False), 10)
