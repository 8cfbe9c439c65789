"""The frontier: its analysis on data with a known answer, its outside reference, its resuming, its noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import paradigms as pd
from benchmarks.app import bench
from benchmarks.core import frontier, glance, matched, outside, problems
from benchmarks.core.contestants import Contestant
from benchmarks.core.problems import Cell
from paradigms.methods.work import Update
from paradigms.stopping.step_noise import StepNoise


def point(rounds: float, evaluations: float, error: float, tolerance: float = 0.01) -> dict[str, float]:
    return {
        "tolerance": tolerance,
        "rounds": rounds,
        "max rounds": rounds,
        "evals / N": evaluations,
        "max error": error,
        "median error": error / 2,
    }


def cell(rule: str = "DDPM-100", **methods: Any) -> dict[str, Any]:
    facts = {"problem": "made-up", "rule": rule, "window": 32, "batch": 2, "N": 100}
    return {**facts, "methods": methods}


NAMES = ["ParaDiGMS", "swift", "thrifty", "lawful", "diffusers"]
MADE_UP = {
    "made-up/DDPM-100/w32": cell(
        ParaDiGMS={"points": [point(20, 4, 0.02), point(30, 6, 0.008), point(40, 8, 0.0009)]},
        swift={"points": [point(8, 2, 0.011, 0.1), point(12, 3, 0.004, 0.01), {"tolerance": 0.001, "failed": "nan"}]},
        thrifty={"points": [point(12, 1.5, 0.0099)]},
        lawful={"law": True, "points": [point(9, 1.1, 1.3, 0.0)]},
        diffusers={"points": [point(5, 1, 1e-5)]},
    ),
    "made-up/DDIM-50/w32": cell("DDIM-50", swift={"points": [point(6, 2, 0.0005, 0.001)]}),
}


def test_the_least_rounds_within_the_limit_win_and_evaluations_break_a_tie() -> None:
    here = matched.rivals(MADE_UP, NAMES)["1"]["made-up/DDPM-100/w32"]
    assert {m: p["rounds"] for m, p in here["best"].items()} == {
        "ParaDiGMS": 30,
        "swift": 12,
        "thrifty": 12,
        "lawful": 9,
        "diffusers": 5,
    }
    assert here["winner"] == "thrifty"
    assert here["ratio"]["swift"] == pytest.approx(0.4)


def test_a_limit_nobody_measured_within_is_missed_and_not_interpolated() -> None:
    here = matched.rivals(MADE_UP, NAMES)["0.1"]
    assert here["made-up/DDPM-100/w32"]["missed"] == ["swift", "thrifty"]
    assert here["made-up/DDPM-100/w32"]["winner"] == "ParaDiGMS"
    assert here["made-up/DDIM-50/w32"]["winner"] == "swift"
    assert here["made-up/DDIM-50/w32"]["ratio"] == {}


def test_calibration_is_what_was_found_over_what_was_asked() -> None:
    found = matched.calibration(MADE_UP, ["swift", "absent"])
    assert list(found) == ["swift"]
    assert found["swift"]["points"] == 3
    assert found["swift"]["median"] == pytest.approx(0.4)  # of 0.11, 0.4, 0.5
    assert (found["swift"]["worst"], found["swift"]["kept"]) == (pytest.approx(0.5), 1.0)
    assert found["swift"]["where"] == "made-up/DDIM-50/w32 at 0.001"


def test_the_report_says_who_won_who_missed_and_what_few_steps_would_have_given() -> None:
    data = {"cells": MADE_UP, "few-step": {"made-up/DDPM-100/2": {"12": {"max error": 0.321}}}}
    found = {"limits": matched.rivals(MADE_UP, NAMES), "calibration": matched.calibration(MADE_UP, ["swift"])}
    text = {heading.split(":")[0]: body for heading, body in matched.sections(data, NAMES, found)}
    (row,) = [line for line in text["Every cell at 1 %"].splitlines() if "DDPM" in line]
    assert [v.strip() for v in row.split("|")[2:-1]] == [
        "30.0, 30 (6.0)",
        "12.0, 12 (3.0)",
        "**12.0, 12 (1.5)**",
        "9.0, 9 (1.1) in law",
        "5.0, 5 (1.0)",
        "0.321",
        "0",
    ]
    (row,) = [line for line in text["Every cell at 0.1 %"].splitlines() if "DDPM" in line]
    assert row.count("missed") == 2


def test_the_short_report_sets_ours_beside_the_best_other() -> None:
    limits = matched.rivals(MADE_UP, NAMES)
    shown = glance.at_a_glance({"cells": MADE_UP, "few-step": {}}, limits, ["swift"])
    assert "| 30.0 (6.0)     | 12.0 (1.5) thrifty | 12.0 (3.0) |" in shown  # neither the outside run nor the lawful one
    shares = glance.by_share(MADE_UP, limits, ["swift"])
    assert "| 1 %           | 1/6 to 1/3     | 1     | 1 " in shares


@pytest.mark.parametrize("rule", ["DDIM-20", "DDPM-20"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_diffusers_own_loop_at_no_tolerance_is_our_sequential_sampler(rule: str, guidance: float) -> None:
    problem = problems.problem("mixture-64") if guidance == 1 else problems.problem("digits-guided")
    make = pd.ddim if rule.startswith("DDIM") else pd.ddpm
    system = make(pd.linear(), 20, prediction=problem.prediction)
    x, noise = problems.draw(problem, system, 1)
    condition = problem.condition(1)
    reference = pd.sequential(problem.model, system, x, noise=noise, condition=condition)
    made = outside.scheduler(rule, 20, problem.prediction)
    start = outside.Start(x, noise, condition)
    run = outside.loop(made, problem.model, start, window=8, tolerance=1e-6)
    torch.testing.assert_close(run.x, reference, atol=3e-4, rtol=0)
    assert 20 / 8 < run.rounds <= 20 < run.evaluations
    assert outside.agree(made, problem.model, start, reference) < outside.AGREE
    with pytest.raises(RuntimeError, match=r"from ours; needed: at most 0\.0001"):
        outside.agree(made, problem.model, start, reference + 0.01)


def test_a_loose_tolerance_outside_takes_the_fewest_rounds_there_are() -> None:
    problem = problems.problem("mixture-64")
    x, _ = problems.draw(problem, problem.system("DDIM-50"), 1)
    start = outside.Start(x, None, {})
    run = outside.loop(outside.scheduler("DDIM-50", 50, "x0"), problem.model, start, window=10, tolerance=1e6)
    # 5 windows of 10; the last state, in units of no noise at all, is never settled: its row is done once more, alone
    assert (run.rounds, run.evaluations) == (6, 51) or (run.rounds, run.evaluations) == (5, 50)


def test_noise_of_the_few_step_sampler_is_the_long_chains_summed() -> None:
    problem = problems.problem("mixture-64")
    fine = problem.system("DDPM-100")
    x, noise = problems.draw(problem, fine, 8)
    same = problems.coupled(fine, fine, x, noise)
    torch.testing.assert_close(same["x"], x)
    torch.testing.assert_close(same["noise"][:-1], noise[:-1], atol=1e-5, rtol=0)
    short = problem.system("DDPM-100", 50)  # every second timestep: with D held fixed the sums are exact
    how = problems.coupled(fine, short, x, noise)
    assert float(how["noise"][:-1].std()) == pytest.approx(1, abs=0.03)

    def held(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 0.3)

    ends = [pd.sequential(held, short, **how), pd.sequential(held, fine, x, noise=noise)]
    torch.testing.assert_close(*ends)
    few = [pd.sequential(problem.model, short, **h) for h in (how, {"x": x, "noise": noise[:50]})]
    reference = pd.sequential(problem.model, fine, x, noise=noise)
    near, chance = (float(frontier.errors(f, reference)["median error"]) for f in few)
    assert near < chance / 3


def test_a_sweep_ends_at_the_tightest_limit_and_a_promise_is_swept_to_the_end() -> None:
    small = Cell("mixture-64", "DDPM-100", 32, 2)
    make = frontier.CONTESTANTS[0].make
    stage = frontier.Stage(small)
    tight = (1e-2, 1e-3, 1e-4)
    assert len(frontier.measure(small, Contestant("", make, tight), stage)) == 1
    assert len(frontier.measure(small, Contestant("", make, tight, promises=True), stage)) == 3


def test_a_method_that_leaves_the_finite_numbers_is_told_and_not_fatal() -> None:
    class Burst(pd.AbstractMethod):
        def sweep(self, system: Any, work: Any, evaluate: Any, memory: Any) -> Any:
            (D,) = evaluate(work.x[:-1])
            return Update(work.x[1:] * 1e30, D, work.x[1:], work.live), memory

    small = Cell("mixture-64", "DDIM-50", 50, 2)
    contestant = Contestant("burst", lambda t: (Burst(), StepNoise(t)), (0.1,))
    (found,) = frontier.measure(small, contestant, frontier.Stage(small))
    assert "not finite" in str(found["failed"])


def test_the_command_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: Any) -> Any:
        raise AssertionError("measured again")

    stage = frontier.Stage
    frontier.main(tmp_path, quick=True)
    folder = tmp_path / "quick"
    first = (folder / "frontier.json").read_text()
    found = json.loads(first)
    assert len(found["cells"]) == 2
    assert all(len(c["methods"]) == 3 for c in found["cells"].values())
    assert {p.name for p in folder.iterdir()} >= {"frontier.md", "frontier-mixture-64.png"}

    monkeypatch.setattr("benchmarks.plots.frontier.pictures", lambda *_: [])
    monkeypatch.setattr(frontier, "Stage", no_more)
    frontier.main(tmp_path, quick=True)
    assert (folder / "frontier.json").read_text() == first

    monkeypatch.setattr(frontier, "Stage", stage)
    seen: list[str] = []
    measure = frontier.measure
    monkeypatch.setattr(frontier, "measure", lambda cell, c, stage: seen.append(c.name) or measure(cell, c, stage))
    frontier.main(tmp_path, quick=True, again=("ParaDiGMS",))
    assert seen == ["ParaDiGMS"] * 2

    other = (Contestant("ParaDiGMS", lambda t: (pd.Jacobi(), StepNoise(t))), frontier.CONTESTANTS[1])
    seen.clear()
    frontier.main(tmp_path, quick=True, contestants=other)
    assert seen == ["ParaDiGMS"] * 2


def test_two_runs_side_by_side_keep_each_others_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo, measure = problems.cells(quick=True), frontier.measure
    quick = (Contestant("ParaDiGMS", frontier.CONTESTANTS[0].make, (0.1,), rule="DDPM"),)
    monkeypatch.setattr(frontier, "measure_outside", lambda *_: [])

    def while_another_writes(cell: Cell, c: Contestant, stage: frontier.Stage) -> Any:
        monkeypatch.setattr(frontier, "measure", measure)
        frontier.run(tmp_path, todo[1:], quick)
        return measure(cell, c, stage)

    monkeypatch.setattr(frontier, "measure", while_another_writes)
    found = frontier.run(tmp_path, todo[:1], quick)
    assert set(found["cells"]) == {c.name for c in todo}
    assert frontier.recall(tmp_path) == found


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frontier.json").write_text("[1]")
    with pytest.raises(ValueError, match="is not a frontier to go on with"):
        frontier.recall(tmp_path)
    with pytest.raises(ValueError, match="--again is 'picard'; type one of 'ParaDiGMS'"):
        frontier.named(["picard"])
    with pytest.raises(ValueError, match="--only is 'ddpm9'; type a part of a name such as mixture-64/DDPM-100/w8"):
        problems.cells(only="ddpm9")


def test_the_command_line_plans_runs_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*options: str) -> tuple[int, str]:
        found = CliRunner().invoke(bench, ["frontier", "--out", str(tmp_path), *options])
        return found.exit_code, found.output

    code, text = told("--plan", "--quick")
    assert code == 0
    assert "mixture-64/DDPM-100/w32" in text
    assert not list(tmp_path.iterdir())
    code, text = told("--only", "ddpm9")
    assert (code, text.count("\n")) == (2, 1)
    code, text = told("--again", "picard")
    assert (code, text.count("\n")) == (2, 1)
    seen: list[Any] = []
    monkeypatch.setattr(frontier, "main", lambda *given: seen.append(given))
    assert told("--only", "scenes/DDIM", "--again", "diffusers")[0] == 0
    assert seen == [(tmp_path, False, "scenes/DDIM", ("diffusers",), frontier.CONTESTANTS)]
    assert told("--ablate", "--quick")[0] == 0 and seen[1][0] == tmp_path / "ablation"


def test_without_diffusers_the_race_is_run_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ode, multistep = (Cell("mixture-64", rule, 8, 2) for rule in ("DDIM-50", "DPMSolver-20"))
    every = frontier.CONTESTANTS[:2]
    assert [name for name, *_ in frontier.jobs(ode, every)] == ["ParaDiGMS", "Picard, extrapolated", "diffusers"]
    assert [name for name, *_ in frontier.jobs(multistep, every)] == ["ParaDiGMS", "Picard, extrapolated"]
    monkeypatch.setattr(outside, "find_spec", lambda name: None)
    assert [name for name, *_ in frontier.jobs(ode, every)] == ["ParaDiGMS", "Picard, extrapolated"]


def test_the_plan_has_every_cell_once_and_no_window_longer_than_its_chain() -> None:
    todo = problems.cells()
    assert len({c.name for c in todo}) == len(todo)
    assert all(c.window <= c.rows for c in todo)
    assert {c.rule for c in todo} == set(problems.RULES)
    assert {c.problem for c in todo} == set(problems.MAKE)
    lines = frontier.plan(problems.cells(only="scenes/DDPM-1000"), frontier.CONTESTANTS).splitlines()
    assert len(lines) == 2 + 1 + 1
