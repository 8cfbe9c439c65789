"""The plan: its algebra against traces added up by hand, the paper's points, its files, its errors."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.core.rounds import LOOSE, OURS, THEIRS
from benchmarks.devices.check import check, linked
from benchmarks.devices.paper import Fit, Published, compared, fit
from paradigms.cli import app as cli
from paradigms.cli import plan as planrun
from paradigms.distributed.plan import (
    DEVICES,
    FREE,
    LINKS,
    Link,
    Trace,
    best_window,
    call_seconds,
    hardware_efficiency,
    plan_runs,
    predict_run,
)
from paradigms.execution.latency import LatencyCurve

ROUNDS = Path(__file__).parents[2] / "benchmarks" / "results" / "rounds.json"
FLAT, LINE = LatencyCurve((1, 2), (0.5, 0.5)), LatencyCurve((1, 2), (0.5, 1.0))
TRACE = Trace(N=10, window=4, batch=1, runs=((4, 4, 4, 3), (4, 4, 4, 4, 2)))


@st.composite
def traces(draw: st.DrawFn, batch: int = 1) -> Trace:
    """A trace of a chain of 20 rows whose rounds cover it."""
    window = draw(st.integers(1, 20))
    runs = []
    for _ in range(draw(st.integers(1, 3))):
        run = draw(st.lists(st.integers(1, window * batch), min_size=1, max_size=8))
        missing = max(20 * batch - sum(run), 0)
        run += [window * batch] * (missing // (window * batch)) + (
            [missing % (window * batch)] * (missing % (window * batch) > 0)
        )
        runs.append(tuple(run))
    return Trace(20, window, batch, tuple(runs))


LATENCIES = st.dictionaries(st.integers(1, 32), st.floats(1e-3, 10), min_size=1, max_size=5).map(LatencyCurve.of)


def test_where_rows_cost_nothing_the_speedup_is_steps_over_rounds() -> None:
    assert predict_run(FLAT, TRACE).speedup == pytest.approx(10 / 4.5)


def test_where_rows_cost_in_proportion_one_device_pays_the_ratio_of_evaluations() -> None:
    found = predict_run(LINE, TRACE)
    assert (found.evaluations, found.cost) == (16.5, pytest.approx(1.65))
    assert found.speedup == pytest.approx(1 / 1.65)


def test_rows_are_shared_up_to_one_and_rounds_are_added_up_as_they_were() -> None:
    # 2, 2, 2, 2 rows a device; 2, 2, 2, 2, 1
    assert call_seconds(LINE, TRACE, 2) == pytest.approx(0.5 * (8 + 9) / 2)
    # 3 devices: 2, 2, 2, 1; 2, 2, 2, 2, 1
    assert call_seconds(LINE, TRACE, 3) == pytest.approx(0.5 * (7 + 9) / 2)


def test_more_devices_than_rows_give_a_round_a_row() -> None:
    assert call_seconds(LINE, TRACE, 64) == pytest.approx(0.5 * 4.5)


def test_every_device_sends_its_rows_to_all_others() -> None:
    link = Link("slow", speed=100.0, lag=0.25)
    # 5 rows on 2 devices: 3 rows of 50 bytes to one other device; on 4: 2 rows to three
    assert link.gather(5, 2, 50.0) == pytest.approx(0.25 + 1.5)
    assert link.gather(5, 4, 50.0) == pytest.approx(3 * (0.25 + 1.0))
    assert link.gather(5, 1, 50.0) == 0


def test_a_round_pays_the_link_and_what_is_outside_the_model() -> None:
    trace = Trace(10, 4, 1, TRACE.runs, size=50.0, outside=0.125)
    slow = Link("slow", speed=100.0, lag=0.25)
    wire = (4 * (0.25 + 1.0) + 4 * (0.25 + 1.0) + 0.25 + 0.5) / 2  # the last round of the second run has a row a device
    found = predict_run(LINE, trace, 2, slow)
    assert found.communication == pytest.approx(wire)
    assert found.seconds == pytest.approx(0.5 * 8.5 + wire + 0.125 * 4.5)


def test_several_devices_begin_a_call_once() -> None:
    link = Link("slow to begin", inf, 0.0, call=0.25)
    assert call_seconds(LINE, TRACE, 2, link) == pytest.approx(0.25 + call_seconds(LINE, TRACE, 2))
    assert call_seconds(LINE, TRACE, 1, link) == call_seconds(LINE, TRACE, 1)
    assert predict_run(LINE, TRACE, 2, link).communication == 0


def test_a_single_step_pays_what_is_outside_the_model_too() -> None:
    trace = replace(TRACE, step=0.125)
    assert predict_run(FLAT, trace).speedup == pytest.approx(10 * 0.625 / (0.5 * 4.5))
    alone = best_window(FLAT, [replace(trace, outside=9.0)], 2)
    assert (alone.window, alone.seconds, alone.speedup) == (1, pytest.approx(10 * 0.625), pytest.approx(1.0))


def test_a_batch_is_compared_with_a_sequential_batch() -> None:
    trace = Trace(10, 4, 3, ((12, 12, 6),))
    assert predict_run(FLAT, trace).speedup == pytest.approx(10 / 3)
    assert predict_run(LINE, trace).speedup == pytest.approx(1.0)
    assert predict_run(LINE, trace).sample == pytest.approx(0.5 * 10)
    assert predict_run(FLAT, trace, 8).device_hours == pytest.approx(8 * 1.5 / 3 * 1000 / 3600)


def test_net_speedup_is_efficiency_over_cost_where_all_rounds_are_equal() -> None:
    trace = Trace(12, 4, 1, ((4,) * 5,))
    link = Link("some", 1e3, 0.01)
    latency = LatencyCurve((1, 4), (0.5, 0.8))
    whole = Trace(12, 4, 1, trace.runs, size=10.0)
    net = hardware_efficiency(latency, 4, 2, link, 10.0) / whole.cost
    assert predict_run(latency, whole, 2, link).speedup == pytest.approx(net)


@given(LATENCIES, traces(), st.integers(1, 40))
def test_at_no_cost_of_links_more_devices_are_never_slower(latency: LatencyCurve, trace: Trace, P: int) -> None:
    assert call_seconds(latency, trace, P + 1) <= call_seconds(latency, trace, P) * (1 + 1e-9)


@given(LATENCIES, traces(), st.integers(2, 40), st.sampled_from(list(LINKS.values())))
def test_a_link_only_ever_costs(latency: LatencyCurve, trace: Trace, P: int, link: Link) -> None:
    assert call_seconds(latency, trace, P, link) >= call_seconds(latency, trace, P, FREE)


@given(LATENCIES, traces(batch=2), traces(batch=2), st.integers(1, 64), st.sampled_from(list(LINKS.values())))
def test_the_best_is_never_slower_than_sequential(a: LatencyCurve, s: Trace, t: Trace, P: int, link: Link) -> None:
    found = best_window(a, [s, t], P, link)
    assert found.speedup >= 1 - 1e-9
    assert found.window == 1 or found.window in (s.window, t.window)


def test_the_plan_has_every_link_and_number_of_devices_and_one_device_once() -> None:
    found = plan_runs(LINE, [TRACE])
    assert [p.devices for p in found] == [1] + [P for _ in LINKS for P in DEVICES[1:]]
    assert {p.link for p in found} == set(LINKS)


@pytest.mark.parametrize(
    "how",
    [
        {"runs": ()},
        {"runs": ((4, 4),)},
        {"runs": ((4, 4, 5),)},
        {"runs": ((4, 4, -1, 4),)},
        {"runs": ((4, 4, 4),), "N": 0},
        {"runs": ((4, 4, 4),), "outside": -1.0},
        {"runs": ((4, 4, 4),), "size": inf},
        {"runs": ((4, 4, 4),), "step": -1.0},
    ],
)
def test_what_is_no_trace_is_refused(how: dict) -> None:
    with pytest.raises(ValueError, match="trace: given"):
        Trace(**{"N": 10, "window": 4, "batch": 1} | how)


def test_traces_of_two_chains_are_refused() -> None:
    with pytest.raises(ValueError, match="10 and 12 rows"):
        plan_runs(LINE, [TRACE, Trace(12, 4, 1, ((4, 4, 4),))])


# ---------------------------------------------------------------- the paper


@pytest.fixture(scope="module")
def groups() -> dict[str, list[Trace]]:
    return {name: planrun.read_traces(ROUNDS, name) for name in (THEIRS, OURS, LOOSE)}


@pytest.fixture(scope="module")
def published() -> Published:
    return Published.of(planrun.read_json(planrun.NAMED["sd2-a100"]), 48)


def test_a_fit_finds_the_numbers_that_made_the_points(groups: dict[str, list[Trace]]) -> None:
    truth = Fit(t0=0.05, t1=0.03, h0=0.0, h1=0.02)
    by_window = {t.window: t for t in groups[THEIRS]}
    points = tuple((P, w, truth.seconds(by_window[w], P)) for P in (1, 2, 5, 8) for w in (48, 80))
    found = fit(Published(50.0, 1000, points), groups[THEIRS])
    assert (found.t0, found.t1, found.h0, found.h1) == pytest.approx((0.05, 0.03, 0.0, 0.02), abs=1e-9)


def test_the_published_points_come_back_within_six_per_cent(
    groups: dict[str, list[Trace]], published: Published
) -> None:
    off = [abs(e) for *_, e in compared(published, groups[THEIRS], fit(published, groups[THEIRS]))]
    assert len(off) == 9
    assert max(off) < 0.06
    assert sum(off) / len(off) < 0.02


def test_the_papers_best_window_is_about_eighty_on_four_devices_and_more(
    groups: dict[str, list[Trace]], published: Published
) -> None:
    made = fit(published, groups[THEIRS])
    for P in range(4, 9):
        fastest = min(groups[THEIRS], key=lambda t: made.seconds(t, P))
        assert 64 <= fastest.window <= 112


def test_the_latency_that_ships_is_the_fits(groups: dict[str, list[Trace]], published: Published) -> None:
    made, about = fit(published, groups[THEIRS]), planrun.read_json(planrun.NAMED["sd2-a100"])
    assert about["seconds"] == pytest.approx(made.latency.seconds, rel=2e-3)
    assert list(about["round"].values()) == pytest.approx([made.h0, made.h1], rel=1e-2)


def test_a_point_without_its_trace_is_refused(groups: dict[str, list[Trace]], published: Published) -> None:
    with pytest.raises(ValueError, match=r"\[80\]"):
        fit(published, [t for t in groups[THEIRS] if t.window != 80])


# ---------------------------------------------------------------- the check against real runs


@given(st.integers(2, 8), st.integers(2, 64), st.floats(0, 1), st.floats(0, 1))
def test_the_links_of_the_check_take_as_long_as_sharing_out_did(P: int, most: int, least: float, all: float) -> None:
    link = linked([{1: least, most: all}], most, 1000.0, P, 0.5)
    slope = max(all - least, 0) / (most - 1)
    found = link.gather(P, P, 1000.0), link.gather(P * most, P, 1000.0)
    if all < least:
        assert found == pytest.approx(((least + all) / 2,) * 2, abs=1e-9)
    else:
        assert found == pytest.approx((max(least, slope), max(all, most * slope)), abs=1e-9)
    assert link.call == 0.5


def test_the_check_predicts_runs_of_one_process_and_of_two() -> None:
    text, found = check(("digits ddim 8 4",), (1, 2), 1)
    assert [(e["processes"], e["window"]) for e in found] == [(1, 4), (1, 1), (2, 4)]
    assert all(e["off"] == pytest.approx(e["predicted"] / median(e["measured"]) - 1) for e in found)
    assert all(s > 0 for e in found for s in (*e["T"], e["outside"], *e["measured"]))
    alone, _, shared = found
    # shared["call"] is a difference of seconds: on a busy machine of any sign
    assert alone["call"] == alone["lag"] == 0 != shared["call"]
    assert alone["rows"] == [1, 2, 4] and shared["rows"] == [1, 2]  # of four rows each rank has two
    assert "| digits | ddim-8 |" in text


# ---------------------------------------------------------------- files and the command line


def call(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `paradigms args`."""
    result = CliRunner().invoke(cli.app, list(args))
    return result.exit_code, result.stdout, result.stderr


