"""What windows are expected to gain, against sums written out row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paradigms.window.auto.acceptance import PLACES
from paradigms.window.auto.forecast import LESS, Forecast
from paradigms.window.auto.profile import ModelProfile

GRID = (2, 4, 8, 16, 32, 64)
SECONDS = st.floats(1e-4, 1e-2)


def outlook(N: int, one: float, more: float, sweep: float, extra: list[float], B: int = 1) -> Forecast:
    """Of a model that takes `one` and `more` a row, rounds that take `sweep` beside it, and q counted as `extra`."""
    known = ModelProfile(torch.zeros(B, 8))
    reach = known.acceptance("chain", N)
    made = Forecast(known, reach, "method", B, GRID)
    for _ in range(3):
        known.step.record(B, 1e-5)
        for W in (1, *GRID):
            known.model.record(W * B, one + more * W)
            if W > 1:
                made.sweep.record(W * B, sweep)
    part = N / PLACES
    for i, v in enumerate(extra):
        reach.record(int(i * part), v, int(part), int(part))
    return made


@settings(max_examples=50, deadline=None)
@given(
    one=SECONDS,
    more=st.floats(0, 1e-3),
    sweep=SECONDS,
    extra=st.lists(st.floats(0, 3), min_size=PLACES, max_size=PLACES),
    row=st.integers(0, 159),
    B=st.sampled_from([1, 3]),
)
def test_a_gain_is_what_the_best_number_of_rows_ahead_adds_up_to(
    one: float, more: float, sweep: float, extra: list[float], row: int, B: int
) -> None:
    N = 160
    made = outlook(N, one, more, sweep, extra, B)
    step, left = made.step, N - row
    assert step == pytest.approx(one + more + 1e-5)
    gains = made.gains(row, left, step, made.table())
    assert set(gains) == {W for W in GRID if left >= W}
    for W, gain in gains.items():
        R = one + more * W + sweep
        each = [step - R * (1 / (W - 0.5) + made.acceptance.at(n * PLACES // N)) for n in range(row, N)]
        ends = [0, *(e - row for e in range(row + 1, N + 1) if e % (N // PLACES) == 0)]
        assert gain == pytest.approx(max(sum(each[:e]) for e in ends), rel=1e-6, abs=1e-9)


def test_the_best_window_takes_the_least_seconds_a_row_and_a_shorter_one_more_rounds() -> None:
    made = outlook(160, 1e-3, 1e-4, 1e-3, [0.44] * PLACES)
    q = made.acceptance.at(3)

    def tau(W: int, now: int) -> float:
        return (2e-3 + 1e-4 * W) * (1 / (W - 0.5) + q * (LESS if now > W else 1))

    for now in (0, 8, 64):
        least, W = made.best(3, 160, now)
        assert min(GRID, key=lambda W: tau(W, now)) == W and least == pytest.approx(tau(W, now))


def test_no_window_is_entered_where_steps_are_faster() -> None:
    made = outlook(160, 1e-3, 1e-3, 1e-3, [0.8] * PLACES)
    assert made.step is not None and made.entering(0, 160, made.step)[0] == 1
    made = outlook(160, 1e-3, 0.0, 1e-3, [0.8] * PLACES)
    assert made.step is not None
    first, gain, cost = made.entering(0, 160, made.step)
    assert first == 64 and gain > 10 * cost > 0


@pytest.mark.parametrize(("M", "rows"), [(1, 2), (5, 4), (7, 8), (33, 32), (500, 64)])
def test_a_batch_is_remembered_by_the_nearest_window(M: int, rows: int) -> None:
    assert outlook(160, 1e-3, 0.0, 1e-3, []).nearest(M) == rows


@pytest.mark.parametrize("extra", [0.0, 0.44])
def test_what_a_window_may_gain_kept_all_along_counts_the_rows_that_its_rounds_have_left(extra: float) -> None:
    N, step = 160, 1.11e-3
    made = outlook(N, 1e-3, 1e-4, 1e-3, [extra] * PLACES)
    hopes = made.expected_gains(1.0)
    assert set(hopes) == set(GRID) and set(made.expected_gains(3e-3)) == {2, 4, 8}, "a round of 16 rows takes 3.6 ms"
    for W, gain in hopes.items():
        q = sum(map(made.acceptance.at, range(PLACES))) / PLACES
        seconds = [(2e-3 + 1e-4 * min(W, N - n)) * (1 / (W - 0.5) + q) for n in range(N)]
        assert gain == pytest.approx(1 - sum(seconds) / (N * step), abs=0.01)
