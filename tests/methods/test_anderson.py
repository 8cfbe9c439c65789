"""The frozen carry and its Anderson acceleration, each against loops and algebra that do not use them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.methods.anderson import mixing_weights
from paradigms.methods.scan import recur_rows
from problems import LINEAR, RULES, seeded, solve, start
from toy import Mixture


@settings(max_examples=30, deadline=None)
@given(K=st.integers(1, 3), W=st.integers(1, 40), B=st.integers(1, 3), full=st.booleans(), seed=st.integers(0, 99))
def test_the_recurrence_of_several_taps_is_the_loop_it_replaces(K: int, W: int, B: int, full: bool, seed: int) -> None:
    P = torch.randn((K, W, B) + (4,) * full, generator=seeded(seed), dtype=torch.float64)
    P = P / P.abs().sum(0).clamp(min=1)  # a recurrence that does not grow
    r = torch.randn(W, B, 4, generator=seeded(seed + 1), dtype=torch.float64)
    loop: list[Tensor] = []
    for n in range(W):
        past = sum(P[k, n].reshape(B, -1) * loop[n - 1 - k] for k in range(min(K, n)))
        loop.append(past + r[n])
    assert torch.allclose(recur_rows(r, P), torch.stack(loop), atol=1e-12)


def test_one_sweep_is_the_ddim_chain_with_its_noise_directions_frozen() -> None:
    """x' = (alpha'/alpha) x + (sigma' - sigma alpha'/alpha) eps, eps being what the model said of the old states."""
    N, system, model = 12, pd.ddim(LINEAR, 12), Mixture()
    x = start(system, 2)
    old = x + torch.randn(N + 1, 2, 6, generator=seeded(3), dtype=torch.float64)  # any states will do
    old[0] = x
    frames = pd.iterate(model, system, x, pd.ExponentialPicard(_Given(old)), window=N)
    frame, state = next(iter(frames)), x
    for n in range(N):
        t, end = int(system.t[n]), n == N - 1
        alpha, sigma = float(LINEAR.alpha[t]), float(LINEAR.sigma[t])
        after, left = (1.0, 0.0) if end else (float(v[int(system.t[n + 1])]) for v in (LINEAR.alpha, LINEAR.sigma))
        eps = model(old[n], system.t[n].expand(2))
        state = after / alpha * state + (left - sigma * after / alpha) * eps
        assert torch.allclose(frame.x[n + 1], state, atol=1e-10)


def test_variance_zero_is_the_chain_with_its_denoised_estimates_frozen() -> None:
    N, system, model = 12, pd.ddpm(LINEAR, 12), Mixture()
    x, z = start(system, 2), torch.randn(12, 2, 6, generator=seeded(1), dtype=torch.float64)
    frames = pd.iterate(model, system, x, pd.ExponentialPicard(variance=0.0), window=N, noise=z)
    frame, state = next(iter(frames)), x
    for n in range(N):
        t = system.t[n].expand(2)
        alpha, sigma = (v[int(system.t[n])] for v in (LINEAR.alpha, LINEAR.sigma))
        denoised = (x - sigma * model(x, t)) / alpha  # every state of the copied guess is x
        state = system.a[n] * state + system.b[n, 0] * denoised + system.c[n] * z[n]
        assert torch.allclose(frame.x[n + 1], state, atol=1e-10)


@pytest.mark.parametrize("rule", ["ddim", "dpmsolver", "dpmsolver_single"])
@pytest.mark.parametrize("variance", [0.5, 3.0])
def test_the_carry_of_gaussian_data_solves_gaussian_data_in_one_sweep(rule: str, variance: float) -> None:
    """Newton's method on a linear model, whatever the taps: one sweep lands, and the next finds nothing to move."""
    system = RULES[rule](15)
    model = Mixture(J=1, width=variance**0.5)
    frames = pd.iterate(model, system, start(system), pd.ExponentialPicard(variance=variance), window=len(system))
    exact = pd.sequential(model, system, start(system))
    assert torch.allclose(next(iter(frames)).x[-1], exact, atol=1e-10)
    assert solve(system, pd.ExponentialPicard(variance=variance), model, window=40, tolerance=1e-9).rounds == 2


