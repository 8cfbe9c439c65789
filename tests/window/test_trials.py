"""The window that whole calls are kept to: climbs to the best by trials, and is asked for nothing where none gains."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paradigms.window.auto.trials import ENOUGH, FREE, WindowTrials

GRID = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def calls(
    whole: WindowTrials, gain: Callable[[int], float], n: int, W: int = 16, used: int = 16, hoped: int = 16, **how: bool
) -> list[int]:
    """The windows of n calls that would begin with W, free ones having most rows of `used`; `hoped` is the widest of
    those that are expected to gain most."""
    hopes = {w: 0.2 if w <= hoped else 0.1 for w in GRID}
    kept = []
    for _ in range(n):
        w, _ = whole.next(W, lambda: hopes, how.get("affordable", True), how.get("idle", False))
        whole.record(w, gain(w), {used: 10} if W > 1 else {})
        kept.append(w)
    return kept


@given(best=st.sampled_from(GRID), used=st.sampled_from(GRID), hoped=st.sampled_from(GRID), free=st.floats(0.0, 0.3))
def test_the_best_window_is_found_from_any_other_where_gains_have_one_peak(
    best: int, used: int, hoped: int, free: float
) -> None:
    peak = GRID.index(best)
    kept = calls(
        WindowTrials(GRID), lambda w: 0.5 - 0.04 * abs(GRID.index(w) - peak) if w else free, 140, 16, used, hoped
    )
    assert set(kept[-FREE:]) == {0, best}


def test_the_first_trial_is_of_the_widest_window_that_is_expected_to_gain_most() -> None:
    kept = calls(WindowTrials(GRID), lambda _: 0.1, 10, used=8, hoped=48)
    assert next(w for w in kept if w) == 48


def test_calls_stay_free_where_that_gains_as_much() -> None:
    kept = calls(WindowTrials(GRID), lambda w: 0.4 if w else 0.39, 60)
    assert set(kept[-20:]) == {0}, "trials end"


def test_trials_are_made_where_they_can_be_afforded() -> None:
    assert set(calls(WindowTrials(GRID), lambda _: 0.4, 30, affordable=False)) == {0}


def test_a_window_that_is_far_behind_is_tried_once() -> None:
    whole = WindowTrials(GRID)
    calls(whole, lambda w: {0: 0.5, 16: 0.6, 24: 0.2}.get(w, 0.55), 60)
    assert (whole.count(24), whole.count(12)) == (1, ENOUGH)


def test_one_slow_moment_does_not_shut_a_window_out() -> None:
    whole, first = WindowTrials(GRID), [True]

    def gain(w: int) -> float:
        return 0.3 if not w else 0.35 if w != 16 else -5.0 * first.pop() if first and whole.count(16) else 0.5

    assert set(calls(whole, gain, 80)[-FREE:]) == {0, 16}


@pytest.mark.parametrize("gain", [-0.3, -0.05])
def test_chains_that_step_are_left_alone_but_for_trials_when_nothing_was_tried_for_long(gain: float) -> None:
    whole = WindowTrials(GRID)
    calls(whole, lambda w: gain if w else 0.0, 1)  # a call had windows
    assert set(calls(whole, lambda w: gain if w else 0.0, 30, W=1)) == {0}
    tried = calls(whole, lambda w: gain if w else 0.0, 30, W=1, idle=True)
    assert any(tried) and (gain > -0.1 or not any(tried[10:])), "what is far behind is not tried again"


def test_what_a_call_had_is_tried_where_nothing_else_may_be() -> None:
    whole = WindowTrials(GRID[1:])
    whole.record(0, 0.1, {6: 10})
    assert {whole.next(6, dict, True, False)[0] for _ in range(4)} == {0, 6}


def test_a_chain_that_never_had_windows_is_not_tried() -> None:
    assert set(calls(WindowTrials(GRID), lambda w: 0.5 if w else 0.0, 30, W=1, idle=True)) == {0}
