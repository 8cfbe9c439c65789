"""The promises of the core on random cases; `python -m benchmarks random` runs ten thousand others by hand."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import paradigms as pd
from benchmarks.core import promises
from benchmarks.core import random_cases as randomcases
from benchmarks.core.promises import Found, check
from benchmarks.core.random_cases import Case
from paradigms.solution import relative_error
from problems import LINEAR, seeded

HARD, SEEDS = 80, range(1000, 1060)  # cases of the suite


# random networks are no velocities: some look like one of the other direction of time
pytestmark = pytest.mark.filterwarnings("ignore::paradigms.DirectionWarning")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A case, each value of it drawn by hypothesis, which shrinks to the first values."""
    seed = draw(st.integers(0, 2**20))
    return randomcases.draw(lambda options: draw(st.sampled_from(list(options))), seed)


@settings(max_examples=HARD, deadline=None, derandomize=True)
@given(cases())
def test_random_cases_are_exact_at_tolerance_0_counted_right_and_end(case: Case) -> None:
    """18, point 5: whatever rule, options, model, window, method, dtype, noise and condition."""
    assert not check(case).broken


@pytest.mark.parametrize("seed", [51198, 53062, 56029, 57059])
def test_what_an_estimate_let_through_is_exact_at_tolerance_0(seed: int) -> None:
    """Of `python -m benchmarks random`: constant at first (2e-6), unlimited Anderson steps (2e-9 to 2e-5)."""
    found = check(promises.drawn(seed))
    assert not found.broken and not found.unsettled


def test_a_chain_that_multiplies_rounding_is_neither_kept_nor_broken() -> None:
    """A clip of DDIM multiplies what is cut off: a unit in the last place of the model moves the sample by 1e-3."""
    found = check(promises.drawn(57991))
    assert found.unsettled == 3 and not found.broken and not found.multiples


def test_random_samples_are_within_the_error_asked_for() -> None:
    """18, point 5: the stated share of them; and no promise of these cases is broken."""
    drawn = [replace(promises.drawn(seed), tolerance=(0.003, 0.01, 0.001)[seed % 3], max_rounds=None) for seed in SEEDS]
    found = [check(case) for case in drawn]
    assert not [f.broken for f in found if f.broken]
    multiples = [m for f in found for m in f.multiples]
    assert len(multiples) > 100 and sum(m <= 1 for m in multiples) >= promises.SHARE * len(multiples), max(multiples)


def test_all_rules_methods_models_and_kinds_of_noise_are_drawn() -> None:
    drawn = [promises.drawn(seed) for seed in range(400)]
    for name, least in (("rule", 7), ("schedule", 6), ("model", 4), ("dtype", 3), ("noise", 4), ("condition", 3)):
        assert len(Counter(getattr(case, name) for case in drawn)) == least
    assert {type(case.method).__name__ for case in drawn} >= {
        "NoneType", "Jacobi", "Picard", "ExponentialPicard", "Anderson", "QuasiNewton", "Spectral", "Parareal",
        "Speculation",
    }  # fmt: skip
    assert sum(case.tolerance == 0 for case in drawn) > 80
    refused = sum(check(replace(case, max_rounds=1)).refused for case in drawn[:100])
    assert refused < 20, "or what is drawn is mostly no problem"


@pytest.mark.parametrize("rule", ["ddpm", "ddim"])
def test_the_exact_model_of_modes_is_the_score_of_their_density(rule: str) -> None:
    case = replace(promises.drawn(3), rule=rule, options=(("prediction", "epsilon"),), model="modes", modes=3)
    case = replace(case, shape=(2, 2), schedule="linear", condition="none", width=0.3)
    net, t = randomcases.Net(case), torch.tensor([20, 500, 990])
    x = torch.randn(3, 2, 2, generator=seeded(0), dtype=torch.float64).requires_grad_()
    alpha, sigma = LINEAR.alpha[t], LINEAR.sigma[t]
    spread = ((0.3 * alpha) ** 2 + sigma**2).sqrt()[:, None, None].expand(3, 3, 4)
    parts = torch.distributions.Normal(alpha[:, None, None] * net.means, spread)
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(3, 3)), torch.distributions.Independent(parts, 1)
    )
    (score,) = torch.autograd.grad(law.log_prob(x.flatten(1)).sum(), x)
    assert torch.allclose(net(x.detach(), t), -sigma[:, None, None] * score, rtol=1e-9)


