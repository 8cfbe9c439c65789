"""The window that picks itself: exact whatever it does, never much slower than stepping, and wide where that pays."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import paradigms as pd
from devices import Device, Scheduled, flat, knee, linear
from paradigms.execution import model_key
from paradigms.execution import model_key as identity
from paradigms.execution.model_check import LATER, ROWS
from paradigms.window.auto import controller as auto
from paradigms.window.auto import profile
from paradigms.window.auto.acceptance import AcceptanceModel
from paradigms.window.auto.budget import ALLOWED
from paradigms.window.auto.profile import PREPARED, LatencyCurve, ModelProfile
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


@settings(max_examples=200, deadline=None)
@given(**CASES)
def test_any_order_of_windows_is_sequential_at_tolerance_zero(
    rule: str, method: pd.AbstractMethod, steps: int, windows: list[int], B: int
) -> None:
    solution = solve(RULES[rule](steps), method, window=Scheduled(windows), tolerance=0.0, B=B)
    assert solution.max_error is not None and solution.max_error <= 1e-10
    assert solution.converged and solution.rounds <= len(RULES[rule](steps)) * B


@settings(max_examples=100, deadline=None)
@given(**CASES, tolerance=st.sampled_from([0.003, 0.3, 3.0]))
def test_any_order_of_windows_ends_and_counts_what_the_model_saw(
    rule: str, method: pd.AbstractMethod, steps: int, windows: list[int], B: int, tolerance: float
) -> None:
    system, model, one, two = RULES[rule](steps), Mixture(), seeded(1), seeded(1)
    x = start(system, B)
    solution = pd.sample(model, system, x, method, window=Scheduled(windows), tolerance=tolerance, generator=one)
    assert solution.converged and bool(torch.isfinite(solution.x).all())
    assert solution.evaluations == solution.trace[-1][2] and model.rows - solution.evaluations in (
        0,
        ROWS + LATER,
        2 * (ROWS + LATER),
    )
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


# ---------------------------------------------------------------------------------------------- decisions


def best_fixed(device: Device, system: pd.System) -> float:
    """The seconds of the best window of all, found by trying, stepping included."""
    grid = [w for w in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100) if w <= len(system)]
    return min(device.stepping(system), *(device.sample(system, window=w)[1] for w in grid))


@pytest.mark.parametrize("seconds", [flat, knee, linear])
@pytest.mark.parametrize("B", [1, 4])
@pytest.mark.parametrize(("rule", "steps"), [("ddpm", 100), ("ddim", 50), ("dpmsolver", 30)])
def test_it_comes_close_to_the_best_fixed_window_and_is_never_much_slower_than_stepping(
    seconds: Callable[[int], float], B: int, rule: str, steps: int
) -> None:
    system, device = RULES[rule](steps), Device(seconds, B)
    best = best_fixed(Device(seconds, B), system)
    taken = [device.sample(system)[1] for _ in range(9)]
    assert sorted(taken)[4] <= device.stepping(system) / 0.98, [device.stepping(system) / t for t in taken]
    assert sorted(taken[-5:])[2] <= best / 0.78, [best / t for t in taken]  # a round is a sixth of a call here


def test_a_first_call_of_a_long_chain_may_lose_two_per_cent() -> None:
    for seconds in (linear, lambda M: 0.001 * M, lambda M: 0.0002 * M):
        device, system = Device(seconds), pd.ddpm(LINEAR, 300)
        assert device.sample(system)[1] <= device.stepping(system) / 0.98


def test_what_it_loses_in_many_calls_is_bounded_by_what_each_may_lose() -> None:
    device, system = Device(linear, 2), pd.ddim(LINEAR, 20)
    calls = 40
    taken = sum(device.sample(system, seed=k)[1] for k in range(calls))
    assert taken <= calls * device.stepping(system) / 0.98


def test_a_model_with_room_is_sampled_in_few_rounds_from_the_first_call_on() -> None:
    device, system = Device(flat), pd.ddpm(LINEAR, 200)
    solution, seconds = device.sample(system)
    assert solution.windows[:2] == (1, 1) and max(solution.windows) > 32
    assert seconds < device.stepping(system) / 3
    again, seconds = device.sample(system, seed=2)
    assert again.windows[0] > 32, "what the first call learned is used by the second from its first round on"
    assert seconds < device.stepping(system) / 4


def test_a_device_that_turns_out_slow_is_left_and_one_that_turns_out_fast_is_used() -> None:
    """Its memory is wrong: the first rounds tell, and little is lost."""
    device, system = Device(flat), pd.ddpm(LINEAR, 300)
    device.sample(system)
    device.seconds = linear
    solution, seconds = device.sample(system, seed=2)
    assert solution.windows[-1] == 1 and solution.windows.count(1) > 100
    assert seconds < 4 * device.stepping(system), "one round of a wide window, and not another"
    for seed in range(3, 6):
        assert device.sample(system, seed=seed)[1] < 1.02 * device.stepping(system)


@pytest.mark.parametrize("slow", [1, 2])
def test_a_slow_moment_of_the_machine_does_not_shut_windows_out(slow: int) -> None:
    """The first rounds of all take ten times as long: what was seen once or twice is tried again."""
    device, system, rounds = Device(flat), pd.ddpm(LINEAR, 100), [0]

    def disturbed(M: int) -> float:
        rounds[0] += M > 1
        return 10 * flat(M) if M > 1 and rounds[0] <= slow else flat(M)

    device.seconds = disturbed
    taken = [device.sample(system, seed=k)[1] for k in range(30)]
    assert (taken[0] > device.stepping(system)) == (slow > 1), "one slow moment is not believed, more are"
    assert max(taken[-3:]) < device.stepping(system) / 3


def test_what_spoke_against_windows_for_long_is_doubted() -> None:
    """Something else slows rounds down as often as they are tried, until they are not tried any more; then it ends."""
    device, system, calls = Device(flat), pd.ddim(LINEAR, 200), 60
    taken = []
    for k in range(calls):
        device.seconds = lambda M, k=k: 1e-4 + (3.5e-3 if M > 1 and k < 30 else 0.0)
        taken.append(device.sample(system, seed=k)[1])
    assert taken[30] >= 0.99 * device.stepping(system), "windows are shut out"
    assert max(taken[-3:]) < device.stepping(system) / 1.5
    assert sum(taken[:30]) < 30 * device.stepping(system) / 0.98


@pytest.mark.parametrize("rule", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [8, 20, 60])
def test_no_call_loses_much_where_windows_never_pay_and_all_together_lose_what_they_may(rule: str, steps: int) -> None:
    """A round of eight rows takes as long as all of the shortest chain."""
    device, system = Device(linear), RULES[rule](steps)
    slower = [device.sample(system, seed=k)[1] / device.stepping(system) for k in range(150)]
    assert max(slower) < 1.8 and sum(slower) / len(slower) <= 1.001 + ALLOWED  # a first round may accept one row
    assert sorted(slower)[75] == pytest.approx(1.0)


@pytest.mark.parametrize(("seconds", "calls"), [(linear, 8), (lambda M: 9e-5 * M, 27)], ids=["200 ms", "3.8 ms"])
def test_a_chain_that_needs_no_windows_is_asked_in_one_call_of_eight_or_in_a_tenth_of_a_second_and_changes_are_noticed(
    monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float], calls: int
) -> None:
    asked, made = [0], auto.AutoWindow

    def counted(*args: Any) -> auto.AutoWindow:
        asked[0] += 1
        return made(*args)

    monkeypatch.setattr(auto, "AutoWindow", counted)
    device, system = Device(seconds), pd.ddim(LINEAR, 20)
    for seed in range(30):
        device.sample(system, seed=seed)
    asked[0] = 0
    assert {w for seed in range(2 * calls) for w in device.sample(system, seed=seed)[0].windows} == {1}
    assert asked[0] == 2
    device.seconds = flat
    taken = [device.sample(system, seed=seed)[1] for seed in range(150)]
    assert max(taken[-5:]) < device.stepping(system) / 1.5 and sum(taken) < 150 * device.stepping(system) / 0.98


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
    assert len(identity._kept) == 1
    gone = weakref.ref(device)
    del device
    gc.collect()
    assert gone() is None and len(identity._kept) == 0


def test_a_bound_method_is_remembered_as_its_object_is() -> None:
    class Net:
        def __init__(self) -> None:
            self.mixture = Mixture()

        def denoise(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.mixture(x, t)

    net, x = Net(), torch.zeros(1, 6)
    first = profile.profile_of(net.denoise, x)
    assert profile.profile_of(net.denoise, x) is first
    for other in (torch.zeros(1, 7), x.double()):
        assert profile.profile_of(net.denoise, other) is not first
    assert profile.profile_of(net.denoise, x, ["label"]) is not first


def test_a_curve_forgives_the_first_call_of_a_size_what_preparing_takes() -> None:
    curve = LatencyCurve(lambda M: M + 4.0, absolute=False, prepared=PREPARED)
    curve.record(1, 0.001)
    assert curve(6) == pytest.approx(0.002)
    curve.record(8, 0.003 + PREPARED)
    assert curve(8) == pytest.approx(0.003)
    curve.record(8, 0.004)
    assert curve(8) == pytest.approx(0.004)
    for seconds in (0.009, 0.0041, 0.2, 0.0042):
        curve.record(8, seconds)
    assert curve(8) == pytest.approx(0.0042), "the lower median of the last five"


def test_rounds_outside_of_the_model_go_on_as_they_did_from_the_smallest_to_the_largest() -> None:
    """Neither what the first round of a size prepared nor a close neighbour says what a larger one takes."""
    known = ModelProfile(torch.zeros(1, 64))
    curve = known.sweep("method")
    for M, seconds in ((4, 1.0e-3), (44, 1.1e-3), (48, 1.2e-3)):
        curve.record(M, 1.0)
        curve.record(M, seconds)
    assert curve(92) == pytest.approx(1.4e-3)
    known.step.record(1, 2e-5)
    assert known.sweep("another")(4) == pytest.approx(22 * 2e-5, rel=0.02), "of a machine whose steps take no longer"


def test_reach_counts_rounds_beyond_full_windows_by_place() -> None:
    reach = AcceptanceModel(160)
    usual = reach.at(15)
    for row in range(0, 40, 10):
        reach.record(row, 0.5, 10, 10)
    assert 0.04 < reach.at(0) < 0.05, "half a round on ten rows, leaning on what is usual"
    assert reach.at(15) > usual, "what was harder than usual so far is expected to be so after"


def test_the_accelerator_is_ventured_on_with_more_rows_than_a_cpu() -> None:
    cpu, other = ModelProfile(torch.zeros(1, 4)), ModelProfile(torch.zeros(1, 4, device="meta"))
    for known in (cpu, other):
        known.model.record(1, 1.0)
    assert other.growth > cpu.growth and other.model(16) < cpu.model(16)
