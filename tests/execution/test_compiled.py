"""Rounds as a graph of tensors: the same samples, one graph a round, and what cannot be compiled says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from problems import RULES, seeded
from toy import Mixture


class Graphs:
    """A backend that runs a graph as it is, and keeps it."""

    def __init__(self) -> None:
        torch._dynamo.reset()  # type: ignore[no-untyped-call]
        self.kept: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.kept.append(graph)
        return graph.forward


def run(model: Any, method: pd.AbstractMethod, tolerance: Any, **how: Any) -> pd.Solution:
    """One sample of 6 numbers."""
    system = RULES["ddpm"](40)
    x = system.noise((1, 6), seeded(0), dtype=torch.float64)
    return pd.sample(model, system, x, method, window=10, tolerance=tolerance, generator=seeded(1), **how)


METHODS = [(pd.Picard(), pd.StepNoise(0.01)), (pd.Spectral(), 0.001)]


@pytest.mark.parametrize(("method", "tolerance"), METHODS, ids=["picard", "spectral"])
def test_a_chain_whose_window_stays_is_one_graph(method: pd.AbstractMethod, tolerance: Any) -> None:
    """Sweep and criterion, wherever a round begins and however many of its rows were evaluated before: no break, or the
    compiler had refused, and nothing that waits for a device."""
    graphs = Graphs()
    model = pd.compiled(Mixture(), backend=graphs)
    found, other = (run(m, method, tolerance) for m in (model, Mixture()))
    assert model.failed is None and len(graphs.kept) == 1
    assert model.rounds > found.rounds // 2, "all but the first round and the last windows, which are shorter"
    names = {str(node.target) for node in graphs.kept[0].graph.nodes}
    assert not names & {"item", "tolist", "nonzero", "cpu", "numpy"}
    torch.testing.assert_close(found.x, other.x)
    assert found.trace == other.trace and found.residual.allclose(other.residual)


def test_numbers_that_are_equal_at_first_do_not_make_a_second_graph() -> None:
    """A row and a count of rows; torch would take them for one number."""
    graphs = Graphs()
    model = pd.compiled(Mixture(), backend=graphs)

    def play(x: Tensor, row: int, count: int) -> Tensor:
        return 0.5 * x[row : row + count]

    x = torch.arange(30.0)
    for row, count in ((7, 7), (9, 5), (3, 12)):
        assert torch.equal(model.run(play, x, row, count), play(x, row, count))
    assert len(graphs.kept) == 1 and model.rounds == 3


def test_torchs_own_tracing_takes_a_round() -> None:
    """The backend that inductor is built upon, without a compiler: the same sample."""
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    model = pd.compiled(Mixture(), backend="aot_eager")
    found, other = (run(m, pd.Picard(), pd.StepNoise(0.01)) for m in (model, Mixture()))
    torch.testing.assert_close(found.x, other.x)
    assert model.rounds > 1 and model.failed is None


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once() -> None:
    def refuses(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("no compiler here")

    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    model = pd.compiled(Mixture(), backend=refuses)
    with pytest.warns(UserWarning, match=r"compiled: rounds run operator by operator, for .*no compiler here") as said:
        found = run(model, pd.Picard(), pd.StepNoise(0.01))
    assert len(said) == 1 and model.rounds == 0 and "no compiler here" in (model.failed or "")
    assert torch.equal(found.x, run(Mixture(), pd.Picard(), pd.StepNoise(0.01)).x)


def test_a_method_that_asks_for_other_points_is_not_compiled() -> None:
    graphs = Graphs()
    model = pd.compiled(Mixture(), backend=graphs)
    found = run(model, pd.QuasiNewton(), 0.01)
    assert not graphs.kept and model.rounds == 0 and torch.equal(found.x, run(Mixture(), pd.QuasiNewton(), 0.01).x)


def test_a_model_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ValueError, match="model: given"):
        pd.compiled(torch.zeros(3))


def named(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """A model with a condition."""
    return 0.1 * x + label[:, None]


def test_a_compiled_model_passes_its_conditions_on() -> None:
    x, label = torch.ones(2, 3), torch.tensor([1.0, 2.0])
    assert torch.equal(pd.compiled(named)(x, torch.zeros(2), label=label), named(x, torch.zeros(2), label))
