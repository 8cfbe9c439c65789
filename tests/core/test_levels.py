"""Samplers on noise levels that are given one by one equal the equations and libraries they are of, to 1e-6.

k-diffusion's and smalldiffusion's loops are written out as their papers have them; diffusers' schedulers are run.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.rules.level_rules import adams_bashforth
from toy import Mixture

F64 = torch.float64
KARRAS = torch.cat([pd.schedule.karras_ratios(0.03, 20.0, 12), torch.zeros(1, dtype=F64)])
SHAPE = (3, 6)
DATA = Mixture()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def denoise(x: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """E[data | x] of the mixture, x (M, d), one level or one a row."""
    a, s = (torch.as_tensor(v, dtype=x.dtype).expand(len(x))[:, None] for v in (alpha, sigma))
    return DATA.denoise(x, a, s)


def edm_like(x: Tensor, sigma: Tensor) -> Tensor:
    """A denoiser of states data + sigma noise."""
    return denoise(x, 1.0, sigma)


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def noise(system: pd.System, seed: int = 1) -> Tensor:
    """z (N, B, d) as `sequential` draws it from that seed, zeros where a row draws none."""
    g = seeded(seed)
    return torch.stack([torch.randn(SHAPE, generator=g, dtype=F64) if d else torch.zeros(SHAPE, dtype=F64)
                        for d in system.drawn])  # fmt: skip


# ------------------------------------------------------------------------------------------ k-diffusion, written out


def k_euler(x: Tensor, s: Tensor) -> Tensor:
    for now, after in pairwise(s):
        x = x + (x - edm_like(x, now)) / now * (after - now)
    return x


def k_ancestral(x: Tensor, s: Tensor, z: Tensor, eta: float) -> Tensor:
    for n, (now, after) in enumerate(pairwise(s)):
        up = min(after, eta * (after**2 * (now**2 - after**2) / now**2) ** 0.5)
        down = (after**2 - up**2) ** 0.5
        x = x + (x - edm_like(x, now)) / now * (down - now) + z[n] * up
    return x


def k_heun(x: Tensor, s: Tensor) -> Tensor:
    for now, after in pairwise(s):
        d = (x - edm_like(x, now)) / now
        moved = x + d * (after - now)
        x = moved if after == 0 else x + (d + (moved - edm_like(moved, after)) / after) / 2 * (after - now)
    return x


def k_2m(x: Tensor, s: Tensor) -> Tensor:
    old = None
    for n, (now, after) in enumerate(pairwise(s)):
        D, h = edm_like(x, now), (now / after).log()
        mixed = D
        if old is not None and after > 0:
            r = (s[n - 1] / now).log() / h
            mixed = (1 + 1 / (2 * r)) * D - 1 / (2 * r) * old
        x, old = after / now * x - torch.expm1(-h) * mixed, D
    return x


def k_lms(x: Tensor, s: Tensor, order: int = 4) -> Tensor:
    ds: list[Tensor] = []
    for n in range(len(s) - 1):
        ds = [*ds, (x - edm_like(x, s[n])) / s[n]][-order:]
        for j, d in enumerate(reversed(ds)):
            others = [s[n - k] for k in range(len(ds)) if k != j]
            at = torch.linspace(float(s[n]), float(s[n + 1]), 2001, dtype=F64)
            poly = torch.ones_like(at)
            for other in others:
                poly = poly * (at - other) / (s[n - j] - other)
            simpson = (poly[0] + 4 * poly[1::2].sum() + 2 * poly[2:-1:2].sum() + poly[-1]) * (at[1] - at[0]) / 3
            x = x + simpson * d
    return x


def small(x: Tensor, s: Tensor, z: Tensor, gamma: float, mu: float) -> Tensor:
    """smalldiffusion's `samples`: gamma 1, mu 0 is DDIM, gamma 1, mu 1/2 DDPM, gamma 2, mu 0 the accelerated one."""
    eps = None
    for n, (now, after) in enumerate(pairwise(s)):
        before, eps = eps, (x - edm_like(x, now)) / now
        mixed = eps if before is None else gamma * eps + (1 - gamma) * before
        to = (after / now**mu) ** (1 / (1 - mu))
        x = x - (now - to) * mixed + (after**2 - to**2).sqrt() * z[n]
    return x


