"""Every argument of a public function has a name and a type, and a misspelt one is an error that names it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import paradigms as pd
from paradigms.methods.parareal import HeldCoarse, LinearCoarse
from problems import LINEAR

ADAPTERS = {"enable_parallel_sampling", "disable_parallel_sampling", "parallelize"}
FUNCTIONS = [n for n in pd.__all__ if inspect.isfunction(getattr(pd, n)) and n not in ADAPTERS]
METHODS = [pd.System.noise, pd.System.step, pd.System.to, pd.Schedule.retimed, pd.Schedule.time_at]
NOT_OURS = ("DirectionWarning", "Guided", "NonFiniteError", "RankError")
CLASSES = [n for n in pd.__all__ if inspect.isclass(getattr(pd, n)) and n not in NOT_OURS]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_a_function_has_a_name_and_a_type(name: str) -> None:
    """B4: editors and type checkers see no `**how: Any`."""
    for function in (getattr(pd, name), *METHODS):
        takes = inspect.signature(function)
        assert takes.return_annotation is not takes.empty
        for argument in list(takes.parameters.values())["self" in takes.parameters :]:
            assert argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL), argument
            assert argument.annotation is not argument.empty, argument


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_of_a_class_has_a_name_and_a_type(name: str) -> None:
    kind = getattr(pd, name)
    if (
        kind.__init__ is not object.__init__
        and not inspect.isabstract(kind)
        and not getattr(kind, "_is_protocol", False)
        and kind.__init__ is not ValueError.__init__
    ):
        for argument in list(inspect.signature(kind.__init__).parameters.values())[1:]:
            assert argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL), argument
            assert argument.annotation is not argument.empty, argument


def test_the_names_of_what_guidance_leaves_out_are_the_models_own_and_have_a_type() -> None:
    *_, null = inspect.signature(pd.Guided.__init__).parameters.values()
    assert null.kind is null.VAR_KEYWORD and null.annotation == "Tensor | float"


X = torch.zeros(1, 3)
MISSPELT: dict[str, tuple[Any, str]] = {
    "predicton": (lambda: pd.ddim(LINEAR, 20, predicton="v"), "ddim: given predicton; .*; type prediction=..."),  # type: ignore[call-arg]
    "karas": (lambda: pd.dpmsolver(LINEAR, 20, karas=True), "dpmsolver: given karas; .*; type karras=..."),  # type: ignore[call-arg]
    "shifted": (lambda: pd.flow(20, shifted=3.0), "flow: given shifted; .*; type shift=..."),  # type: ignore[call-arg]
    "tolerence": (lambda: pd.sample(None, None, X, tolerence=0.1), "sample: given tolerence; .*; type tolerance=..."),  # type: ignore
    "windows": (lambda: pd.iterate(None, None, X, windows=1), "iterate: given windows; .*; type window=..."),  # type: ignore
    "noize": (lambda: pd.sequential(None, None, X, noize=1), "sequential: given noize; .*; type noise=..."),  # type: ignore
    "step": (lambda: pd.from_scheduler(None, step=3), "from_scheduler: given step; .*; type steps=..."),  # type: ignore
    "begin": (lambda: pd.linear(begin=3), "linear: given begin; needed: one of its arguments T, start, end"),  # type: ignore
    "dtyp": (lambda: pd.ddim(LINEAR, 5).noise((1, 2), dtyp=torch.float64), "noise: given dtyp; .*; type dtype=..."),  # type: ignore
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_argument_is_an_error_that_names_the_closest(name: str) -> None:
    """B4: `ddim(..., predicton="v")`."""
    call, says = MISSPELT[name]
    with pytest.raises(TypeError, match=says):
        call()


KINDS: list[Any] = [pd.Jacobi, pd.Picard, pd.ExponentialPicard, pd.Anderson, pd.QuasiNewton, pd.Spectral, pd.Parareal]
KINDS += [pd.Speculation, pd.FinalError, pd.StepNoise, pd.Copy, pd.Extrapolate, HeldCoarse, LinearCoarse, pd.Schedule]


def test_a_misspelt_public_name_is_an_error_to_a_type_checker() -> None:
    """A module's __getattr__, which the program needs, would let any name pass."""
    assert pd.__file__ is not None
    tree = ast.parse(Path(pd.__file__).read_text())
    assert "__getattr__" not in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        _ = pd.sampel  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_field_of_a_class_is_an_error_that_names_the_closest(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__}: given nonsense; needed: (one of|no arg)"):
        kind(nonsense=1)
    for f in (f for f in dataclasses.fields(kind) if f.init and len(f.name) > 2):
        with pytest.raises(TypeError, match=rf"{kind.__name__}: given {f.name}x; .*; type {f.name}=\.\.\.$"):
            kind(**{f"{f.name}x": 1})


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not pd.Schedule])
@pytest.mark.parametrize("value", [math.nan, -math.inf, -3, 10**30, "1", True, torch.ones(1)])
def test_a_field_that_cannot_be_is_refused_when_built(kind: Any, value: Any) -> None:
    """Any field of any method and criterion: given, needed, and nothing later."""
    for f in (f for f in dataclasses.fields(kind) if f.init):
        if f.name == "seed" and value == -3:
            continue  # torch takes such a seed
        with pytest.raises(ValueError, match=rf"{f.name}: given .*; needed: "):
            kind(**{f.name: value})
