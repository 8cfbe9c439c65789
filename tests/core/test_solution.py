"""A solution that tells the truth: its verification is checked against algebra, its errors against sequential."""

from __future__ import annotations

import math

import pytest
import torch

import paradigms as pd
from paradigms.execution.evaluate import Evaluator
from paradigms.noise import Noise
from paradigms.window.verify import verify_trajectory
from problems import LINEAR, METHODS, RULES, seeded, solve, start
from toy import Mixture


def test_verification_of_the_sequential_trajectory_finds_nothing() -> None:
    for rule in ("ddpm", "dpmsolver", "heun"):
        solution = solve(RULES[rule](30), tolerance=0.0, verify=True)
        assert solution.verification is not None
        assert float(solution.verification.residual.max()) < 1e-9


def test_the_bound_is_the_sum_of_the_rows_gaussian_mean_shifts() -> None:
    """Shift one state of an exact trajectory: two rows miss their step by a known vector, and the bound says so."""
    system, model = pd.ddpm(LINEAR, 20).to("cpu", torch.float64), Mixture()
    x = start(system, 1)
    evaluate = Evaluator(model, system)
    states, n0 = [x], torch.zeros(1, dtype=torch.long)
    noise = torch.randn(20, 1, 6, generator=seeded(3), dtype=torch.float64)
    for n in range(20):
        D = evaluate(states[-1], n0 + n, n0)
        states.append(system.step(states[-1][None], torch.stack([D, D]), noise[n][None], (n0 + n)[None])[0])
    path = torch.stack(states)
    shift = torch.full((6,), 1e-3, dtype=torch.float64)
    path[8] += shift
    _, found = verify_trajectory(evaluate, path, Noise(system, x, None, noise), window=7)
    # row 7 ends a shift away from its own step; row 8 starts from the shifted state
    d8 = evaluate(path[8], n0 + 8, n0)
    after = system.step(path[8][None], torch.stack([d8, d8]), noise[8][None], (n0 + 8)[None])[0]
    tv = sum(
        math.erf(float(r.norm()) / (2 * math.sqrt(2) * float(system.c[n])))
        for n, r in ((7, shift), (8, after[0] - path[9, 0]))
    )
    assert float(found.tv_bound) == pytest.approx(tv, rel=1e-6)
    assert float(found.residual) == pytest.approx(
        max(1e-3 / float(system.std[7]), float((after - path[9]).norm()) / math.sqrt(6) / float(system.std[8])),
        rel=1e-6,
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_bound_falls_with_the_tolerance_and_is_one_at_most(method: pd.AbstractMethod) -> None:
    system = pd.ddpm(LINEAR, 60)
    bounds = []
    for tolerance in (1.0, 0.1, 0.01, 0.001, 0.0):
        found = solve(system, method, window=16, tolerance=pd.StepNoise(tolerance), verify=True).verification
        assert found is not None
        bounds.append(float(found.tv_bound.max()))
    assert all(0 <= b <= 1 for b in bounds) and bounds[-1] < 1e-8 < bounds[0] and bounds == sorted(bounds, reverse=True)


def test_the_bound_holds_for_a_chain_whose_law_is_known() -> None:
    """One Gaussian: the sampled law is a Gaussian, so the true distance over many samples can be estimated."""
    model = Mixture(d=1, J=1, width=0.5)
    system = pd.ddpm(LINEAR, 30)
    x = torch.randn(4000, 1, generator=seeded(0), dtype=torch.float64)
    solution = pd.sample(model, system, x, window=8, tolerance=0.3, generator=seeded(1), verify=True, compare=True)
    assert solution.verification is not None and solution.comparison is not None
    edges = torch.linspace(-2, 2, 9, dtype=torch.float64) + float(model.means)
    ours, theirs = (
        torch.histc(v, 8, float(edges[0]), float(edges[-1])) / 4000 for v in (solution.x, solution.comparison.x)
    )
    assert float((ours - theirs).abs().sum() / 2) <= float(solution.verification.tv_bound.mean())


def test_a_rule_without_noise_has_no_such_bound() -> None:
    found = solve(pd.ddim(LINEAR, 20), verify=True).verification
    assert found is not None and bool(found.tv_bound.isnan().all()) and bool(torch.isfinite(found.residual).all())


def test_errors_are_those_against_sequential_on_the_same_noise() -> None:
    system = pd.ddpm(LINEAR, 40)
    x = start(system, 5)
    solution = pd.sample(Mixture(), system, x, tolerance=0.5, window=32, generator=seeded(1), compare=True)
    reference = pd.sequential(Mixture(), system, x, generator=seeded(1))
    error = (solution.x - reference).norm(dim=1) / reference.norm(dim=1)
    assert solution.error is not None and torch.allclose(solution.error, error)
    assert solution.max_error == pytest.approx(float(error.max())) and solution.max_error > 0
    assert solution.median_error == pytest.approx(float(error.median()))


def test_nothing_is_claimed_that_was_not_asked_for() -> None:
    system = pd.ddpm(LINEAR, 10)
    solution = pd.sample(Mixture(), system, start(system), generator=seeded(1))
    assert solution.error is None and solution.max_error is None and solution.median_error is None
    assert solution.verification is None and solution.status == ("converged",) * 3


def test_the_residual_is_rounding_at_tolerance_zero_and_at_most_the_change_that_was_allowed() -> None:
    system = pd.ddpm(LINEAR, 60)
    assert float(solve(system, tolerance=0.0).residual.max()) < 1e-8
    for tolerance in (0.01, 0.1):
        residual = solve(system, pd.Picard(), window=20, tolerance=pd.StepNoise(tolerance)).residual
        # Picard moves a state by what its input moved: allowed up to tolerance in the input's own unit
        ratio = float((system.std[:-1] / system.std[1:]).max())
        assert 0 < float(residual.max()) <= tolerance * ratio * (1 + 1e-9)


def test_a_solution_prints_as_two_lines() -> None:
    """What it took, and what is known of the error; no tensors; an unfinished one says where it stopped."""
    done = solve(RULES["ddpm"](30), tolerance=0.003)
    lines = str(done).splitlines()
    assert len(lines) == 2 and repr(done) == str(done) and "tensor(" not in str(done)
    assert lines[0].startswith(f"3 samples in 30 steps: {done.rounds} rounds, {done.evaluations} evaluations, ")
    assert f"{done.speedup:.2f} times as fast as stepping (measured)" in lines[0]
    assert lines[1].startswith("converged, relative error estimated at") and ", tolerance 0.003" in lines[1]
    assert f"error against the sequential sample {done.max_error:.2g} at most" in lines[1]
    stepping = pd.sample(Mixture(), RULES["ddpm"](30), start(RULES["ddpm"](30)), window=1)
    assert str(stepping).splitlines()[0].endswith("stepped one by one, because window=1 was given")
    stopped = solve(RULES["ddpm"](30), tolerance=0.003, max_rounds=1)
    assert f"sample 0: {stopped.status[0]}" in str(stopped) and "of 30" in stopped.status[0]