def test_a_recorded_run_is_planned_and_written(tmp_path: Path) -> None:
    code, *_ = call(
        "sample", "digits", "--rule", "ddim", "--steps", "12", "--window", "4", "--batch", "2", "--out", str(tmp_path)
    )
    assert code == 0
    kept = json.loads((tmp_path / "trace.json").read_text())
    (trace,) = planrun.read_traces(tmp_path / "trace.json")
    assert (trace.N, trace.batch, trace.rounds, trace.evaluations) == (12, 2, kept["rounds"], kept["evaluations"])
    latency = tmp_path / "latency.json"
    latency.write_text(json.dumps({"rows": [1, 8], "seconds": [0.1, 0.1], "shape": [1, 16, 16]}))
    how = ("--latency", str(latency), "--devices", "1,2", "--links", "free", "--out", str(tmp_path))
    code, _, err = call("plan", str(tmp_path / "trace.json"), *how)
    assert (code, err) == (0, "")
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "plan.json").read_text())
    assert [p["devices"] for p in found["plan"]] == [1, 2]
    expected = predict_run(LatencyCurve((1, 8), (0.1, 0.1)), trace)
    assert found["plan"][0]["speedup"] == pytest.approx(max(expected.speedup, 1.0))
    assert found["traces"][0]["size"] == 4 * 256


