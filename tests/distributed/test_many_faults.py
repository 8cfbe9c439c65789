"""A rank that fails, is killed, hangs or goes another way ends the job on every rank, soon, by its name."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import paradigms as pd
import ranks
from problems import LINEAR, seeded, start
from toy import Mixture


def sampled(model: Any, **how: Any) -> pd.Solution:
    system = pd.ddpm(LINEAR, 30)
    usual: dict[str, Any] = {"window": 6, "generator": seeded(1), "mesh": dist.group.WORLD}
    return pd.sample(model, system, start(system), **usual | how)


def failing(rank: int, what: str) -> Any:
    """A model of rank 1 that fails in its third round, after three calls that check it on every rank."""
    calls = 0

    def model(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if rank == 1 and calls == 6:
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hangs":
                signal.pause()
            raise ArithmeticError("the dog ate it")
        return Mixture()(x, t)

    return model


WAYS: dict[str, tuple[Any, str]] = {  # what every rank does, and the error of all
    "it raises": (
        lambda r: sampled(failing(r, "raises")),
        "RankError: rank 1: ArithmeticError: the dog ate it",
    ),
    "its model changes the shape": (
        lambda r: sampled(lambda x, t: x[:, :5] if r == 2 else x),
        "RankError: rank 2: ValueError: model: given (3, 6), it returned (3, 5); needed: the same shape",
    ),
    "its output is not finite": (
        lambda r: sampled(lambda x, t: x * (float("nan") if r == 1 else 1)),
        "NonFiniteError: model: its output is not finite at row 2 of 30",
    ),
    "another window": (
        lambda r: sampled(Mixture(), window=6 + r // 2),
        "ValueError: window: rank 0 was given 6, rank 2 7; needed: the same on all ranks",
    ),
    "another tolerance": (
        lambda r: sampled(Mixture(), tolerance=0.1 if r else 0.2),
        "ValueError: tolerance: rank 0 was given 0.2, rank 1 0.1",
    ),
    "generators of another kind": (
        lambda r: sampled(Mixture(), generator=[seeded(b) for b in range(3)] if r else seeded(1)),
        "ValueError: generator: rank 0 was given a generator, rank 1 ['a generator'",
    ),
    "another table": (
        lambda r: pd.sample(Mixture(), pd.ddpm(LINEAR, 30 + r), torch.ones(3, 6), mesh=dist.group.WORLD),
        "ValueError: system: rank 0 was given a table of 30 rows",
    ),
    "bad input on one rank": (
        lambda r: sampled(lambda x, t, label: x, condition={"label": torch.zeros(3 - r // 2)}),
        "label': given (2,); needed: a tensor with 3 rows, one a sample",
    ),
    "other states, by hand": (
        lambda r: pd.sharded(Mixture(), dist.group.WORLD)(torch.randn(5, 6, generator=seeded(r)), torch.full((5,), 10)),
        "RankError: rank 1, 2 holds other states than rank 0",
    ),
    "another number of rows, by hand": (
        lambda r: pd.sharded(Mixture(), dist.group.WORLD)(torch.ones(5 + r // 2, 6), torch.full((5 + r // 2,), 10)),
        "RankError: ranks went different ways: rank 0 is at call",
    ),
    "none": (lambda r: sampled(Mixture()), ""),  # the group is whole still
}


def fail(rank: int) -> list[str]:
    """The errors of all ways to fail, one after the other."""
    said = []
    for way, _ in WAYS.values():
        try:
            way(rank)
            said.append("")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


@pytest.fixture(scope="module")
def errors() -> list[list[str]]:
    outcomes = ranks.run(3, fail)
    assert not any(o.error for o in outcomes), outcomes
    return [o.value for o in outcomes]


@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_one_rank_is_told_on_all_and_the_group_stays_whole(way: str, errors: list[list[str]]) -> None:
    for said in errors:
        assert WAYS[way][1] in said[list(WAYS).index(way)]


def lost(rank: int, what: str) -> None:
    sampled(failing(rank, what))


@pytest.mark.parametrize("what", ["killed", "hangs"])
def test_a_rank_that_is_lost_in_the_middle_of_a_round_is_named_by_the_others(what: str) -> None:
    outcomes = ranks.run(3, lost, what, timeout=4.0)
    assert outcomes[1].code == -signal.SIGKILL and not outcomes[1].error  # its own, or the test's once others had ended
    for outcome in (outcomes[0], outcomes[2]):
        assert outcome.code == 0  # no crash
        assert outcome.error.startswith("RankError: rank 1 of 3 did not answer within")
        assert outcome.error.endswith("killed, or hanging") and "in call 3 of 18 rows" in outcome.error


def kills_the_host(rank: int) -> None:
    sampled(failing(1 - rank, "killed"))


def test_the_rank_that_holds_the_store_is_named_too() -> None:
    outcomes = ranks.run(3, kills_the_host, timeout=8.0, host=0)
    assert outcomes[0].code == -signal.SIGKILL
    for outcome in outcomes[1:]:
        assert outcome.error.startswith("RankError: the job's store is gone, so rank 0 was killed or has left, in call")


def far_apart(rank: int) -> None:
    pd.sharded(Mixture(), dist.group.WORLD)(torch.ones(5 + 60 * rank, 6), torch.full((5 + 60 * rank,), 10))


def test_ranks_that_send_different_amounts_do_not_hang() -> None:
    outcomes = ranks.run(2, far_apart, timeout=8.0)  # gloo ends a process that receives more than it expects
    assert all(o.error.startswith("RankError") or o.code for o in outcomes)


def leaves(rank: int) -> None:
    def watch(frames: Any) -> Any:
        for frame in frames:
            if rank == 0 and frame.round == 2:
                raise KeyError("the bar broke")
            yield frame

    sampled(Mixture(), watch=watch)


def test_a_rank_that_fails_outside_its_model_is_named_by_the_others() -> None:
    outcomes = ranks.run(2, leaves, timeout=8.0)
    assert "KeyError" in outcomes[0].error
    assert outcomes[1].error.startswith("RankError: rank 0: KeyError: 'the bar broke'")