@pytest.mark.parametrize("last", [0.0, 0.01])
@pytest.mark.parametrize("rule", ["euler", "ancestral", "2m", "heun", "lms", "gamma", "gamma, noisy"])
def test_a_chain_of_exploding_levels_equals_k_diffusions_equations(rule: str, last: float) -> None:
    s = KARRAS.clone()
    s[-1] = last
    told = s if rule == "heun" and last else s[:-1]
    how = {
        "euler": {}, "ancestral": {"eta": 0.8}, "2m": {"rule": "dpmsolver"}, "heun": {"rule": "heun"},
        "lms": {"rule": "lms"}, "gamma": {"rule": "gamma"}, "gamma, noisy": {"rule": "gamma", "gamma": 1.0, "mu": 0.5},
    }[rule]  # fmt: skip
    system = pd.from_levels(told, 1.0, s, prediction="x0", **how)
    x, z = system.noise(SHAPE, seeded(0), dtype=F64), noise(system)
    wanted = {
        "euler": lambda: k_euler(x, s), "ancestral": lambda: k_ancestral(x, s, z, 0.8), "2m": lambda: k_2m(x, s),
        "heun": lambda: k_heun(x, s), "lms": lambda: k_lms(x, s), "gamma": lambda: small(x, s, z, 2.0, 0.0),
        "gamma, noisy": lambda: small(x, s, z, 1.0, 0.5),
    }[rule]()  # fmt: skip
    assert off(pd.sequential(edm_like, system, x, generator=seeded(1)), wanted) < 1e-9
    found = pd.sample(edm_like, system, x, window=8, tolerance=0, generator=seeded(1))
    assert off(found.x, wanted) < 1e-9


@pytest.mark.parametrize("rule", ["lms", "gamma"])
def test_rules_of_epsilons_take_fewer_rounds_than_steps(rule: str) -> None:
    s = torch.cat([pd.schedule.karras_ratios(0.03, 20.0, 60), torch.zeros(1, dtype=F64)])
    system = pd.from_levels(None, 1.0, s, rule, prediction="x0")
    x = system.noise(SHAPE, seeded(0), dtype=F64)
    found = pd.sample(edm_like, system, x, window=16, tolerance=0.003, compare=True)
    assert found.rounds < 40 and found.max_error is not None and found.max_error < 0.01


def test_an_epsilon_model_says_the_same_to_rules_of_epsilons() -> None:
    def says(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - edm_like(x, sigma)) / sigma[:, None]

    for rule in ("lms", "gamma"):
        one, other = (pd.from_levels(None, 1.0, KARRAS, rule, prediction=p) for p in ("x0", "epsilon"))
        x = one.noise(SHAPE, seeded(0), dtype=F64)
        assert off(pd.sequential(says, other, x), pd.sequential(edm_like, one, x)) < 1e-12


@settings(max_examples=20, deadline=None)
@given(order=st.integers(1, 5), seed=st.integers(0, 999))
def test_adams_bashforth_integrates_polynomials_of_its_order_exactly(order: int, seed: int) -> None:
    s = (torch.rand(9, generator=seeded(seed), dtype=F64) + 0.05).cumsum(0).flip(0)
    w = adams_bashforth(s, order)
    for n in range(order - 1, 8):
        for power in range(order):
            exact = (s[n + 1] ** (power + 1) - s[n] ** (power + 1)) / (power + 1)
            assert float((w[n] * s[n - order + 1 : n + 1].flip(0) ** power).sum() - exact) == pytest.approx(0, abs=1e-7)


# ------------------------------------------------------------------------------------------ diffusers


def by_diffusers(scheduler, model: Callable, x: Tensor) -> Tensor:
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(model(shown, t.to(x).expand(len(x))), t, x, return_dict=False)[0]
    return x


