"""The window that picks itself: exact whatever it does, never much slower than stepping, and wide where that pays."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import paradigms as pd
from devices import STEP, SWEEP, Device, Scheduled, flat, linear
from paradigms.execution import model_key
from paradigms.execution.model_known import rows_beside
from paradigms.window.auto import profile
from problems import LINEAR, METHODS, RULES, seeded, solve, start
from toy import Mixture


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    model_key.forget()
    yield
    model_key.forget()


# a negative number stands for so many steps
SCHEDULES = st.lists(st.one_of(st.integers(1, 12), st.integers(-4, -1)), min_size=1, max_size=8)
CASES: dict[str, Any] = {
    "rule": st.sampled_from(sorted(RULES)),
    "method": st.sampled_from(METHODS),
    "steps": st.integers(1, 25),
    "windows": SCHEDULES,
    "B": st.integers(1, 4),
}


@settings(max_examples=30, deadline=None)
@given(**CASES)
def test_any_order_of_windows_is_sequential_at_tolerance_zero(
    rule: str, method: pd.AbstractMethod, steps: int, windows: list[int], B: int
) -> None:
    solution = solve(RULES[rule](steps), method, window=Scheduled(windows), tolerance=0.0, B=B)
    assert solution.max_error is not None and solution.max_error <= 1e-10
    assert solution.converged and solution.rounds <= len(RULES[rule](steps)) * B


@settings(max_examples=25, deadline=None)
@given(**CASES, tolerance=st.sampled_from([0.003, 0.3, 3.0]))
def test_any_order_of_windows_ends_and_counts_what_the_model_saw(
    rule: str, method: pd.AbstractMethod, steps: int, windows: list[int], B: int, tolerance: float
) -> None:
    system, model, one, two = RULES[rule](steps), Mixture(), seeded(1), seeded(1)
    x = start(system, B)
    solution = pd.sample(model, system, x, method, window=Scheduled(windows), tolerance=tolerance, generator=one)
    assert solution.converged and bool(torch.isfinite(solution.x).all())
    assert solution.evaluations == solution.trace[-1][2] == model.rows - rows_beside(model)
    assert solution.rounds == len(solution.trace) == len(solution.windows) == int(solution.sample_rounds.max())
    assert set(solution.windows) <= {1, *(min(abs(w), len(system)) for w in windows)}
    pd.sequential(Mixture(), system, x, generator=two)
    assert torch.equal(one.get_state(), two.get_state()), "the noise was not drawn as stepping draws it"


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver", "flow"])
@pytest.mark.parametrize("windows", [[3, 16, 5, -4, 9], [2, -1], [20, 2, 2, 20]])
def test_a_tolerance_holds_over_changes_of_the_window(rule: str, windows: list[int]) -> None:
    """What the criterion has spent is not forgotten where a window ends and another begins."""
    errors = [
        solve(RULES[rule](60), window=Scheduled(windows), tolerance=t, B=8).median_error or 0.0 for t in (0.1, 0.01)
    ]
    assert errors[0] < 0.1 and errors[1] < 0.01, errors


@settings(max_examples=30, deadline=None)
@given(rule=CASES["rule"], steps=CASES["steps"], lengths=st.lists(st.integers(-6, -1), min_size=1, max_size=4))
def test_steps_are_the_sequential_sampler_bit_for_bit(rule: str, steps: int, lengths: list[int]) -> None:
    system = RULES[rule](steps)
    x = start(system, 2, torch.float32)
    solution = pd.sample(Mixture(), system, x, window=Scheduled(lengths), generator=seeded(1))
    assert torch.equal(solution.x, pd.sequential(Mixture(), system, x, generator=seeded(1)))
    assert solution.trace == tuple((n, n + 1, 2 * (n + 1)) for n in range(len(system)))


def test_auto_at_tolerance_zero_is_the_sequential_sampler_bit_for_bit() -> None:
    for rule, make in RULES.items():
        system, device = make(12), Device(flat, 2)
        solution, _ = device.sample(system, tolerance=0)
        assert torch.equal(solution.x, pd.sequential(Mixture(), system, start(system, 2), generator=seeded(1))), rule


def test_a_limit_on_rounds_holds_for_steps() -> None:
    system = pd.ddpm(LINEAR, 50)
    stopped = pd.sample(Mixture(), system, start(system), window=Scheduled([-20]), generator=seeded(1), max_rounds=7)
    assert stopped.rounds == 7 and stopped.done.tolist() == [7] * 3


def test_a_proof_is_made_of_steps_and_windows_alike() -> None:
    system = pd.ddpm(LINEAR, 50)
    how: dict[str, Any] = {"window": Scheduled([-3, 8, 8]), "generator": seeded(1), "verify": True, "compare": True}
    solution = pd.sample(Mixture(), system, start(system), tolerance=1e-4, **how)
    assert solution.verification is not None and float(solution.verification.residual.max()) < 0.01
    assert solution.max_error is not None and solution.max_error < 1e-3


# ---------------------------------------------------------------------------------------------- the solver and the rule


@pytest.mark.parametrize("tolerance", [1e-5, 0.003])
def test_the_first_call_takes_few_rounds_where_windows_pay(tolerance: float) -> None:
    device, system = Device(flat), pd.ddpm(LINEAR, 100)
    solution, seconds = device.sample(system, tolerance=tolerance)
    assert max(solution.windows) > 1 and solution.rounds <= 50 and seconds < device.stepping(system) / 2
    assert solution.reason == "the first 6 steps were timed"
    again, _ = device.sample(system, seed=2, tolerance=tolerance)
    assert again.windows[0] > 16 and again.reason is None, "what the first call learned is used from the first row on"


def test_a_first_call_of_a_long_chain_may_lose_three_per_cent() -> None:
    for seconds in (linear, lambda M: 0.001 * M, lambda M: 0.0002 * M):
        device, system = Device(seconds), pd.ddpm(LINEAR, 300)
        assert device.sample(system)[1] <= device.stepping(system) / 0.97


def test_a_solution_says_why_it_stepped_and_what_a_window_was_to_take() -> None:
    """B2: the default looked idle and did not say why."""
    solution, _ = Device(linear).sample(pd.ddpm(LINEAR, 100))
    assert solution.windows[-1] == 1 and solution.reason is not None and solution.expected is not None
    assert "would take" in solution.reason and "41 ms" in solution.reason and "10.1 ms" in solution.reason
    assert solution.expected.window == 4 and solution.expected.ratio > 1
    assert solution.expected.seconds / solution.expected.rounds == pytest.approx(4 * 0.01 + SWEEP)
    assert solution.expected.stepping_seconds == pytest.approx(100 * (0.01 + STEP))


def test_a_reason_is_given_however_it_came_to_steps() -> None:
    system, device = pd.ddim(LINEAR, 20), Device(linear)
    assert "window=1" in (device.sample(system, window=1)[0].reason or "")
    assert device.sample(system, window=4)[0].reason is None
    said = [device.sample(system, seed=k)[0] for k in range(30)]
    stepped = [s for s in said if set(s.windows) == {1}]
    assert len(stepped) > 20 and all(s.reason and "a window of" in s.reason for s in stepped)


def test_a_method_that_settles_nothing_is_left() -> None:
    """With room for every row, and a criterion that hardly accepts more than one."""
    device, system = Device(flat), pd.ddim(LINEAR, 100)
    for seed in range(5):
        solution, seconds = device.sample(system, seed=seed, tolerance=1e-13)
        assert seconds <= device.stepping(system) * 1.25
    assert solution.converged


def test_a_method_whose_window_must_stay_keeps_it() -> None:
    system = pd.ddpm(LINEAR, 100)
    solution, _ = Device(flat).sample(system, method=pd.Speculation())
    assert set(solution.windows) == {32}


# ---------------------------------------------------------------------------------------------- what is remembered


def test_a_model_is_remembered_as_long_as_it_lives() -> None:
    device, system = Device(flat), pd.ddpm(LINEAR, 100)
    device.sample(system)
    assert len(model_key._kept) == 1
    gone = weakref.ref(device)
    del device
    gc.collect()
    assert gone() is None and len(model_key._kept) == 0


def test_a_bound_method_is_remembered_as_its_object_is() -> None:
    class Net:
        def __init__(self) -> None:
            self.mixture = Mixture()

        def denoise(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.mixture(x, t)

    net, x = Net(), torch.zeros(1, 6)
    first = profile.round_times(net.denoise, x)
    assert profile.round_times(net.denoise, x) is first
    for other in (torch.zeros(1, 7), torch.zeros(2, 6), x.double()):
        assert profile.round_times(net.denoise, other) is not first
    assert profile.round_times(net.denoise, x, ("label",)) is not first
    assert profile.round_times(net.denoise, x, guess=1.0).guess == first.guess != 1.0


def test_calls_that_others_step_count_as_rests() -> None:
    device, system = Device(linear), pd.ddim(LINEAR, 15)
    device.sample(system)
    (known,) = (v for kinds in model_key._kept.values() for v in kinds.values() if isinstance(v, profile.RoundTimes))
    (chain,) = known.chains.values()
    before = chain.rest
    profile.count_rests(device)
    assert chain.rest == before - 1 > 0
