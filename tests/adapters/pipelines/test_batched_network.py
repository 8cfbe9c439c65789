"""A batch made of calls says of each what a call of its own says; what is no batch is called row by row, and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paradigms.adapters.pipelines.networks.batched_network import BatchedNetwork
from paradigms.adapters.pipelines.networks.network_call import NetworkCall

B, G = 2, 2  # samples of the state, and how often guidance shows them


class Net(nn.Module):
    """A network that is a function, and knows the sizes of its batches."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function, self.rows = function, list[int]()

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self.rows.append(len(x))
        return self.function(x, *args, **kwargs)


def ask(net: nn.Module, *args: Any, **kwargs: Any) -> NetworkCall:
    """A call of a network."""
    return NetworkCall.of(net, lambda net, *args, **kwargs: net(*args, **kwargs), args, kwargs)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def states(rows: int = 3, samples: int = G * B) -> list[Tensor]:
    return [drawn(samples, 3, 4, seed=k) for k in range(rows)]


def checked(
    net: Net, calls: list[NetworkCall], network: BatchedNetwork | None = None, width: int = B
) -> BatchedNetwork:
    """The answers to calls as a batch are those of each call alone."""
    network, alone = network or BatchedNetwork(), [call.run() for call in calls]
    net.rows.clear()
    for said, own in zip(network(calls, width), alone, strict=True):
        torch.testing.assert_close(said, own)
    return network


def test_times_of_every_form_go_one_to_a_sample() -> None:
    def function(x: Tensor, t: Tensor, emb: Any = None) -> tuple[Tensor]:
        return (x * torch.atleast_1d(t).reshape(-1, 1, 1),)

    net = Net(function)
    for form in (lambda t: t, lambda t: t[None], lambda t: t.expand(G * B)):
        calls = [ask(net, x, form(torch.tensor(3.0 + k))) for k, x in enumerate(states())]
        network = checked(net, calls)
        assert net.rows == [4, 12] and (network.evaluations, network.checks) == (3, 1) and not network.reasons


def test_networks_that_take_guidance_apart_again_find_each_half_together() -> None:
    def function(x: Tensor, words: Tensor) -> tuple[Tensor]:
        y = x + words.mean(1)[:, None, :]
        a, b = y.chunk(2)
        return (torch.cat([a, a - 2 * b]),)

    net = Net(function)
    network = checked(net, [ask(net, x, drawn(G * B, 5, 4, seed=9 + k)) for k, x in enumerate(states())])
    assert not network.reasons and net.rows == [4, 12]


def test_what_several_axes_of_the_batch_have_is_laid_out_with_it() -> None:
    def function(x: Tensor, frames: Tensor) -> Tensor:  # frames (G B k, 4), k a sample
        return x + frames.unflatten(0, (len(x), -1)).sum(1)[:, None]

    net = Net(function)
    assert not checked(net, [ask(net, x, drawn(3 * G * B, 4, seed=k)) for k, x in enumerate(states())]).reasons


def test_positions_that_are_equal_in_all_rows_are_passed_as_they_are() -> None:
    net = Net(lambda x, positions: x + positions[:3, :4])
    assert not checked(net, [ask(net, x, drawn(7, 4)) for x in states()]).reasons


def test_positions_as_long_as_the_batch_is_a_multiple_of_are_found_to_be_no_batch() -> None:
    """8 positions and 4 samples: read as two a sample they would be wrong, which the check of one row finds."""

    def function(x: Tensor, positions: Tensor) -> Tensor:
        assert len(positions) == 8
        return x + positions[:3]

    net = Net(function)
    network = checked(net, [ask(net, x, positions=drawn(8, 4)) for x in states()])
    assert not network.reasons and net.rows[-1] == 12


def test_rows_that_differ_in_what_has_no_batch_axis_are_called_one_by_one() -> None:
    net = Net(lambda x, scale: x * scale)
    network = checked(net, [ask(net, x, drawn(3, 1, seed=k)) for k, x in enumerate(states())])
    (reason,) = network.reasons
    assert reason.startswith("Net is called row by row: it is told something of no axis of 4 samples")
    assert set(net.rows) == {4}


