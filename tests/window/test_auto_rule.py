"""The rule of `auto` on made-up devices: near the best window, never much slower than stepping, alike when busy."""

from __future__ import annotations

import statistics

import pytest

from paradigms.window.auto.controller import ALLOWED_LOSS, powers_of_two
from paradigms.window.auto.profile import RoundTimes
from paradigms.window.expected import Expected
from simulated import Seconds, SimulatedModel, busy, jitter

DEVICES: dict[str, Seconds] = {
    "room for all": lambda W: 0.02 + 1e-5 * W,
    "room for 16": lambda W: 0.02 * max(1.0, W / 16),
    "a row costs a row": lambda W: 0.01 * W,
    "a row costs half": lambda W: 0.0013 * (0.45 * W + 0.55),
    "a row costs a third": lambda W: 0.0035 * (0.3 * W + 0.7),
    "in eights": lambda W: 0.01 * -(-W // 8),
}
LENGTHS = (20, 50, 200)


def life(
    N: int, device: str, calls: int = 40, seed: int = 0, deviation: float = 0.1
) -> tuple[SimulatedModel, list[float]]:
    """A model, and the seconds of its first calls."""
    model = SimulatedModel(N, DEVICES[device], noise=jitter(seed, deviation), seed=seed)
    return model, [model.auto().seconds for _ in range(calls)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("N", LENGTHS)
def test_calls_are_as_fast_as_stepping_and_nine_tenths_of_the_best(device: str, N: int) -> None:
    slower, shares = [], []
    for seed in range(3):
        model, taken = life(N, device, seed=seed)
        stepping = model.stepping * (1 + 0.1 * 0.8)  # the jitter's mean
        slower.append(stepping / statistics.median(taken))
        shares.append(min(model.best(), stepping) / statistics.median(taken[-12:]))
    assert statistics.median(slower) >= 0.98 and statistics.median(shares) >= 0.9, (slower, shares)


@pytest.mark.parametrize("deviation", [0.1, 0.5])
@pytest.mark.parametrize("N", [20, 100])
def test_what_trials_lose_is_what_they_may(N: int, deviation: float) -> None:
    """Where windows never pay."""
    model = SimulatedModel(N, DEVICES["a row costs a row"], noise=jitter(1, deviation))
    plain = SimulatedModel(N, DEVICES["a row costs a row"], noise=jitter(1, deviation))
    taken = [model.auto().seconds for _ in range(150)]
    usual = [plain.fixed(1).seconds for _ in range(150)]
    assert sum(taken) <= sum(usual) * (1.003 + ALLOWED_LOSS)
    assert max(taken) < 1.5 * max(usual)


@pytest.mark.parametrize("device", ["room for all", "room for 16", "in eights"])
@pytest.mark.parametrize("N", [50, 100, 200])
def test_first_calls_on_a_busy_machine_take_equally_many_rounds(device: str, N: int) -> None:
    """Equal commands in fresh processes took 14 to 188 rounds. One of twenty may differ."""
    rounds = sorted(SimulatedModel(N, DEVICES[device], noise=busy(seed)).auto().rounds for seed in range(20))
    assert rounds[-2] - rounds[0] <= max(0.15 * rounds[10], 3), rounds


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("N", [50, 200, 1000])
def test_a_first_call_enters_windows_within_a_tenth_of_the_chain(N: int, seed: int) -> None:
    call = SimulatedModel(N, DEVICES["room for all"], noise=busy(seed)).auto()
    assert next(n for n, W in enumerate(call.windows) if W > 1) <= N / 10 and call.rounds < N / 2


def test_a_slow_moment_does_not_shut_windows_out() -> None:
    """The rounds of the first call take ten times as long."""
    model = SimulatedModel(100, lambda W: 0.02 * (10 if W > 1 else 1))
    assert model.auto().seconds > model.stepping
    model.inside = DEVICES["room for all"]
    taken = [model.auto().seconds for _ in range(30)]
    assert max(taken[-3:]) < model.stepping / 3


def test_a_device_that_became_slow_is_left_and_one_that_became_fast_is_found() -> None:
    model = SimulatedModel(200, DEVICES["room for all"])
    assert max(model.auto().windows) > 16
    model.inside = DEVICES["a row costs a row"]
    calls = [model.auto() for _ in range(20)]
    assert calls[0].seconds < 2.5 * model.stepping and calls[0].windows[-1] == 1
    assert statistics.median(call.seconds for call in calls) < 1.01 * model.stepping
    model.inside = DEVICES["room for all"]
    assert min(model.auto().seconds for _ in range(150)) < model.stepping / 4


def test_steps_that_became_fast_are_noticed() -> None:
    """Windows were entered while the machine was slow; then a step takes a hundredth."""
    model = SimulatedModel(100, DEVICES["room for all"])
    for _ in range(3):
        model.auto()
    model.inside = lambda W: 2e-4 if W == 1 else 0.02
    calls = [model.auto() for _ in range(40)]
    assert sum(max(call.windows) == 1 for call in calls[-20:]) > 15


def test_a_chain_that_settles_one_row_a_round_is_left() -> None:
    model = SimulatedModel(100, DEVICES["room for all"], hard=1000.0)
    assert max(model.auto().seconds for _ in range(20)) < 1.5 * model.stepping


def test_a_short_chain_saves_before_it_tries_and_says_so() -> None:
    model = SimulatedModel(15, DEVICES["a row costs a row"])
    first = model.auto()
    assert set(first.windows) == {1} and "it is tried in call" in (first.controller.reason() or "")
    tried = next(k for k in range(2, 60) if max(model.auto().windows) > 1)
    assert f"in call {tried}" in (first.controller.reason() or "")


def test_what_a_window_was_expected_to_take_is_told_with_the_reason() -> None:
    model = SimulatedModel(100, DEVICES["a row costs a row"])
    controller = model.auto().controller
    best, reason = controller.expected(), controller.reason()
    assert isinstance(best, Expected) and best.window == 4 and best.ratio > 1 and reason == str(best)
    assert best.stepping_seconds == pytest.approx(model.stepping)
    assert best.seconds / best.rounds == pytest.approx(model.inside(4) + model.outside(4))
    cheap = SimulatedModel(50, lambda W: 1e-5 * W).auto().controller
    assert (cheap.reason() or "").startswith("even if more rows cost nothing")


def test_seconds_between_timed_windows_lie_on_a_line() -> None:
    times = RoundTimes(guess=1.0)
    times.record(1, 2.0, 0.5)
    assert times(1) == 2.5 and times(16) == 3.0, "at best more rows cost nothing but the round"
    times.record(4, 5.0, 1.0)
    assert times(1) == 2.5 and times(4) == 6.0 and times(2) == pytest.approx(4.0)
    assert times(16) == pytest.approx(18.0) and times(16, cost=0.5) == pytest.approx(12.0)


def test_the_usual_time_is_one_that_nothing_disturbed() -> None:
    times = RoundTimes(guess=1.0)
    for seconds, usual in ((3.0, 3.0), (1.0, 1.0), (9.0, 1.0), (8.0, 1.0), (7.0, 1.0), (2.0, 2.0)):
        times.record(1, seconds, 0.0)
        assert times(1) == pytest.approx(usual)


def test_windows_are_powers_of_two_the_chain_and_what_ranks_divide() -> None:
    assert powers_of_two(50, 4) == (2, 4, 8, 16, 32, 50) and powers_of_two(1, 4) == ()
    assert powers_of_two(50, 4, base=3) == (3, 6, 12, 24, 48)
    assert max(powers_of_two(1000, 2**20)) == 64, "a window's states must fit"
