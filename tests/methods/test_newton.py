"""Quasi-Newton against an independent Newton loop, where the diagonal is all there is of the Jacobian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from problems import LINEAR, RULES, seeded, start

NEWTON: dict[str, Any] = {"reach": 1e-6, "limit": 1e9}  # derivatives to eight digits, and no bound


class Elementwise:
    """D = tanh(x) + x / 2, a derivative between 0.5 and 1.5."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x) + x / 2


@pytest.mark.parametrize("rule", ["ddim", "ddpm"])
def test_sweeps_are_newtons_on_a_diagonal_model(rule: str) -> None:
    """x'[n+1] = step(x[n]) + (a + b D'(x[n])) (x'[n] - x[n]), with the derivative in closed form, three sweeps."""
    N, model = 10, Elementwise()
    system: pd.System = getattr(pd, rule)(LINEAR, N, prediction="x0")
    x, z = start(system, 2), torch.randn(N, 2, 6, generator=seeded(1), dtype=torch.float64)
    states = [x] * (N + 1)
    frames = pd.iterate(model, system, x, pd.QuasiNewton(pd.Copy(), **NEWTON), window=N, tolerance=1e-12, noise=z)
    for sweep, frame in zip(range(3), frames, strict=False):
        new = [x]
        for n in range(N):
            slope = 1 - torch.tanh(states[n]) ** 2 + 0.5
            stepped = system.a[n] * states[n] + system.b[n, 0] * model(states[n], system.t[n]) + system.c[n] * z[n]
            new.append(stepped + (system.a[n] + system.b[n, 0] * slope) * (new[n] - states[n]))
        states = new
        begin = int(frame.begin[0])
        assert torch.allclose(frame.x[: N + 1 - begin, 0], torch.stack(states)[begin:, 0], atol=1e-6), sweep


@pytest.mark.parametrize("rule", ["ddim", "dpmsolver", "dpmsolver_single", "heun", "flow_heun"])
def test_a_linear_diagonal_model_is_solved_in_one_sweep_whatever_the_taps(rule: str) -> None:
    system = getattr(pd, rule)(*((12,) if "flow" in rule else (LINEAR, 12)), prediction="x0")
    slope = torch.linspace(0.0, 0.9, 6).double()
    model: Any = lambda x, t: slope * x + 1  # noqa: E731
    frames = pd.iterate(model, system, start(system), pd.QuasiNewton(limit=1e9), window=len(system), tolerance=1e-6)
    assert torch.allclose(next(iter(frames)).x[-1], pd.sequential(model, system, start(system)), atol=1e-8)


def test_newton_squares_the_error_where_picard_divides_it() -> None:
    system, model = pd.ddim(LINEAR, 60, prediction="x0"), Elementwise()
    how: dict[str, Any] = {"window": 60, "tolerance": 1e-4, "compare": True}
    x = start(system)
    newton, picard = (pd.sample(model, system, x, m, **how) for m in (pd.QuasiNewton(**NEWTON), pd.Picard()))
    assert newton.rounds <= 6 and newton.rounds < 0.6 * picard.rounds, (newton.rounds, picard.rounds)
    assert (newton.max_error or 0) < 1e-6


def test_a_row_costs_two_evaluations_in_one_call() -> None:
    calls: list[int] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls.append(len(x))
        return x

    system = pd.ddim(LINEAR, 10)
    solution = pd.sample(model, system, start(system, 2), pd.QuasiNewton(), window=4, tolerance=0.0)
    assert calls[1:5] == [3, *calls[-3:]] == [3, 3, 3, 3]  # that check the model, at first and again in the end
    assert calls[0] == 16, "the whole batch, beside others"
    del calls[:5], calls[-3:]
    assert calls[0] == 2 * 2 * 4 and solution.evaluations == sum(calls) and solution.rounds == len(calls)


def test_no_damping_is_the_chain_with_its_estimates_frozen_and_the_bounds_hold() -> None:
    """J = 0 is what Gaussian data of no variance have; a model as steep as can be meets J = 1 / alpha."""
    system = RULES["ddim"](15)
    steep: Any = lambda x, t: -9 * x  # noqa: E731  D = (1 + 9 sigma) x / alpha, steeper than 1 / alpha
    for model, newton, plain in (
        (Elementwise(), pd.QuasiNewton(damping=0.0), pd.ExponentialPicard(variance=0.0)),
        (steep, pd.QuasiNewton(pd.Copy()), pd.ExponentialPicard()),
    ):
        one, other = (next(iter(pd.iterate(model, system, start(system), m, window=15))).x for m in (newton, plain))
        if newton.damping:
            assert torch.allclose(one, other, rtol=1e-6)
        else:
            assert not torch.allclose(one, start(system).expand_as(one))


def test_the_probe_is_the_same_for_every_batch_window_and_run() -> None:
    """Signs differ between elements, never between samples, and a seed chooses them."""
    probes: list[Tensor] = []

    class Model:
        trusted = True  # nothing is asked beside the chain's rows

        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            probes.append((x.chunk(2)[1] - x.chunk(2)[0]).sign())
            return torch.sin(x)

    model, system = Model(), pd.ddim(LINEAR, 8)
    for method, B, window in ((pd.QuasiNewton(), 3, 4), (pd.QuasiNewton(), 1, 8), (pd.QuasiNewton(seed=1), 1, 8)):
        pd.sample(model, system, start(system, B, d=32), method, window=window, tolerance=0.0)
        signs = torch.cat(probes)
        assert bool((signs == signs[0]).all()) and 4 < int((signs[0] > 0).sum()) < 28
        probes, first = [], [*(first if B == 1 else []), signs[0]]  # noqa: F821
    assert not torch.equal(*first[-2:])


def test_a_steep_model_leaves_every_state_finite() -> None:
    system, steep = pd.ddim(LINEAR, 40), lambda x, t: x + torch.sin(30 * x)
    x = start(system, 200, torch.float32, d=4)
    for guess in (pd.Copy(), pd.Extrapolate()):
        frames = list(pd.iterate(steep, system, x, pd.QuasiNewton(guess), window=40, tolerance=0.001))
        assert all(bool(torch.isfinite(frame.x).all()) for frame in frames) and len(frames) <= 40


def test_at_zero_snr_the_carry_is_finite_and_the_answer_right() -> None:
    system = pd.ddim(pd.zero_terminal_snr(LINEAR), 20, spacing="trailing", prediction="v")
    model: Any = lambda x, t: torch.sin(3 * x)  # noqa: E731
    solution = pd.sample(model, system, start(system), pd.QuasiNewton(), window=20, tolerance=1e-9, compare=True)
    assert (solution.max_error or 0) < 1e-6 and solution.rounds <= 20


@pytest.mark.parametrize(("field", "wrong"), [("damping", 1.5), ("reach", 0.0), ("limit", float("inf"))])
def test_a_number_that_cannot_be_is_refused(field: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{field}: given {wrong}"):
        pd.QuasiNewton(**{field: wrong})  # type: ignore[arg-type]
