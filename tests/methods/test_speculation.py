"""Speculation: the law of the sequential sample, exactly, and no promise about its path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.execution.model_known import rows_beside
from paradigms.methods import speculation
from problems import LINEAR, RULES, seeded
from toy import Mixture

SDES = ["ddpm", "ddpm, clipped", "ddim, eta 0.5"]


def speculate(system: pd.System, B: int, d: int, window: int = 10, model: Mixture | None = None) -> pd.Solution:
    """A batch of samples by speculation."""
    x = system.noise((B, d), seeded(10), dtype=torch.float64)
    return pd.sample(model or Mixture(d=d), system, x, pd.Speculation(), window=window, generator=seeded(11))


def energy_p_value(one: Tensor, two: Tensor, permutations: int = 150) -> float:
    """How often relabelled samples (n, d) lie as far apart as these two sets do. Source: Szekely, Rizzo 2004."""
    n, g = len(one), seeded(0)
    both = torch.cat([one, two]).float()
    apart = torch.cdist(both, both)
    sign = torch.ones(2 * n, 1 + permutations)
    sign[n:] = -1
    for k in range(1, 1 + permutations):
        sign[:, k] = sign[torch.randperm(2 * n, generator=g), 0]
    distance = -(sign * (apart @ sign)).double().sum(0)
    return float((distance >= distance[0]).double().mean())


def p_value(rule: str, window: int) -> float:
    """Of 1500 samples by speculation having the law of 1500 sequential ones from other noise."""
    system = RULES[rule](10)
    x = system.noise((1500, 2), seeded(20), dtype=torch.float64)
    return energy_p_value(
        speculate(system, 1500, 2, window).x, pd.sequential(Mixture(d=2), system, x, generator=seeded(21))
    )


@pytest.mark.parametrize("rule", SDES)
@pytest.mark.parametrize("window", [1, 4, 10])
def test_the_law_is_that_of_sequential_sampling(rule: str, window: int) -> None:
    assert p_value(rule, window) > 0.01


def test_the_test_of_the_law_sees_a_missing_reflection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be vacuous if it accepted a sampler that takes the model's own step where a draft is refused."""
    monkeypatch.setattr(speculation, "mirrored_noise", lambda z, Delta: z)
    for rule in SDES:
        assert p_value(rule, 10) < 0.01, rule


def test_mean_and_variance_of_a_gaussian_are_those_of_its_recurrence() -> None:
    """With one Gaussian D is linear in x, D = mu + g (x - alpha mu), so the chain's own moments are known exactly."""
    system, model, B = pd.ddpm(LINEAR, 20), Mixture(d=1, J=1, width=0.5), 20000
    mu, mean, var = float(model.means[0, 0]), 0.0, 1.0
    for n in range(20):
        a, b, c, alpha, sigma = (float(v[n]) for v in (system.a, system.b[:, 0], system.c, system.alpha, system.sigma))
        g = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)
        mean, var = a * mean + b * (mu + g * (mean - alpha * mu)), (a + b * g) ** 2 * var + c**2
    found = speculate(system, B, 1, 20, model)
    assert float(found.sample_rounds.double().mean()) < 10, "or it accepted so little that this tested nothing"
    assert abs(float(found.x.mean()) - mean) < 4 * (var / B) ** 0.5
    assert abs(float(found.x.var()) - var) < 4 * var * (2 / B) ** 0.5


def test_a_draft_that_is_right_always_stands() -> None:
    """Data at one point: every estimate is it, so only the first row, drafted without one, is refused."""
    system = pd.ddpm(LINEAR, 60)
    solution = speculate(system, 3, 6, 20, Mixture(J=1, width=0.0))
    assert solution.rounds <= 1 + 3 and torch.allclose(solution.x, Mixture(J=1).means.expand(3, 6), atol=1e-6)