def test_a_pipelines_rounds_follow_from_what_it_accepted(tmp_path: Path) -> None:
    run = {"pipeline": "P", "scheduler": "S", "rows": 10, "batch": 2, "window": 4, "accepted": [2, 4, 3, 1]}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run | {"seconds": 3.0, "model_seconds": 2.0}))
    (trace,) = planrun.read_traces(path)
    assert trace.runs == ((8, 8, 8, 2),)  # from rows 0, 2, 6, 9
    assert trace.outside == pytest.approx(0.25)


def test_the_plan_is_measured_where_nothing_is_recorded(tmp_path: Path) -> None:
    how = ("--model", "digits", "--rule", "ddim", "--steps", "8", "--windows", "2,4", "--devices", "1,8")
    code, out, err = call("plan", *how, "--links", "NVLink,1G", "--out", str(tmp_path))
    assert code == 0, err
    found = json.loads((tmp_path / "plan.json").read_text())
    assert [t["window"] for t in found["traces"]] == [2, 4]
    assert [(p["devices"], p["link"]) for p in found["plan"]] == [(1, "free"), (8, "NVLink"), (8, "1G")]
    assert "1G" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("[1]", "needed: an object"),
        ('{"rows": [1]}', "it has no"),
        (
            '{"rows": 10, "batch": 1, "model": "m", "rule": "r", "trace": [[0, 4, -3]], "seconds": 1}',
            "is no trace",
        ),
        ('{"rows": "4", "batch": 1, "model": "m", "rule": "r", "trace": [[0, 4]]}', "are not those of a run"),
        ('{"groups": {"a": []}}', "--group"),
        ('{"groups": {"a": [{"N": 10, "window": 4, "batch": 1, "runs": [[-1, 20]]}]}}', "--group"),
    ],
)
def test_a_bad_trace_is_told_in_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "trace.json"
    if content is not None:
        path.write_text(content)
    code, out, err = call("plan", str(path), "--latency", "sd2-a100", "--out", str(tmp_path / "out"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"rows": [-1], "seconds": [1]}',
        '{"seconds": [1]}',
        '{"rows": [1], "seconds": [1], "shape": [1e400]}',
        '{"rows": ["a"], "seconds": [1]}',
    ],
)
def test_a_bad_latency_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(content)
    code, out, err = call("plan", str(ROUNDS), "--group", OURS, "--latency", str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is no latency" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--devices", "0"), "--devices"),
        (("--devices", "one"), "--devices"),
        (("--links", "carrier pigeon"), "--links"),
        (("--windows", "-4"), "--windows"),
        (("--batch", "0"), "--batch"),
        (("--model", "nothing"), "there is no model"),
        ((str(ROUNDS), "--group", OURS), "--latency is missing"),
        ((str(ROUNDS), "--latency", "sd2-a100"), "type --group"),
    ],
)
def test_bad_options_are_told_in_one_line(args: tuple[str, ...], said: str) -> None:
    code, out, err = call("plan", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_rows_of_a_group_are_what_a_device_evaluates(groups: dict[str, list[Trace]]) -> None:
    for trace in groups[OURS]:
        assert call_seconds(LINE, trace, 8) == pytest.approx(
            0.5 * sum(ceil(m / 8) for run in trace.runs for m in run) / len(trace.runs)
        )


def test_what_a_file_calls_itself_moves_no_cursor(tmp_path: Path) -> None:
    """B13: a file's own words are shown as one plain line."""
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({"rows": [1, 8], "seconds": [0.1, 0.2], "about": "\x1b[31mred\n" + "x" * 500}))
    about = planrun.read_curve(str(path)).about
    assert about.isprintable() and len(about) <= 120
