"""A solver that asks for rows asks for those of `sample`, and many of them can share the calls of one model."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from problems import LINEAR, METHODS, RULES, seeded, start
from toy import Mixture


def driven(solver, model: Callable[..., Tensor]) -> tuple[pd.Solution, list[pd.Rows]]:
    """What a solver ends with, and the rows that it asked for."""
    asked, answer = [], None
    while True:
        try:
            rows = next(solver) if answer is None else solver.send(answer)
        except StopIteration as end:
            return end.value, asked
        asked.append(rows)
        answer = model(rows.x, rows.t, **rows.condition)


def threads() -> int:
    return sum(t.name == "paradigms.steps" for t in threading.enumerate())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tolerance", [0.0, 0.003])
def test_it_is_sample_in_rounds_evaluations_and_result(rule: str, tolerance: float) -> None:
    system, model = RULES[rule](20), Mixture()
    x = start(system)
    found, asked = driven(pd.steps(system, x, window=8, tolerance=tolerance, generator=seeded(1)), model)
    wanted = pd.sample(Mixture(), system, x, window=8, tolerance=tolerance, generator=seeded(1))
    assert torch.equal(found.x, wanted.x)
    assert (found.rounds, found.evaluations, found.windows) == (wanted.rounds, wanted.evaluations, wanted.windows)
    assert sum(map(len, asked)) == wanted.evaluations == model.rows


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_any_method_can_ask(method: pd.AbstractMethod) -> None:
    system = RULES["ddim"](20)
    x = start(system)
    found, _ = driven(pd.steps(system, x, method, window=8), Mixture())
    assert torch.equal(found.x, pd.sample(Mixture(), system, x, method, window=8).x)


def test_rows_say_which_row_and_sample_they_are_and_what_the_model_is_told() -> None:
    system = RULES["heun"](10)
    x, label = start(system, dtype=torch.float32), torch.tensor([5, 7, 9])
    seen: list[Tensor] = []

    def model(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return Mixture()(x, t) * (1 + 0.01 * label[:, None])

    found, asked = driven(pd.steps(system, x, window=4, condition={"label": label}), model)
    for rows, labels in zip(asked, seen, strict=True):
        assert torch.equal(rows.t, system.to("cpu", torch.float32).t[rows.row])
        assert torch.equal(labels, label[rows.sample])
        assert len(rows) == len(rows.x) == len(rows.row)
    assert asked[0].row.tolist()[:3] == [0, 0, 0] and asked[0].sample.tolist()[:3] == [0, 1, 2]
    assert torch.equal(found.x, pd.sample(model, system, x, window=4, condition={"label": label}).x)


def test_many_users_share_calls_and_each_gets_their_own_sample() -> None:
    users = [
        (RULES[rule](N), tolerance, seed)
        for seed, (rule, N, tolerance) in enumerate([("ddim", 40, 0.003), ("ddpm", 30, 0.01), ("dpmsolver", 20, 0.0)])
    ]
    model, sizes = Mixture(), []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        sizes.append(len(x))
        return model(x, t)

    def solver(system: pd.System, tolerance: float, seed: int):
        x = system.noise((1, 6), seeded(seed), dtype=torch.float64)
        return pd.steps(system, x, window=16, tolerance=tolerance, generator=seeded(9 + seed))

    found = pd.together(counted, [solver(*user) for user in users])
    alone = [driven(solver(*user), Mixture())[0] for user in users]
    assert len(sizes) == max(each.rounds for each in alone) < sum(each.rounds for each in alone)
    assert sum(sizes) == sum(each.evaluations for each in alone)
    for one, other in zip(found, alone, strict=True):
        assert torch.allclose(one.x, other.x, atol=1e-12)
    sizes.clear()
    pd.together(counted, [solver(*user) for user in users], most=8)
    assert max(sizes) == 8
    assert threads() == 0


def test_a_window_may_be_asked_before_each_round() -> None:
    system, widths = RULES["ddim"](40), iter([2, 5, 9] + [4] * 99)
    x = start(system, B=1)
    found, asked = driven(pd.steps(system, x, window=lambda: next(widths)), Mixture())
    assert [len(rows) for rows in asked[:3]] == [2, 5, 9] and found.converged


def test_a_solver_that_is_closed_or_forgotten_ends_its_thread() -> None:
    system = RULES["ddim"](20)
    solver = pd.steps(system, start(system))
    assert threads() == 0, "nothing runs before it is asked for"
    next(solver)
    assert threads() == 1
    solver.close()
    assert threads() == 0
    solver = pd.steps(system, start(system))
    next(solver)
    del solver
    gc.collect()
    assert threads() == 0


def test_an_error_thrown_in_is_the_models_and_a_wrong_answer_is_refused() -> None:
    system = RULES["ddim"](20)
    solver = pd.steps(system, start(system))
    next(solver)
    with pytest.raises(KeyError, match="down"):
        solver.throw(KeyError("down"))
    solver = pd.steps(system, start(system))
    rows = next(solver)
    with pytest.raises(ValueError, match="model: given"):
        solver.send(rows.x[:1])
    solver = pd.steps(system, start(system))
    rows = next(solver)
    with pytest.raises(pd.NonFiniteError, match="row"):
        solver.send(rows.x * float("nan"))
    assert threads() == 0


def test_no_room_for_all_rows_is_answered_in_halves() -> None:
    system = RULES["ddim"](20)
    x = start(system)
    solver = pd.steps(system, x, window=8, tolerance=0)
    rows, model = next(solver), Mixture()
    half = solver.throw(torch.OutOfMemoryError("no room"))
    assert len(half) == len(rows) // 2
    while True:
        try:
            half = solver.send(model(half.x, half.t))
        except StopIteration as end:
            assert torch.allclose(end.value.x, pd.sequential(Mixture(), system, x), atol=1e-12)
            break


@pytest.mark.parametrize(
    "how, said", [({"window": "auto"}, "window"), ({"window": 0}, "window"), ({"tolerance": -1}, "tolerance")]
)
def test_what_cannot_be_solved_is_refused_before_anything_runs(how: dict, said: str) -> None:
    system = RULES["ddim"](20)
    with pytest.raises(ValueError, match=said):
        pd.steps(system, start(system), **how)
    with pytest.raises(ValueError, match="x: given"):
        pd.steps(system, torch.zeros(3), **({} if said else how))


@pytest.mark.parametrize("most", [None, 5])
@pytest.mark.parametrize("wrap", [lambda m: (m,), lambda m: {"sample": m, "loss": None}, lambda m: [m, None]])
def test_together_takes_the_answers_that_sample_takes(wrap: Any, most: int | None) -> None:
    """A tuple, a dict, and one buffer for all answers, in one call or in pieces."""
    system, buffer = pd.ddpm(LINEAR, 20), torch.empty(256, 6, dtype=torch.float64)
    xs = [start(system, B) for B in (1, 2)]

    def model(x: Tensor, t: Tensor) -> Any:
        return wrap(torch.tanh(x, out=buffer[: len(x)]))

    solvers = [pd.steps(system, x, window=8, generator=seeded(1), tolerance=0.0) for x in xs]
    for x, found in zip(xs, pd.together(model, solvers, most), strict=True):
        alone = pd.sequential(lambda x, t: torch.tanh(x), system, x, generator=seeded(1))
        torch.testing.assert_close(found.x, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("answer", [None, 0.5, torch.zeros(()), torch.zeros(3, 1), torch.zeros(1, 3, 6), "x", ()])
def test_together_refuses_what_is_no_answer(answer: Any) -> None:
    system = pd.ddim(LINEAR, 5)
    with pytest.raises(ValueError, match=r"model: given .*needed:"):
        pd.together(lambda x, t: answer, [pd.steps(system, start(system, 2), window=3)])