def test_rows_that_agree_in_what_has_no_batch_axis_are_joined_with_each_other() -> None:
    net = Net(lambda x, scale: x * scale.sum())
    calls = [ask(net, x, drawn(3, 1, seed=k // 2)) for k, x in enumerate(states())]
    network = BatchedNetwork()
    for said, call in zip(network(calls, B), calls, strict=True):
        torch.testing.assert_close(said, call.run())
    assert not network.reasons and max(net.rows) == 8


def test_lists_of_one_tensor_a_sample_are_joined_to_one_list() -> None:
    def function(x: list[Tensor], t: Tensor, words: list[Tensor]) -> Any:
        assert isinstance(x, list) and len(x) == len(words) == len(t)
        return {"sample": [v * s + w.sum() for v, s, w in zip(x, t, words, strict=True)]}

    net = Net(function)
    calls = [
        ask(net, list(x), torch.full((G * B,), 2.0 + k), [drawn(2 + i, seed=k) for i in range(G * B)])
        for k, x in enumerate(states())
    ]
    network = BatchedNetwork()
    said, alone = network(calls, B), [call.run() for call in calls]
    for a, b in zip(said, alone, strict=True):
        torch.testing.assert_close(a["sample"].tensor, b["sample"].tensor)
    assert net.rows[1] == 12 and not network.reasons


@pytest.mark.parametrize("form", ["tuple", "dict", "nested"])
def test_what_a_network_says_keeps_its_form(form: str) -> None:
    forms: dict[str, Callable[[Tensor], Any]] = {
        "tuple": lambda x: (x * 2, x.mean((1, 2))),
        "dict": lambda x: {"sample": x * 2, "count": 5},
        "nested": lambda x: ([x * 2, [x + 1]], None),
    }
    net = Net(forms[form])
    assert not checked(net, [ask(net, x) for x in states()]).reasons


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x + 0.01 * x.mean(), "differs from its own call"),
        (lambda x: x.mean(0, keepdim=True), "has no axis of 3 rows"),
        (lambda x: x + (len(x) > 4), "differs from its own call"),
        (lambda x: x * (1 / (len(x) == 4)), "ZeroDivisionError"),
        (lambda x: x * float("nan" if len(x) > 4 else 1), "differs from its own call by inf"),
    ],
)
def test_a_network_that_does_not_batch_is_called_row_by_row(function: Callable[[Tensor], Any], why: str) -> None:
    net = Net(function)
    calls = [ask(net, x) for x in states()]
    network = checked(net, calls)
    (reason,) = network.reasons
    assert why in reason
    checked(net, calls, network)
    assert net.rows == [4, 4, 4] and len(network.reasons) == 1  # it is not tried again


def test_calls_of_other_shapes_networks_or_switches_are_batches_of_their_own() -> None:
    net, other = Net(lambda x, scale=1: x * scale), Net(lambda x: x + 1)
    calls = [ask(net, *states(1)), ask(net, drawn(B, 3, 4)), ask(other, *states(1)), ask(net, *states(1), scale=2)]
    checked(net, [*calls, *calls])
    assert sorted(net.rows) == [2, 4, 4, 4, 8, 8]
    assert sorted(other.rows) == [4, 4, 4, 8]  # the first two are what it is compared with


def test_where_there_is_no_room_batches_halve_until_there_is() -> None:
    def function(x: Tensor) -> Tensor:
        if len(x) > 12:
            raise torch.OutOfMemoryError
        return x * 2

    net = Net(function)
    network = checked(net, [ask(net, x) for x in states(8)])
    assert network.evaluations == 8 and network.room.most == 2 and len(network.reasons) == 1
    checked(net, [ask(net, x) for x in states(3)], network)
    assert net.rows == [8, 4]


def test_compiled_networks_get_batches_of_one_size() -> None:
    net = Net(lambda x: x * 2)
    net._orig_mod = nn.Identity()
    network = BatchedNetwork(pad=5)
    for rows in (3, 1, 5, 2):
        checked(net, [ask(net, x) for x in states(rows)], network)
        assert [n for n in net.rows if n != 4] == [20] and net.rows.count(4) == (rows == 3)
    assert (network.evaluations, network.checks) == (11, 1)


def test_one_by_one_is_equal_to_the_bit() -> None:
    net = Net(nn.Linear(4, 4))
    with torch.no_grad():
        calls = [ask(net, x) for x in states()]
        said, alone = BatchedNetwork(batched=False)(calls, B), [call.run() for call in calls]
    assert all(map(torch.equal, said, alone)) and net.rows == [4] * 6


def test_a_call_knows_itself_from_others_and_keeps_its_own_sample() -> None:
    net, x, words = Net(lambda x, **_: x), drawn(2, 3), drawn(2, 4)
    call = ask(net, x, words=words, scale=0.5, more={"a": [1]})
    assert call.equals(ask(net, x.clone(), words=words.clone(), scale=0.5, more={"a": [1]}))
    assert not call.equals(ask(net, x + 1e-7, words=words, scale=0.5, more={"a": [1]}))
    assert call.alike(ask(net, x + 1, words=words - 1, scale=0.5, more={"a": [1]}))
    for change in ({"scale": 0.6}, {"more": {"a": [2]}}, {"more": {"b": [1]}}, {"words": words.double()}):
        assert not call.alike(ask(net, x, **{"words": words, "scale": 0.5, "more": {"a": [1]}} | change))
    x.zero_()
    assert call.intact() and call.x is not None and call.x.any()
    words.add_(1)
    assert not call.intact()