def test_rounds_grow_with_the_dimension() -> None:
    """|Delta| is a length over all coordinates: the more of them, the rarer a draft stands."""
    system = pd.ddpm(LINEAR, 60)
    rounds = [float(speculate(system, 20, d, 60).sample_rounds.double().mean()) for d in (2, 32, 512)]
    assert 1.3 * rounds[0] < rounds[1] and 1.3 * rounds[1] < rounds[2] <= 60, rounds


@settings(max_examples=30, deadline=None)
@given(
    rule=st.sampled_from(SDES),
    steps=st.integers(1, 25),
    window=st.integers(1, 30),
    B=st.integers(1, 4),
    d=st.sampled_from([1, 6, 40]),
)
def test_every_round_accepts_a_row_and_the_next_draft_starts_from_what_is_verified(
    rule: str, steps: int, window: int, B: int, d: int
) -> None:
    """Past the rows accepted, states are the rule's steps with the estimate at the last accepted row held fixed."""
    system, model, frames = RULES[rule](steps), Mixture(d=d), []
    x = system.noise((B, d), seeded(0), dtype=torch.float64)
    z = torch.randn(len(system), B, d, generator=seeded(1), dtype=torch.float64)

    def watch(rounds: Any) -> Any:
        for frame in rounds:
            frames.append(frame)
            yield frame

    solution = pd.sample(model, system, x, pd.Speculation(), window=window, noise=z, watch=watch)
    assert solution.converged and solution.rounds <= steps and bool(torch.isfinite(solution.x).all())
    assert model.rows - solution.evaluations == rows_beside(model)
    for f in frames:
        for b in range(B):
            first, stride, size = int(f.begin[b]), int(f.stride[b]), int(f.end[b] - f.begin[b])
            assert (stride > 0) == (size > 0)
            for w in range(stride, size):
                n = first + w
                held = system.a[n] * f.x[w, b] + system.b[n, 0] * f.D[stride - 1, b] + system.c[n] * z[n, b]
                assert torch.allclose(f.x[w + 1, b], held, atol=1e-9)


def test_a_sample_does_not_depend_on_those_that_follow_it() -> None:
    system = pd.ddpm(LINEAR, 60)
    x = system.noise((5, 6), seeded(0), dtype=torch.float64)
    many, few = (
        pd.sample(Mixture(), system, x[:B], pd.Speculation(), window=20, generator=[seeded(b) for b in range(B)])
        for B in (5, 2)
    )
    assert torch.allclose(many.x[:2], few.x, rtol=0, atol=1e-12)
    assert torch.equal(many.sample_rounds[:2], few.sample_rounds)
    assert len(set(many.sample_rounds.tolist())) > 1, "or they all went in step"


@pytest.mark.parametrize("tolerance", [0.0, 0.003])
def test_no_tolerance_is_said_to_bound_another_sample_of_the_same_law(tolerance: float) -> None:
    system = pd.ddpm(LINEAR, 60)
    x = system.noise((5, 6), seeded(0), dtype=torch.float64)
    solution = pd.sample(Mixture(), system, x, pd.Speculation(), tolerance=tolerance, generator=seeded(1), compare=True)
    assert solution.tolerance is None and (solution.max_error or 0) > 0.01
    assert solution.converged and "\ntolerance" not in repr(solution)


def test_another_seed_is_another_sample_of_the_same_noise() -> None:
    system = pd.ddpm(LINEAR, 60)
    x = system.noise((5, 6), seeded(0), dtype=torch.float64)
    one, same, other = (pd.sample(Mixture(), system, x, pd.Speculation(seed=s), generator=seeded(1)) for s in (0, 0, 1))
    assert torch.equal(one.x, same.x) and not torch.allclose(one.x, other.x)


@pytest.mark.parametrize("rule", ["ddim", "flow", "dpmsolver"])
def test_a_rule_without_noise_is_refused(rule: str) -> None:
    system = RULES[rule](10)
    with pytest.raises(ValueError, match=r"needed: one tap and noise in every row"):
        pd.sample(Mixture(), system, system.noise((2, 6), seeded(0)), pd.Speculation())
