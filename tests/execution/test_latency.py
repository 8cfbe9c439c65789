"""The latency of a model against rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paradigms.execution.latency import LatencyCurve, measure_latency

POINTS = st.dictionaries(st.integers(1, 200), st.floats(1e-6, 10), min_size=1, max_size=8)


def test_between_points_it_is_a_line_and_beyond_the_last_slope_goes_on():
    latency = LatencyCurve((1, 4, 8), (1.0, 2.5, 3.5))
    assert [latency(M) for M in (1, 2, 4, 6, 8, 12)] == pytest.approx([1.0, 1.5, 2.5, 3.0, 3.5, 4.5])


def test_points_that_lie_close_do_not_say_how_it_goes_on():
    """46 and 48 rows took 0.2 and 0.3 s, which says nothing of 96 rows; 16 and 48 do."""
    assert LatencyCurve((16, 46, 48), (0.14, 0.2, 0.3))(96) == pytest.approx(0.3 + 48 * 0.16 / 32)


def test_a_single_point_is_the_worst_case():
    assert LatencyCurve((4,), (2.0,))(8) == pytest.approx(4.0)
    assert LatencyCurve((4,), (2.0,))(1) == pytest.approx(2.0)


@given(POINTS, st.integers(1, 400), st.integers(1, 400))
def test_it_never_falls(points, a, b):
    latency = LatencyCurve.of(points)
    assert latency(min(a, b)) <= latency(max(a, b)) * (1 + 1e-9)


@given(POINTS)
def test_a_point_is_what_was_measured_or_what_a_larger_batch_took(points):
    latency = LatencyCurve.of(points)
    for M, seconds in points.items():
        assert latency(M) == pytest.approx(min(s for m, s in points.items() if m >= M), rel=1e-6)
        assert latency(M) <= seconds * (1 + 1e-6)


@pytest.mark.parametrize(
    ("rows", "seconds"), [((), ()), ((2, 1), (1.0, 1.0)), ((0,), (1.0,)), ((1,), (0.0,)), ((1, 2), (1.0,))]
)
def test_what_is_no_latency_is_refused(rows, seconds):
    with pytest.raises(ValueError, match="needed: rising rows"):
        LatencyCurve(rows, seconds)


def test_measuring_takes_the_least_of_the_repeats_after_a_call_to_warm_up():
    now, calls = [0.0], []

    def call(M):
        calls.append(M)
        now[0] += M + (5.0 if calls.count(M) in (1, 3) else 0.0)

    assert measure_latency(call, (1, 4), repeats=2, clock=lambda: now[0]) == LatencyCurve((1, 4), (1.0, 4.0))
    assert calls == [1, 1, 1, 4, 4, 4]
