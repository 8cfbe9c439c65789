"""A model may return its tensor in a tuple, a dict or an output; what is no answer is refused; no graph is kept."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from problems import LINEAR, seeded, start

SYSTEM = pd.ddim(LINEAR, 10)


class Pair(NamedTuple):
    sample: Tensor
    loss: None = None


@dataclass
class Out:
    mean: Tensor
    name: str = "mean"


@dataclass
class Both:
    sample: Tensor
    hidden: Tensor


FORMS: dict[str, Any] = {
    "a tuple": lambda m: (m,),
    "a tuple with what is no tensor": lambda m: (m, None, "x"),
    "a list": lambda m: [m],
    "a dict": lambda m: {"out": m, "loss": None},
    "an ordered dict": lambda m: OrderedDict(prediction=m),
    "a named tuple": Pair,
    "a dataclass": Out,
    "a diffusers output of several": lambda m: Both(m, m[:, :2]),
    "an object with a sample": lambda m: SimpleNamespace(sample=m),
    "a parameter": nn.Parameter,
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_the_one_tensor_that_is_returned(form: str) -> None:
    """B4: models returning tuples, dicts and dataclasses."""
    x = start(SYSTEM, 2)
    plain = pd.sample(lambda x, t: torch.tanh(x), SYSTEM, x, window=4)
    packed = pd.sample(lambda x, t: FORMS[form](torch.tanh(x)), SYSTEM, x, window=4)
    assert torch.equal(plain.x, packed.x)
    stepped = pd.sequential(lambda x, t: FORMS[form](torch.tanh(x)), SYSTEM, x)
    assert torch.equal(stepped, pd.sequential(lambda x, t: torch.tanh(x), SYSTEM, x))


def test_a_diffusers_network_is_taken_as_it_is() -> None:
    """B4: diffusers' own output, and its tuple."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    ).eval()  # fmt: skip
    x = SYSTEM.noise((1, 1, 8, 8), seeded(0))
    found = pd.sample(net, SYSTEM, x, window=4)
    assert torch.equal(found.x, pd.sample(lambda x, t: net(x, t, return_dict=False), SYSTEM, x, window=4).x)


BAD: dict[str, tuple[Any, str]] = {
    "None": (lambda x, t: None, "model: given an answer that is None; needed: one tensor; does the function end"),
    "two tensors": (lambda x, t: (x, x), r"an answer that is tuple of 2 tensors.*model\(x, t\)\[0\]"),
    "no tensor": (lambda x, t: {"loss": 1.0}, "an answer that is dict"),
    "a number": (lambda x, t: 3.0, "an answer that is 3.0"),
    "numpy": (lambda x, t: x.numpy(), "an answer that is numpy's ndarray"),
    "a distribution": (lambda x, t: torch.distributions.Normal(x, 1.0), "an answer that is Normal"),
    "complex": (lambda x, t: x + 0j, r"an answer of torch.complex128; needed: a floating-point one; type .real"),
    "whole numbers": (lambda x, t: x.long(), r"an answer of torch.int64; needed: a floating-point one"),
    "another device": (lambda x, t: x.to("meta"), "x on cpu and an answer on meta; needed: an answer where x is"),
    "another shape": (lambda x, t: x[:, None], "it returned"),
    "fewer rows": (lambda x, t: x[:1].sum(0, keepdim=True), "it returned"),
    "the variance, too": (lambda x, t: torch.cat([x, x], 1), r"model\(x, t\)\[:, :6\]"),
}


@pytest.mark.parametrize("run", [pd.sample, pd.sequential])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_answer_is_refused(kind: str, run: Any) -> None:
    """A10 (complex answers), B4 (None)."""
    model, says = BAD[kind]
    with pytest.raises(ValueError, match=says):
        run(model, SYSTEM, start(SYSTEM, 2))


# ------------------------------------------------------------------------------------------------ no graph


def guided_by_a_gradient(x: Tensor, t: Tensor) -> Tensor:
    """Posterior sampling: the answer and a gradient of what was measured, through the network."""
    with torch.enable_grad():
        x = x.requires_grad_()
        m = torch.tanh(x)
        (g,) = torch.autograd.grad(((x - m) ** 2).sum(), x, create_graph=True)
        return m + 0.1 * g


def in_numbers(x: Tensor, t: Tensor) -> Tensor:
    m = torch.tanh(x)
    return m + 0.1 * 2 * (x - m) * (1 - (1 - m**2))


@pytest.mark.parametrize("method", [None, pd.Picard(), pd.QuasiNewton(), pd.Anderson(), pd.Parareal()])
def test_answers_with_a_graph_are_taken_without_it(method: Any) -> None:
    """A11."""
    x = start(SYSTEM, 2)
    found = pd.sample(guided_by_a_gradient, SYSTEM, x, method, window=4, tolerance=0.0, verify=True)
    wanted = pd.sequential(in_numbers, SYSTEM, x)
    assert not found.x.requires_grad and float((found.x - wanted).norm() / wanted.norm()) < 1e-8


def test_sequential_keeps_no_graph() -> None:
    """A11: what a step computed is gone after it."""
    kept: list[weakref.ref[Tensor]] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        assert sum(r() is not None for r in kept) <= 1, "a step before is still held"
        with torch.enable_grad():
            inner = torch.tanh(x.requires_grad_())
            kept.append(weakref.ref(inner))
            return inner * inner

    assert not pd.sequential(model, SYSTEM, start(SYSTEM, 2)).requires_grad


@pytest.mark.parametrize("window", [1, 4])
def test_a_starting_noise_that_requires_gradients_is_taken_without_them(window: int) -> None:
    """A11: sampling is not differentiated, and neither noise nor parameters of the model get a gradient."""
    system, net = pd.ddpm(LINEAR, 10), nn.Linear(6, 6).double()
    x = start(system, 2)
    z = torch.randn(10, 2, 6, generator=seeded(1), dtype=torch.float64)
    plain = pd.sample(lambda x, t: net(x), system, x, window=window, noise=z)
    asked = pd.sample(
        lambda x, t: net(x), system, x.clone().requires_grad_(), window=window, noise=z.clone().requires_grad_()
    )
    assert torch.equal(plain.x, asked.x) and not asked.x.requires_grad
    assert not pd.sequential(lambda x, t: net(x), system, x.clone().requires_grad_(), noise=z).requires_grad
    for frame in pd.iterate(lambda x, t: net(x), system, x.clone().requires_grad_(), window=window, noise=z):
        assert not frame.x.requires_grad


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda x: x.numpy(), r"an answer that is numpy's ndarray; needed: one tensor; type torch.from_numpy"),
        (lambda x: 1.0, r"an answer that is 1.0; needed: one tensor, \(\d+, 6\) as x$"),
        (lambda x: (v for v in x), r"an answer that is generator; needed: one tensor, \(\d+, 6\) as x$"),
        (lambda x: (x, x), r"tuple of 2 tensors; needed: one tensor; type lambda x, t: model\(x, t\)\[0\]"),
    ],
)
def test_what_to_type_fits_what_the_model_returned(returned: Any, says: str) -> None:
    """B4: `[0]` is no help with an array, a number or a generator."""
    with pytest.raises(ValueError, match=says):
        pd.sample(lambda x, t: returned(x), SYSTEM, torch.zeros(2, 6), window=4)
