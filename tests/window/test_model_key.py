"""What a model is known by: the same network behind functions made anew, and another one behind alike ones."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from paradigms.execution import model_key
from paradigms.execution import model_key as identity
from paradigms.window.auto import profile
from problems import LINEAR, seeded


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    model_key.forget()
    yield
    model_key.forget()


class Net(nn.Module):
    """A third of the state."""

    def forward(self, x: Tensor, t: Tensor, scale: float = 0.3) -> Tensor:
        return scale * x


X = torch.zeros(1, 6)


def known(model: Any, key: Any = None) -> profile.RoundTimes:
    return profile.round_times(model, X, key=key)


def lambda_of(net: Any, scale: float = 0.3) -> Any:
    return lambda x, t: scale * net(x, t)


def test_a_lambda_made_anew_of_the_same_network_is_remembered_and_of_another_is_not() -> None:
    """B2: a lambda made anew in each call never learned."""
    net, other = Net(), Net()
    first = known(lambda_of(net))
    assert known(lambda_of(net)) is first
    assert known(lambda_of(other)) is not first
    assert known(lambda_of(net, 0.4)) is not first, "another number may be another cost"
    assert known(lambda x, t: net(x, t)) is not first, "other code"


def test_functions_that_close_over_tensors_are_alike_where_the_tensors_have_the_same_form() -> None:
    net = Net()

    def conditioned(label: Tensor) -> Any:
        return lambda x, t: net(x, t) + label

    assert known(conditioned(torch.zeros(6))) is known(conditioned(torch.ones(6)))
    assert known(conditioned(torch.zeros(6))) is not known(conditioned(torch.zeros(1)))


def test_a_partial_is_known_by_its_function_and_arguments() -> None:
    net = Net()
    first = known(functools.partial(net, scale=0.1))
    assert known(functools.partial(net, scale=0.1)) is first
    assert known(functools.partial(net, scale=0.2)) is not first and known(net) is not first


def test_what_a_lambda_taught_dies_with_its_network() -> None:
    net = Net()
    known(lambda_of(net))
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None and len(identity._kept) == 0


def test_a_key_stands_for_the_model_whatever_is_called_and_only_the_last_ones_are_kept() -> None:
    """B2: closures made anew can be given a key."""
    first = known(Net(), "my-model")
    assert known(Net(), "my-model") is first and known(Net(), "another") is not first
    for k in range(identity.MOST_KEYS):
        known(Net(), k)
    assert known(Net(), "my-model") is not first and len(identity._named) <= identity.MOST_KEYS


def test_a_key_makes_the_second_call_learn_from_the_first() -> None:
    def fresh() -> Any:
        nets = [Net()]  # in a list, which no one looks into
        return lambda x, t: nets[0](x, t)

    system = pd.ddim(LINEAR, 12)
    seen = []
    for _ in range(2):
        pd.sample(fresh(), system, torch.ones(1, 6), key=("mine", 1))
        ((one,),) = (kinds.values() for kinds in identity._named.values())
        seen.append(one)
    assert seen[0] is seen[1] and seen[0].chains, "what the first call measured is what the second one finds"


@pytest.mark.parametrize("solver", ["sample", "iterate"])
def test_a_key_that_cannot_be_hashed_is_refused_before_any_work(solver: str) -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("it was called")

    with pytest.raises(ValueError, match=r"key: given .*; needed: .*type key='my-model'"):
        getattr(pd, solver)(model, pd.ddim(LINEAR, 5), X, key=["my-model"], generator=seeded(1))


def test_what_cannot_be_remembered_is_new_in_every_call() -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            return x

    model = Slotted()
    assert known(model) is not known(model)
