"""The loop that the documents begin with is the library's: the same rounds, the same strides, the same sample."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import paradigms as pd
from paradigms.models import load

FILE = Path(__file__).parents[2] / "examples" / "textbook.py"
LEVELS = pd.linear()


def textbook() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("textbook", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("window", [1, 7, 16, 100])
@pytest.mark.parametrize(
    "rule",
    [
        lambda p: pd.ddpm(LEVELS, 60, prediction=p),
        lambda p: pd.ddim(LEVELS, 40, prediction=p),
        lambda p: pd.dpmsolver(LEVELS, 20, prediction=p),
        lambda p: pd.heun(LEVELS, 10, prediction=p),
    ],
    ids=["ddpm", "ddim", "dpmsolver, which looks back", "heun"],
)
def test_rounds_strides_and_sample_are_the_librarys(rule: Any, window: int) -> None:
    digits = load("digits")
    model, condition = digits.model, {"label": torch.tensor([3])}
    system = rule(digits.prediction).to("cpu", torch.float32)
    noise = torch.randn(len(system) + 1, *digits.shape, generator=torch.Generator().manual_seed(1))
    noise[0] *= system.start

    def one(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return model(x, t, **{name: value.expand(len(x)) for name, value in condition.items()})

    with torch.no_grad():
        rounds = list(textbook().picard(one, system, noise[0], noise[1:], window, 0.1))
    run = pd.sample(
        model, system, noise[:1], pd.Picard(), window=window, tolerance=pd.StepNoise(0.1), noise=noise[1:, None],
        condition=condition,
    )  # fmt: skip
    assert len(rounds) == run.rounds
    assert [begin for begin, _, _ in rounds] == [begin for begin, _, _ in run.trace]
    assert sum(stride for _, stride, _ in rounds) == len(system)
    torch.testing.assert_close(rounds[-1][2][-1], run.x[0], rtol=1e-4, atol=1e-5)


def test_the_loop_is_about_25_lines() -> None:
    (loop,) = (f for f in ast.parse(FILE.read_text()).body if isinstance(f, ast.FunctionDef) and f.name == "picard")
    lines = FILE.read_text().splitlines()[loop.body[0].end_lineno : loop.end_lineno]
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) <= 25


def test_it_runs_as_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    textbook().main()
    assert "rounds for 100 steps" in capsys.readouterr().out