BASE = dict(
    seed=1, schedule="linear", rule="ddpm", steps=20, options=(("prediction", "epsilon"),), model="modes", modes=2,
    width=0.3, apart=1.0, shape=(6,), batch=2, dtype="float64", noise="one generator", condition="none", method=None,
    window=6, tolerance=0.0, verify=False, max_rounds=None,
)  # fmt: skip


def spoiled(monkeypatch: pytest.MonkeyPatch, change: Any, **of: Any) -> Found:
    """What is found of a case whose solution was changed."""
    sample = promises.sample

    def other(model: Any, *args: Any, **how: Any) -> Any:
        return change(sample(model, *args, **how), how)

    assert not check(Case(**(BASE | of))).broken
    monkeypatch.setattr(promises, "sample", other)
    return check(Case(**(BASE | of)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_sample_that_is_off_by_more_than_rounding_is_found(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    off = 2 * promises.EXACT[randomcases.DTYPES[dtype]]
    found = spoiled(monkeypatch, lambda run, _: replace(run, x=run.x * (1 + off)), dtype=dtype)
    assert len(found.broken) == 1 and found.broken[0].startswith("tolerance 0: off by")


def test_a_wrong_count_a_wrong_end_and_a_moved_generator_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fewer(run: pd.Solution, how: dict[str, Any]) -> pd.Solution:
        last = run.records[-1]
        torch.rand(1, generator=how["generator"])
        return replace(run, records=(*run.records[:-1], last._replace(evaluations=last.evaluations - 1)))

    words = " ".join(spoiled(monkeypatch, fewer).broken)
    assert "evals: said" in words and "generator: not where" in words


def test_a_sample_that_stopped_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spoiled(monkeypatch, lambda run, _: replace(run, records=run.records[:-1]))
    assert any("not at the end" in words for words in found.broken)


def test_the_multiples_are_those_of_the_samples() -> None:
    case = Case(**(BASE | {"tolerance": 0.003, "noise": "given"}))
    found, problem = check(case), randomcases.Problem(case, randomcases.system(case))
    _, model, x, how, _ = problem.call()
    run = pd.sample(model, problem.system, x, window=6, tolerance=0.003, **how)
    error = relative_error(run.x, pd.sequential(model, problem.system, x, **how))
    assert found.multiples == pytest.approx((error / 0.003).tolist())


def test_a_run_goes_on_where_it_was_stopped_and_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def found(case: Case) -> Found:
        seen.append(case.seed)
        return Found(["a promise"], [0.5, 2.0]) if case.seed == 12 else Found([], [0.5])

    monkeypatch.setattr(promises, "check", found)
    promises.run(tmp_path, 10, 2, 1)
    with pytest.raises(SystemExit, match="1"):
        promises.main(tmp_path, 10, 5, 1)
    assert seen == [10, 11, 12, 13, 14]
    said = capsys.readouterr()
    assert "python -m benchmarks random --seed 12 --cases 1: a promise" in said.err
    data = json.loads((tmp_path / "random-10.json").read_text())
    assert (data["cases"], data["samples"], data["kept"], data["worst"]) == (5, 6, 5, 2.0)
    assert data["missed"] == [[12, 1, 2.0]] and data["broken"] == [[12, "a promise"]]


def test_a_case_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hangs(case: Case) -> Found:
        raise TimeoutError("no end after 120 s")

    monkeypatch.setattr(promises, "check", hangs)
    assert promises.run(tmp_path, 0, 1, 1)["broken"] == [[0, "hangs: no end after 120 s"]]


def test_a_case_is_the_same_each_time() -> None:
    assert promises.drawn(5) == promises.drawn(5) == randomcases.draw(random.Random(5).choice, 5)
    assert promises.drawn(5) != promises.drawn(6)