def test_euler_discrete_equals_diffusers() -> None:
    schedule, scheduler = pd.scaled_linear(), diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, use_karras_sigmas=True
    )  # fmt: skip
    scheduler.set_timesteps(20)
    scheduler.sigmas = scheduler.sigmas.double()
    s = scheduler.sigmas
    into = (1 + s[:-1] ** 2).rsqrt()

    def model(x: Tensor, t: Tensor) -> Tensor:
        low = t.double().floor().long().clamp(max=998)
        r = torch.lerp(schedule.ratio[low], schedule.ratio[low + 1], t.double() - low).to(x)[:, None]
        return (x - (1 + r**2).rsqrt() * DATA.denoise(x, (1 + r**2).rsqrt(), r * (1 + r**2).rsqrt())) / (
            r * (1 + r**2).rsqrt()
        )

    system = pd.from_levels(scheduler.timesteps.double(), 1.0, s, into=into)
    x = system.noise(SHAPE, seeded(0), dtype=F64)
    assert off(pd.sequential(model, system, x), by_diffusers(scheduler, model, x)) < 1e-6


@pytest.mark.parametrize("solver", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_edm_equals_diffusers(solver: str) -> None:
    scheduler = getattr(diffusers, solver)(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(18)
    scheduler.sigmas = scheduler.sigmas.double()

    def network(x: Tensor, t: Tensor) -> Tensor:
        """F of the exact denoiser: what the preconditioning makes of it is that denoiser."""
        s = (4 * t.to(x)).exp()[:, None]
        total = (s**2 + 0.25).sqrt()
        state = x * total
        return (DATA.denoise(state, torch.ones_like(s), s) - 0.25 / total**2 * state) / (s * 0.5 / total)

    system = pd.edm(18, rule="ddim" if "Euler" in solver else "dpmsolver")
    x = system.noise(SHAPE, seeded(0), dtype=F64)
    assert off(pd.sequential(network, system, x), by_diffusers(scheduler, network, x)) < 1e-6


def test_edm_is_karras_algorithm_1() -> None:
    system = pd.edm(12, sigma_min=0.03, sigma_max=20.0, prediction="x0")
    x = system.noise(SHAPE, seeded(0), dtype=F64)
    assert len(system) == 23 and system.start == pytest.approx(20.0)
    assert off(pd.sequential(edm_like, system, x), k_heun(x, KARRAS)) < 1e-9


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """noise - data of states (1 - t) data + t noise."""
    t = t.to(x)[:, None]
    return (x - DATA.denoise(x, 1 - t, t)) / t.clamp(min=1e-9)


def towards_data(x: Tensor, t: Tensor) -> Tensor:
    """data - noise of states t data + (1 - t) noise."""
    return -velocity(x, 1 - t)


GRIDS = {
    "robotics": torch.linspace(1, 0, 11, dtype=F64),
    "diffusers": torch.cat([torch.linspace(1, 0.001, 10, dtype=F64), torch.zeros(1, dtype=F64)]),
    "uneven": torch.tensor([1.0, 0.9, 0.5, 0.45, 0.2, 0.0], dtype=F64),
    "stops early": torch.linspace(1, 0.05, 8, dtype=F64),
}


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_euler_equals_a_loop_on_any_grid_in_either_direction(grid: str, rising: bool) -> None:
    times = 1 - GRIDS[grid] if rising else GRIDS[grid]
    model = towards_data if rising else velocity
    system = pd.euler(times)
    x = wanted = system.noise(SHAPE, seeded(0), dtype=F64)
    for now, after in pairwise(times):
        wanted = wanted + (after - now) * model(wanted, now.expand(len(x)))
    assert off(pd.sequential(model, system, x), wanted) < 1e-9
    assert off(pd.sample(model, system, x, window=4, tolerance=0).x, wanted) < 1e-9


def test_euler_on_diffusers_grid_equals_flow_and_its_scheduler() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    scheduler.sigmas = scheduler.sigmas.double()
    system = pd.euler(torch.cat([scheduler.timesteps.double() / 1000, torch.zeros(1, dtype=F64)]), scale=1000)
    x = system.noise(SHAPE, seeded(0), dtype=F64)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return velocity(x, t / 1000)

    found = pd.sequential(model, system, x)
    assert off(found, pd.sequential(model, pd.flow(10), x)) < 1e-6
    assert off(found, by_diffusers(scheduler, model, x)) < 1e-6


# ------------------------------------------------------------------------------------------ preserving levels


@pytest.mark.parametrize("rule", ["ddim", "ddpm", "dpmsolver"])
def test_the_levels_of_a_rule_give_the_rule(rule: str) -> None:
    known = {"ddim": pd.ddim, "ddpm": pd.ddpm, "dpmsolver": pd.dpmsolver}[rule](pd.linear(), 20)
    end = torch.cat([known.alpha, torch.ones(1, dtype=F64)]), torch.cat([known.sigma, torch.zeros(1, dtype=F64)])
    system = pd.from_levels(known.t, *end, rule)
    x = known.noise(SHAPE, seeded(0), dtype=F64)
    assert system.t.dtype == known.t.dtype and system.start == 1.0
    ours, theirs = (pd.sequential(DATA, s, x, generator=seeded(1)) for s in (system, known))
    assert off(ours, theirs) < 1e-9


def test_heun_on_preserving_levels_is_heun_of_states_over_alpha() -> None:
    known = pd.heun(pd.linear(), 20)
    ratio = torch.cat([known.sigma[::2], torch.zeros(1, dtype=F64)])  # of the levels, each of which has two rows
    alpha = (1 + ratio**2).rsqrt()
    system = pd.from_levels(torch.cat([known.t[:1], known.t[1::2]]), alpha, ratio * alpha, "heun")
    x = known.noise(SHAPE, seeded(0), dtype=F64)
    ours, theirs = pd.sequential(DATA, system, x * alpha[0]), pd.sequential(DATA, known, x)
    assert off(ours, theirs) < 1e-9


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_a_rederiving_clip_is_denoising_diffusion_pytorchs(eta: float) -> None:
    level = pd.linear().alpha ** 2
    times = [*torch.linspace(-1, 999, 11).int().flip(0).tolist()]
    acp = torch.tensor([float(level[t]) if t >= 0 else 1.0 for t in times], dtype=F64)
    system = pd.from_levels(torch.tensor(times[:-1]), acp.sqrt(), (1 - acp).sqrt(), eta=eta, clip="rederive")

    def model(x: Tensor, t: Tensor) -> Tensor:
        return 1.3 * DATA(x, t)  # so that the clip acts

    x = wanted = system.noise(SHAPE, seeded(0), dtype=F64)
    z = noise(system)
    for n, (now, after) in enumerate(pairwise(acp)):
        m = model(wanted, torch.full((3,), times[n]))
        data = ((wanted - (1 - now).sqrt() * m) / now.sqrt()).clamp(-1, 1)
        eps = (wanted - now.sqrt() * data) / (1 - now).sqrt()
        sigma = eta * ((1 - now / after) * (1 - after) / (1 - now)).sqrt()
        wanted = data * after.sqrt() + (1 - after - sigma**2).clamp(min=0).sqrt() * eps + sigma * z[n]
    assert off(pd.sequential(model, system, x, generator=seeded(1)), wanted) < 1e-9
    free = pd.from_levels(torch.tensor(times[:-1]), acp.sqrt(), (1 - acp).sqrt(), eta=eta)
    assert off(pd.sequential(model, free, x, generator=seeded(1)), wanted) > 0.01, "the clip never acted"
    one, other = pd.ddim(pd.linear(), 20, clip="rederive"), pd.ddim(pd.linear(), 20, clip=1.0)
    assert off(pd.sequential(model, one, x), pd.sequential(model, other, x)) > 1e-3


@settings(max_examples=40, deadline=None)
@given(
    rule=st.sampled_from(["ddim", "ddpm", "dpmsolver", "heun", "lms", "gamma"]),
    scale=st.sampled_from(["exploding", "preserving", "flow", "any"]),
    N=st.integers(1, 12), window=st.integers(1, 9), last=st.booleans(), seed=st.integers(0, 9999),
)  # fmt: skip
def test_on_random_levels_parallel_is_sequential(
    rule: str, scale: str, N: int, window: int, last: bool, seed: int
) -> None:
    ratio = torch.rand(N + 1, generator=seeded(seed), dtype=F64).add(0.1).cumsum(0).flip(0)
    ratio[-1] *= float(last)
    alpha = {
        "exploding": torch.ones_like(ratio), "preserving": (1 + ratio**2).rsqrt(), "flow": 1 / (1 + ratio),
        "any": torch.rand(N + 1, generator=seeded(seed + 1), dtype=F64) + 0.5,
    }[scale]  # fmt: skip

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x * torch.arange(1.0, 7.0, dtype=F64) / 3 + t[:, None])

    told = torch.rand(N + 1, generator=seeded(seed + 2), dtype=F64)
    system = pd.from_levels(told, alpha, alpha * ratio, rule, prediction="x0")
    x = system.noise(SHAPE, seeded(seed), dtype=F64)
    wanted = pd.sequential(model, system, x, generator=seeded(1))
    found = pd.sample(model, system, x, window=window, tolerance=0, generator=seeded(1)).x
    assert bool(torch.isfinite(wanted).all()) and off(found, wanted) < 1e-7


# ------------------------------------------------------------------------------------------ what the model is told


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_fractional_time_is_told_in_the_states_dtype_and_a_whole_one_stays_whole(dtype: torch.dtype) -> None:
    seen: set[torch.dtype] = set()

    def model(x: Tensor, t: Tensor) -> Tensor:
        seen.add(t.dtype)
        return torch.zeros_like(x)

    x = torch.randn(2, 6, generator=seeded(0)).to(dtype)
    pd.sequential(model, pd.euler(torch.linspace(1, 0, 4)), x)
    assert seen == {torch.promote_types(dtype, torch.float32)}
    seen.clear()
    pd.sequential(model, pd.from_levels(torch.tensor([3, 2]), 1.0, torch.tensor([2.0, 1.0, 0.0])), x)
    assert seen == {torch.int64}


# ------------------------------------------------------------------------------------------ refusals


REFUSED = {
    "noise that grows": (lambda: pd.from_levels(None, 1.0, torch.tensor([0.1, 1.0, 2.0])), "flip"),
    "levels that begin with 0": (lambda: pd.from_levels(None, 1.0, torch.tensor([0.0, 1.0, 2.0])), "flip"),
    "levels that disagree": (lambda: pd.from_levels(None, torch.ones(3), torch.tensor([1.0, 0.0])), "N \\+ 1"),
    "times that disagree": (lambda: pd.from_levels(torch.zeros(5), 1.0, torch.tensor([1.0, 0.0])), "^t: given"),
    "an unknown rule": (lambda: pd.from_levels(None, 1.0, torch.tensor([1.0, 0.0]), "ddmi"), "type 'ddpm'"),
    "eta of another rule": (lambda: pd.from_levels(None, 1.0, torch.tensor([1.0, 0.0]), "heun", eta=1), "eta"),
    "a clip of epsilons": (lambda: pd.from_levels(None, 1.0, torch.tensor([1.0, 0.0]), "lms", clip=1.0), "clip"),
    "a clip unheard of": (lambda: pd.from_levels(None, 1.0, torch.tensor([1.0, 0.0]), clip="redrive"), "rederive"),
    "heun without its last time": (
        lambda: pd.from_levels(torch.ones(1), 1.0, torch.tensor([1.0, 0.5]), "heun"), r"\(2,\)"),
    "an epsilon without signal": (lambda: pd.euler(torch.linspace(1, 0, 4), prediction="epsilon"), "zero SNR"),
    "times that turn": (lambda: pd.euler(torch.tensor([1.0, 0.5, 0.7])), "fall from 1"),
    "times that count": (lambda: pd.euler(torch.linspace(1000, 0, 5)), "scale=T"),
    "times of numpy": (lambda: pd.euler(torch.linspace(1, 0, 5).numpy()), "from_numpy"),
    "levels out of order": (lambda: pd.edm(5, sigma_min=80.0, sigma_max=0.002), "sigma_min"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_levels_that_are_none_are_refused(case: str) -> None:
    make, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        make()


# ------------------------------------------------------------------------------------------ directions


def two_modes(x: Tensor, t: Tensor, apart: float = 1.0) -> Tensor:
    """noise - data of data near (-1, 1, ..) and (1, -1, ..), 0.1 wide, at t noise."""
    t = t.to(x).clamp(1e-3, 1)[:, None]
    thin = Mixture()
    thin.width, thin.means = 0.1, apart * torch.tensor([[-1.0, 1, -1, 1, -1, 1], [1, -1, 1, -1, 1, -1]], dtype=F64)
    return (x - thin.denoise(x, 1 - t, t)) / t


def gaussian(x: Tensor, t: Tensor, wide: float) -> Tensor:
    """noise - data of Gaussian data, so wide, at t noise."""
    v = wide**2
    return ((t - v * (1 - t)) / (t**2 + v * (1 - t) ** 2))[:, None] * x


UNTRAINED = torch.nn.Linear(6, 6, dtype=F64)
RIGHT = {
    "noise at 1, noise - data": (two_modes, pd.euler(torch.linspace(1, 0, 21))),
    "data at 1, data - noise": (lambda x, t: -two_modes(x, 1 - t), pd.euler(torch.linspace(0, 1, 21))),
    "timesteps": (lambda x, t: two_modes(x, t / 1000), pd.flow(20)),
    "not trained": (lambda x, t: UNTRAINED(x), pd.flow(20)),
    "a mixture": (velocity, pd.euler(torch.linspace(1, 0, 21))),
    "modes far apart": (lambda x, t: two_modes(x, t, 4.0), pd.euler(torch.linspace(1, 0, 21))),
    "a Gaussian 2.4 wide": (lambda x, t: gaussian(x, t, 2.4), pd.euler(torch.linspace(1, 0, 21))),
    "a Gaussian 10 wide": (lambda x, t: gaussian(x, t, 10.0), pd.euler(torch.linspace(1, 0, 21))),
    "a wide Gaussian, data at 1": (lambda x, t: -gaussian(x, 1 - t, 4.0), pd.euler(torch.linspace(0, 1, 21))),
}  # fmt: skip
WRONG = {
    "the other sign, falling": (lambda x, t: -two_modes(x, t), pd.euler(torch.linspace(1, 0, 21)), "flow_to_data"),
    "the other sign, rising": (lambda x, t: two_modes(x, 1 - t), pd.euler(torch.linspace(0, 1, 21)), "'flow'"),
    "the other sign, in timesteps": (lambda x, t: -two_modes(x, t / 1000), pd.flow(20), "flow_to_data"),
    "times in [0, 1]": (lambda x, t: two_modes(x, t) / t.clamp(min=1)[:, None], pd.flow(20), "scale=1"),
    "timesteps wanted": (lambda x, t: two_modes(x, t / 1000) * (t > 2)[:, None], pd.euler(torch.linspace(1, 0, 21)),
                         "scale=1000"),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_a_velocity_of_the_right_direction_is_let_alone(case: str) -> None:
    model, system = RIGHT[case]
    torch.nn.init.normal_(UNTRAINED.weight, generator=seeded(0))
    x = system.noise(SHAPE, seeded(0), dtype=F64)
    pd.sample(model, system, x, window=8)
    pd.sequential(model, system, x)


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("solve", [pd.sample, pd.sequential])
def test_a_velocity_of_the_wrong_direction_is_refused_by_name(case: str, solve: Callable) -> None:
    model, system, said = WRONG[case]
    with pytest.raises(ValueError, match=said):
        solve(lambda x, t: model(x, t), system, system.noise(SHAPE, seeded(0), dtype=F64))


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("N", [8, 20, 100])
@pytest.mark.parametrize("flow", [lambda x, t: two_modes(x, t), lambda x, t: velocity(x, t.clamp(1e-3, 0.999))])
def test_data_where_the_chain_begins_are_warned_of(flow: Callable, N: int, rising: bool) -> None:
    system = pd.euler(torch.linspace(0, 1, N + 1) if rising else torch.linspace(1, 0, N + 1))
    model = (lambda x, t: flow(x, t)) if rising else (lambda x, t: -flow(x, 1 - t))
    with pytest.warns(pd.DirectionWarning, match=r"linspace\(1, 0" if rising else r"linspace\(0, 1"):
        pd.sequential(model, system, system.noise(SHAPE, seeded(0), dtype=F64))


def test_a_direction_is_looked_at_once_for_a_model_and_in_no_count() -> None:
    rows: list[int] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        rows.append(len(x))
        return two_modes(x, t)

    system = pd.euler(torch.linspace(1, 0, 21))
    x = system.noise(SHAPE, seeded(0), dtype=F64)
    pd.sequential(model, system, x)
    asked = sum(rows) - 60
    found = pd.sample(model, system, x, window=1)
    assert asked == 2 * 2 * 11 and sum(rows) == 60 + asked + found.evaluations
