"""It counts what is within the asked error, sees what 0.1.0 got wrong, and can be stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import paradigms as pd
from benchmarks.core import kept, problems
from benchmarks.core import kept_report as keptreport
from benchmarks.core.problems import Cell
from paradigms.solution import relative_error
from problems import LINEAR, seeded

CELL = Cell("two-2", "DPMSolver-20", 8, 8)


def test_two_gaussians_answer_the_score_of_their_density() -> None:
    model, t = problems.two_gaussians(5, 7).model, torch.tensor([30, 400, 400, 990])
    x = torch.randn(4, 5, generator=seeded(0), dtype=torch.float64).requires_grad_()
    alpha, sigma = LINEAR.alpha[t], LINEAR.sigma[t]
    parts = torch.distributions.Independent(
        torch.distributions.Normal(
            alpha[:, None, None] * model.means,  # type: ignore[attr-defined]
            ((0.3 * alpha) ** 2 + sigma**2).sqrt()[:, None, None].expand(4, 2, 5),
        ),
        1,
    )
    law = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(4, 2)), parts)
    (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    assert torch.allclose(model(x.detach(), t), -sigma[:, None] * score, rtol=1e-9)


def test_the_frozen_release_answers_another_sample_and_calls_it_converged() -> None:
    """A1 of the cases: asked 0.003, got 1.2."""
    mu = torch.randn(2, 64, generator=seeded(119499), dtype=torch.float64)

    def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, s = LINEAR.alpha[t][:, None], LINEAR.sigma[t][:, None]
        v = (0.3 * a) ** 2 + s**2
        d = x[:, None] - a[:, None] * mu
        w = torch.softmax(-d.square().sum(-1) / (2 * v), 1)[..., None]
        return (x - a * (w * (mu + (a * 0.09 / v)[:, None] * d)).sum(1)) / s

    x = torch.randn(16, 64, generator=seeded(119499), dtype=torch.float64)
    method, stop = kept.WAYS[0].make(0.003)
    run = pd.sample(model, pd.ddpm(LINEAR, 50), x, method, window=16, tolerance=stop, generator=seeded(1), compare=True)
    assert run.converged and run.max_error is not None and run.max_error > 100 * 0.003


def test_every_problem_of_the_frontier_and_four_with_modes_are_cells() -> None:
    found = kept.cells()
    assert {c.name for c in problems.planned(problems.PLAN)} < {c.name for c in found}
    assert {c.problem for c in found} - set(problems.MAKE) == {"two-2", "two-16", "two-64", "two-256"}
    costs = [c.run / c.batch / kept.made(c, 0).per_second for c in found]
    assert costs == sorted(costs) and found[-1].problem == "scenes"
    assert all(kept.SEEDS[name] != seed for name, seed in (("tune", kept.SEEDS["report"]), ("report", 119499)))


def test_other_seeds_are_other_gaussians_and_the_same_seed_the_same_samples() -> None:
    one, same, other = (kept.Batch(CELL, seed) for seed in (5, 5, 6))
    assert torch.equal(one.reference, same.reference) and not torch.equal(one.x, other.x)
    assert not torch.equal(one.problem.model.means, other.problem.model.means)  # type: ignore[attr-defined]


def test_counts_are_those_of_the_samples(tmp_path: Path) -> None:
    data = kept.run(tmp_path, [CELL], "77", 40, math.inf)
    entry = data["cells"][CELL.name]
    assert list(entry["ways"]) == ["0.1.0", "today"] and list(entry["ways"]["today"]["batches"]) == ["77", "78"]
    found = keptreport.point(entry, "today", "0.003")
    assert found is not None
    within, worst, rounds, evaluations = 0, 0.0, 0, 0
    for seed in (77, 78):
        p = problems.two_gaussians(2, seed)
        x = (system := p.system(CELL.rule)).noise((20, 2), seeded(seed))
        run = pd.sample(p.model, system, x, window=CELL.window, tolerance=0.003)
        multiple = relative_error(run.x, pd.sequential(p.model, system, x)) / 0.003
        within, worst = within + int((multiple <= 1).sum()), max(worst, float(multiple.max()))
        rounds, evaluations = rounds + int(run.sample_rounds.sum()), evaluations + run.evaluations
    assert (found["within"], found["samples"]) == (within, 40) and abs(found["worst"] - worst) < 1e-3
    assert found["rounds"] == rounds / 40 and found["evals / N"] == evaluations / 40 / 20


def test_it_goes_on_where_it_was_stopped_and_measures_anew_what_other_code_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept.run(tmp_path, [CELL], "77", 20, 0)["cells"] == {}  # no time, nothing measured
    kept.run(tmp_path, [CELL], "77", 20, math.inf)
    worked: list[tuple[int, str]] = []
    measure = kept.Batch.measure

    def counted(self: kept.Batch, way: kept.Way, tolerance: float) -> dict[str, Any]:
        worked.append((int(self.x.shape[0]), way.name))
        return measure(self, way, tolerance)

    monkeypatch.setattr(kept.Batch, "measure", counted)
    kept.run(tmp_path, [CELL], "77", 20, math.inf)
    assert not worked
    kept.run(tmp_path, [CELL], "77", 40, math.inf)
    assert worked == [(20, "0.1.0")] * 3 + [(20, "today")] * 3
    path = tmp_path / "kept-77.json"
    data = json.loads(path.read_text())
    data["cells"][CELL.name]["ways"]["today"]["settings"] = "other code"
    path.write_text(json.dumps(data))
    worked.clear()
    kept.run(tmp_path, [CELL], "77", 20, math.inf)
    assert worked == [(20, "today")] * 3


def test_comments_and_docstrings_are_no_other_code(tmp_path: Path) -> None:
    texts = 'def f():\n    """One."""\n    return 1\n', "def f():\n    return 1  # one\n", "def f():\n    return 2\n"
    told = []
    for text in texts:
        (tmp_path / "f.py").write_text(text)
        told.append(kept.Way("f", kept.WAYS[1].make, lambda: [tmp_path / "f.py"]).settings())
    assert told[0] == told[1] != told[2]


def test_the_report_names_the_samples_that_missed_and_never_rounds_up_to_all(tmp_path: Path) -> None:
    points = {"samples": 1000, "kept": 999, "silent": 1, "warned": 0, "worst": 3.5, "rounds": 5000, "max rounds": 9}
    points |= {"evals": 40000, "missed": [[17, 3.5]]}
    good = points | {"kept": 1000, "silent": 0, "worst": 0.5, "rounds": 4000, "missed": []}
    cell = {
        "problem": "p", "rule": "r", "window": 8, "N": 20,
        "ways": {"today": {"batches": {"9": {"0.01": points}}}, "0.1.0": {"batches": {"9": {"0.01": good}}}},
    }  # fmt: skip
    text = dict(keptreport.sections({"p/r/w8": cell}, "today", "0.1.0"))
    assert "| 99.9 " in text["Totals"] and "| 1.25 " in text["Totals"]
    assert [part.strip() for part in text["Furthest off"].splitlines()[-1].strip("|").split("|")] == [
        "p/r/w8", "0.01", "9", "17", "3.50",
    ]  # fmt: skip
    failed = {"samples": 1000, "kept": 0, "failed": "not finite"}
    cell["ways"]["today"]["batches"]["10"] = {"0.01": failed}  # type: ignore[index]
    found = keptreport.point(cell, "today", "0.01")
    assert found is not None and found["worst"] == math.inf and found["kept"] == 999 / 2000


@pytest.mark.parametrize("seeds", ["", "best", "-1", "1.5"])
def test_seeds_that_are_none_are_refused(seeds: str) -> None:
    with pytest.raises(ValueError, match="type tune or report, or a whole number"):
        kept.first(seeds)


def test_a_file_that_is_none_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("[]")
    with pytest.raises(ValueError, match="nothing to go on with"):
        kept.recall(tmp_path / "kept.json")
