"""A step of one's own, many at once: equal to the loop as anybody writes it, whatever the step does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import paradigms as pd
from loops import TOYS, mixture, plain, structure
from paradigms.window.controller import WindowController


@pytest.mark.parametrize("name", TOYS)
def test_a_step_of_ones_own_is_exact_at_tolerance_0(name: str) -> None:
    toy = TOYS[name]()
    torch.manual_seed(7)
    x = toy.stepped()
    torch.manual_seed(7)
    run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, tolerance=0)
    # a structure's SVD and its 2,560 units of first noise leave rounding of the size of the states
    assert float((run.x - x).norm() / x.norm()) < (3e-4 if name == "structure" else 1e-6)
    assert run.converged and run.rounds < len(toy.system)


@pytest.mark.parametrize("name", TOYS)
def test_a_step_of_ones_own_keeps_the_tolerance(name: str) -> None:
    toy = TOYS[name]()
    torch.manual_seed(8)
    run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, tolerance=0.01, window=16, compare=True)
    assert run.max_error is not None and run.max_error < 0.01
    assert run.converged


@pytest.mark.parametrize("name", ["plain", "guided"])
def test_a_loops_tolerance_saves_rounds_and_costs_none(name: str) -> None:
    toy = TOYS[name]()
    rounds = []
    for tolerance in (0, 0.003, 0.03):
        run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, tolerance=tolerance, window=16)
        assert not run.retries
        rounds.append(run.rounds)
    assert rounds[0] > rounds[1] >= rounds[2]


def test_a_loop_that_is_a_table_is_its_sequential_sample() -> None:
    toy = plain()
    run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, tolerance=0)
    torch.testing.assert_close(run.x, pd.sequential(mixture, toy.system, toy.x), rtol=1e-5, atol=1e-6)


def test_a_loop_in_windows_of_one_is_bit_for_bit_stepping() -> None:
    toy = structure(8)
    torch.manual_seed(7)
    x = toy.stepped()
    torch.manual_seed(7)
    run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, window=1)
    assert torch.equal(run.x, x) and run.rounds == 8 and run.evaluations == 16


class Scripted(WindowController):
    """Windows and stretches of steps as they are written down."""

    def __init__(self) -> None:
        self.plans = iter([(1, 3), (4, 1), (16, 1), (16, 1), (3, 1), (8, 1), (1, 2), (2, 1), (32, 1)])
        self.told: list[tuple[int, ...]] = []

    def next(self, row: int) -> tuple[int, int]:
        return next(self.plans, (8, 1))

    def on_steps(self, row: int, steps: int, evaluate: Any) -> None:
        self.told.append((row, 1, steps))
        assert evaluate.clock.read()[0] > 0

    def on_round(self, row: int, window: int, asked: int, count: int, evaluate: Any) -> None:
        self.told.append((row, window, count))


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("tolerance", [0, 0.01])
def test_a_loops_windows_may_change_between_rounds(name: str, tolerance: float) -> None:
    toy, windows = TOYS[name](), Scripted()
    torch.manual_seed(7)
    x = toy.stepped()
    torch.manual_seed(7)
    run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, tolerance=tolerance, window=windows)
    assert float((run.x - x).norm() / x.norm()) < max(3e-4 if name == "structure" else 1e-6, tolerance)
    rows, moved = [row for row, _, _ in windows.told], [count for *_, count in windows.told]
    assert rows == [sum(moved[:k]) for k in range(len(rows))] and sum(moved) == len(toy.system)
    assert run.converged and run.rounds < len(toy.system) + 9


def test_an_automatic_loop_gives_its_sample_and_says_why_it_steps() -> None:
    toy = plain()
    x = toy.stepped()
    for _ in range(3):
        run = pd.sample_loop(toy.model, toy.step, toy.system, toy.x, tolerance=1e-4, window="auto")
        assert float((run.x - x).norm() / x.norm()) < 1e-4
        assert (run.reason is not None) == (1 in run.windows)


def test_random_streams_end_where_the_loop_leaves_them() -> None:
    toy, generator = plain(), torch.Generator()

    def step(x: Tensor, model: Any, n: int) -> Tensor:
        noise = torch.randn_like(x) + torch.randn(x.shape, generator=generator) + float(np.random.randn())
        return toy.step(x, model, n) + 0.01 * noise

    def seeded() -> None:
        torch.manual_seed(1), generator.manual_seed(2), np.random.seed(3)

    def drawn() -> list[float]:
        return [float(torch.rand(1)), float(torch.rand(1, generator=generator)), float(np.random.rand())]

    seeded()
    x = toy.x
    for n in range(40):
        x = step(x, lambda x, t: mixture(x, t.expand(len(x))), n)
    left = drawn()
    seeded()
    run = pd.sample_loop(mixture, step, toy.system, toy.x, tolerance=0, generator=generator, compare=True)
    assert drawn() == left
    torch.testing.assert_close(run.x, x, rtol=1e-5, atol=1e-5)


def test_what_a_loop_counts_is_what_the_model_was_asked() -> None:
    toy, asked = TOYS["corrected"](), list[int]()

    def model(x: Tensor, t: Tensor) -> Tensor:
        asked.append(len(x))
        return mixture(x, t)

    run = pd.sample_loop(model, toy.step, toy.system, toy.x, window=16)
    assert run.rounds == len(asked)
    assert run.evaluations == sum(asked) - len(toy.x)  # the check that rows do not depend on each other


class Doubtful(pd.FinalError):
    """Sees an error of 100 % wherever it looks."""

    def estimate(self, memory: Any) -> Tensor:
        return torch.ones(2)


def test_a_loop_in_doubt_is_made_again_and_then_stepped() -> None:
    toy, asked = plain(), list[int]()

    def model(x: Tensor, t: Tensor) -> Tensor:
        asked.append(len(x))
        return mixture(x, t)

    run = pd.sample_loop(model, toy.step, toy.system, toy.x, tolerance=Doubtful(1e-3))
    assert [again.tolerance for again in run.retries] == [1e-3 / 30, 0]
    torch.testing.assert_close(run.x, pd.sequential(mixture, toy.system, toy.x), rtol=1e-5, atol=1e-6)
    assert run.converged and run.evaluations == sum(asked) - len(toy.x)


def test_a_step_with_a_memory_of_its_own_is_refused() -> None:
    toy, kept = plain(), [torch.zeros(2, 16)]

    def step(x: Tensor, model: Any, n: int) -> Tensor:
        kept[0] = 0.5 * kept[0] + x
        return toy.step(kept[0], model, n)

    with pytest.raises(ValueError, match=r"another state when step 0 runs again.*a part of its state"):
        pd.sample_loop(mixture, step, toy.system, toy.x)


def test_a_loops_model_whose_rows_depend_on_each_other_is_refused() -> None:
    toy = plain()
    with pytest.raises(ValueError, match="rows of a batch that depend on each other"):
        pd.sample_loop(lambda x, t: mixture(x - x.mean(0), t), toy.step, toy.system, toy.x)


def test_a_gradient_through_a_surrogate_is_an_error_and_not_wrong() -> None:
    toy = plain()

    def step(x: Tensor, model: Any, n: int) -> Tensor:
        with torch.enable_grad():
            x = x.requires_grad_()
            torch.autograd.grad(model(x, 1.0).sum(), x)
        return x

    with pytest.raises(RuntimeError, match="grad"):
        pd.sample_loop(mixture, step, toy.system, toy.x)


def test_an_answer_that_is_not_finite_names_its_step() -> None:
    toy = plain()

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[:, None] < 1, torch.nan, mixture(x, t))

    bad = int((toy.system.sigma < 1).nonzero()[0])
    with pytest.raises(pd.NonFiniteError, match=f"step {bad} of 40"):
        pd.sample_loop(model, toy.step, toy.system, toy.x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 3}, "step: given 3"),
        ({"step": lambda x, model, n: x[:1]}, "step: given one that gives"),
        ({"step": lambda x, model, n: model(x, torch.ones(7))}, "was told t"),
        ({"step": lambda x, model, n: model(x, 1.0, scale=2.0)}, "scale of the model's call"),
        ({"model": lambda x, t: (x, x)}, "torch.cat"),
        ({"model": torch.nn.Dropout()}, "training mode"),
        ({"x": ()}, "x: given"),
        ({"window": "wide"}, "window"),
        ({"method": pd.Anderson()}, "method: given Anderson"),
        ({"system": pd.linear()}, "system: given a Schedule"),
    ],
)
def test_what_is_no_loop_is_refused(change: dict[str, Any], message: str) -> None:
    toy = plain()
    given = {"model": mixture, "step": toy.step, "system": toy.system, "x": toy.x} | change
    with pytest.raises(ValueError, match=message):
        pd.sample_loop(**given)