@pytest.mark.parametrize("rule", sorted(RULES))
def test_anderson_of_no_depth_or_history_is_the_plain_carry(rule: str) -> None:
    system = RULES[rule](14)
    how: dict[str, Any] = {"window": 8, "tolerance": 0.01}
    for variance in (1.0, math.inf):
        plain = pd.ExponentialPicard(pd.Copy(), variance=variance)
        flat = pd.Anderson(pd.Copy(), depth=0, variance=variance)
        assert torch.equal(solve(system, flat, **how).x, solve(system, plain, **how).x)
        first = [_frames(system, m, 1)[0].x for m in (plain, pd.Anderson(pd.Copy(), variance=variance))]
        assert torch.equal(*first), "the first sweep has no history to look at"
        second = [_frames(system, m, 2)[1].x for m in (plain, pd.Anderson(pd.Copy(), variance=variance))]
        assert not torch.equal(*second), "the second has"


@settings(max_examples=40, deadline=None)
@given(W=st.integers(1, 12), B=st.integers(1, 3), m=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_weights_of_a_row_are_ridge_regression_on_the_rows_up_to_it(W: int, B: int, m: int, seed: int) -> None:
    """Least squares of the stacked rows, with sqrt(ridge tr G) I below them, by another algorithm."""
    dR = [torch.randn(W, B, 5, generator=seeded(seed + j), dtype=torch.float64) for j in range(m)]
    R = torch.randn(W, B, 5, generator=seeded(seed + 9), dtype=torch.float64)
    gamma = -torch.stack(mixing_weights(R, dR, 0.01), 2)
    for n in range(W):
        for b in range(B):
            A = torch.stack([v[: n + 1, b].flatten() for v in dR], 1)  # (5 (n + 1), m)
            below = (0.01 * A.square().sum()).sqrt() * torch.eye(m).double()
            right = torch.cat([R[: n + 1, b].flatten(), torch.zeros(m).double()])
            assert torch.allclose(gamma[n, b], torch.linalg.lstsq(torch.cat([A, below]), right).solution, atol=1e-9)


@pytest.mark.parametrize("variance", [1.0, math.inf])
def test_anderson_beats_the_plain_carry_on_a_linear_model(variance: float) -> None:
    G = torch.randn(2, 2, generator=seeded(5), dtype=torch.float64)
    system, model = pd.ddim(LINEAR, 40, prediction="x0"), _Affine(G)
    exact = pd.sequential(model, system, start(system, d=2))
    plain = _rounds(model, system, pd.ExponentialPicard(variance=variance), exact)
    fast = _rounds(model, system, pd.Anderson(pd.Copy(), depth=4, ridge=1e-10, variance=variance), exact)
    assert fast < 0.7 * plain, (fast, plain)


def test_rows_new_to_the_window_carry_on_the_correction_of_the_last_that_is_not() -> None:
    """Of an unseen row the memory is void: whatever it holds, the result is the same."""
    system = RULES["ddpm"](40)
    frames = [_frames(system, method, 4)[3].x for method in (pd.Anderson(), _Littered())]
    assert torch.equal(*frames)


@pytest.mark.parametrize("schedule", [pd.zero_terminal_snr(LINEAR), LINEAR])
@pytest.mark.parametrize("variance", [0.0, 1.0, math.inf])
def test_at_zero_snr_the_carry_is_finite_and_the_answer_right(schedule: pd.Schedule, variance: float) -> None:
    system = pd.ddim(schedule, 20, spacing="trailing", prediction="v")
    model: Any = lambda x, t: torch.sin(3 * x)  # noqa: E731
    for method in (pd.ExponentialPicard(variance=variance), pd.Anderson(variance=variance)):
        solution = pd.sample(model, system, start(system), method, window=20, tolerance=1e-9, compare=True)
        assert (solution.max_error or 0) < 1e-6 and solution.rounds <= 40


def test_a_steep_model_leaves_every_state_finite() -> None:
    """200 starts, one window over the whole chain, along which the carry of a frozen eps alone grows 160 times."""
    system, worst = pd.ddim(LINEAR, 40), 0.0
    x = start(system, 200, torch.float32, d=4)
    for method in (pd.ExponentialPicard(), pd.Anderson(variance=math.inf), pd.Anderson()):
        frames = list(pd.iterate(_steep, system, x, method, window=40, tolerance=0.001))
        assert all(bool(torch.isfinite(frame.x).all()) for frame in frames) and len(frames) <= 40
        worst = max(worst, *(float(frame.x.abs().max()) for frame in frames))
    assert worst < 1e4


def test_a_carry_that_overflows_falls_back_to_each_rows_own_step() -> None:
    """Denoised estimates near the last number of float32 sum up to more than it: those rows take y, as Jacobi would."""
    system = pd.ddim(LINEAR, 12, prediction="x0")
    x = start(system, 2, torch.float32)
    model: Any = lambda x, t: torch.full_like(x, 3e38)  # noqa: E731
    exponential, jacobi = (_frames(system, m, 1, model, x)[0].x for m in (pd.ExponentialPicard(), pd.Jacobi()))
    assert bool(torch.isfinite(exponential).all())
    assert torch.equal(exponential[-1], jacobi[-1]) and not torch.equal(exponential[2], jacobi[2])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: pd.Anderson(depth=-1), "depth: given -1"),
        (lambda: pd.Anderson(ridge=-1.0), "ridge: given -1.0"),
        (lambda: pd.Anderson(growth=0.0), "growth: given 0.0"),
        (lambda: pd.Anderson(most=math.nan), "most: given nan"),
        (lambda: pd.ExponentialPicard(variance=-1.0), "variance: given -1.0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(made: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made()


# ---------------------------------------------------------------------------------------------------- what they use


class _Given(pd.Guess):
    """States from a tensor (N + 1, B, ...)."""

    def __init__(self, states: Tensor) -> None:
        self.states = states

    def fill(self, system: pd.System, work: Any, known: Tensor) -> Tensor:
        return self.states


class _Littered(pd.Anderson):
    """Anderson whose memory of rows not seen is full of rubbish."""

    def sweep(self, system: pd.System, work: Any, evaluate: Any, memory: Any) -> Any:
        def litter(history: Any) -> Any:
            return tuple(torch.where((work.seen >= 1 + j)[..., None], m, 1e3) for j, m in enumerate(history))

        return super().sweep(system, work, evaluate, (litter(memory.states), litter(memory.corrections)))


class _Affine:
    """D = G x + 1 (M, d)."""

    def __init__(self, G: Tensor) -> None:
        self.G = G

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return x @ self.G.T + 1


def _steep(x: Tensor, t: Tensor) -> Tensor:
    return x + torch.sin(30 * x)


def _frames(
    system: pd.System, method: pd.AbstractMethod, rounds: int, model: Any = None, x: Tensor | None = None
) -> list[pd.Frame]:
    x = start(system) if x is None else x
    frames = pd.iterate(model or Mixture(), system, x, method, window=14, tolerance=0.05, generator=seeded(1))
    return [frame for frame, _ in zip(frames, range(rounds), strict=False)]


def _rounds(model: Any, system: pd.System, method: pd.AbstractMethod, exact: Tensor) -> int:
    """Sweeps of the whole chain until its end is within 1e-6 of exact."""
    frames = pd.iterate(model, system, start(system, d=2), method, window=len(system), tolerance=0.0)
    for frame in frames:
        end = frame.x[(len(system) - frame.begin), torch.arange(len(exact))]
        if float((end - exact).norm() / exact.norm()) < 1e-6:
            return frame.round
    raise AssertionError("it never came there")
