"""What the ranks of a large job ask of the network, without one: in torch's fake group others say what oneself says.

The model answers 0 to everything, so what the fake group makes up for the other ranks is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

import paradigms as pd
from paradigms.distributed import groups
from paradigms.distributed.packing import ALIGN, HEADER
from paradigms.distributed.team import FIRST, TEXT, Team
from problems import LINEAR, seeded

RANKS = 8
SHAPE = (2, 4, 8, 8)  # two samples


class Asked(NamedTuple):
    """A collective: its name, the shapes and dtypes of what it fills and of what it sends."""

    name: str
    filled: tuple[tuple[int, ...], ...]
    sent: tuple[tuple[int, ...], ...]
    dtypes: frozenset[torch.dtype]


class Collectives(TorchDispatchMode):
    """Writes down what torch.distributed is asked for, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            filled, sent = (
                [v for v in torch.utils._pytree.tree_leaves(a) if isinstance(v, Tensor)] for a in (args[0], args[1])
            )
            shapes = (tuple(tuple(v.shape) for v in each) for each in (filled, sent))
            name = func.overloadpacket.__name__
            self.asked.append(Asked(name, *shapes, frozenset(v.dtype for v in (*filled, *sent))))
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_group(rank: int) -> Iterator[None]:
    """A job of `RANKS` ranks of which this process is one."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=RANKS)
    try:
        with pytest.MonkeyPatch.context() as patch:  # a fake's work is done when it is waited for, and never before
            patch.setattr(Team, "finish", lambda team, start, *rest: start().wait())
            yield
    finally:
        dist.destroy_process_group()


class Nought(nn.Module):
    """Answers 0, in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.rows = nn.Parameter(torch.zeros((), dtype=torch.bfloat16)), list[int]()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.rows.append(len(x))
        return x * self.scale


def sampled(**how: Any) -> pd.Solution:
    """A sample of two, of noise that does not fit into the agreement."""
    system = pd.ddpm(LINEAR, 30)
    x = system.noise(SHAPE, seeded(0))
    noise = torch.randn(30, *SHAPE, generator=seeded(1))
    return pd.sample(Nought(), system, x, window=12, noise=noise, **how)


@pytest.fixture(scope="module")
def asked() -> list[tuple[list[Asked], pd.Solution]]:
    """Of every rank what it asked for, and its sample."""
    found = []
    for rank in range(RANKS):
        with fake_group(rank), Collectives() as collectives:
            solution = sampled(mesh=dist.group.WORLD)
        found.append((collectives.asked, solution))
    return found


def test_every_rank_asks_for_the_same_collectives_in_order(asked: list[tuple[list[Asked], pd.Solution]]) -> None:
    first, *others = (each for each, _ in asked)
    assert all(each == first for each in others)


def test_a_call_is_an_agreement_a_broadcast_and_a_gather_a_round(
    asked: list[tuple[list[Asked], pd.Solution]],
) -> None:
    collectives, solution = asked[0]
    names = [each.name for each in collectives]
    assert names == ["_allgather_base_", "broadcast_", *["_allgather_base_"] * solution.rounds]
    assert solution.rounds > 1
    agreement = HEADER + TEXT + FIRST
    assert (collectives[0].sent, collectives[0].filled) == (((agreement,),), ((RANKS * agreement,),))
    numbers = 2 * 256 + 30 * 2 * 256  # starting noise and noise, in float32, and the state of torch's own generator
    assert collectives[1].filled == ((numbers * 4 + len(torch.get_rng_state()),),)


def test_all_that_is_sent_is_bytes_which_nccl_and_gloo_carry(asked: list[tuple[list[Asked], pd.Solution]]) -> None:
    assert {dtype for each, _ in asked for c in each for dtype in c.dtypes} == {torch.uint8}


def test_answers_go_in_the_networks_dtype_once_it_is_known(asked: list[tuple[list[Asked], pd.Solution]]) -> None:
    collectives, solution = asked[0]
    ends = [0, *(evaluations for *_, evaluations in solution.trace)]
    for k, gathered in enumerate(collectives[2:]):
        M, width = ends[k + 1] - ends[k], 4 if k == 0 else 2
        slot = HEADER + -(-M // RANKS) * 256 * width
        assert gathered.sent == ((-(-slot // ALIGN) * ALIGN,),)


def test_every_rank_has_the_sample_of_one_process(asked: list[tuple[list[Asked], pd.Solution]]) -> None:
    alone = sampled()
    for _, solution in asked:
        torch.testing.assert_close(solution.x, alone.x, rtol=1e-5, atol=1e-5)
        assert (solution.rounds, solution.evaluations) == (alone.rounds, alone.evaluations)


@pytest.mark.parametrize(
    ("config", "given", "wanted"),
    [
        ("cuda:nccl", "cuda:3", "cuda:3"),  # init_process_group("nccl")
        ("cuda:nccl", "cpu", "cuda"),  # what agrees on a call is packed on the CPU
        ("cpu:gloo,cuda:nccl", "cuda:1", "cuda:1"),  # init_process_group()
        ("cpu:gloo,cuda:nccl", "cpu", "cpu"),
        ("cpu:gloo,cuda:gloo", "cuda:0", "cpu"),  # a gloo group, by way of the host
        ("cpu:gloo", "cuda:0", "cpu"),
    ],
)
def test_bytes_are_where_the_group_can_send_them_from(
    config: str, given: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "get_backend_config", lambda group: config)
    assert groups.transport_device(None, torch.device(given)) == torch.device(wanted)
