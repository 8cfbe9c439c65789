"""A policy on many ranks acts as on one: its network's calls are shared out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import paradigms as pd
import ranks
from standins import OBS, OBS_STEPS, LowdimPolicy


def acted(rank: int, mesh: Any) -> tuple[Tensor, pd.Run]:
    """Three chunks, warm, of noise from torch's own generator, which each rank seeds otherwise."""
    torch.manual_seed(0)
    policy = LowdimPolicy("inpaint", steps=20).eval()
    obs = torch.randn(3, 2, OBS_STEPS, OBS, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(rank)
    with torch.no_grad(), pd.parallelize(policy, window=8, warm_start=True, mesh=mesh) as run:
        return torch.stack([policy.predict_action({"obs": seen})["action"] for seen in obs]), run


def of_all(rank: int) -> tuple[Tensor, pd.Run]:
    return acted(rank, dist.group.WORLD)


def test_ranks_act_as_one_does_of_the_first_ranks_seed() -> None:
    outcomes = ranks.run(2, of_all)
    assert not any(o.error for o in outcomes), outcomes
    expected, alone = acted(0, None)
    for found, run in (o.value for o in outcomes):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(found, outcomes[0].value[0])
        assert (run.calls, run.rounds, run.evaluations) == (alone.calls, alone.rounds, alone.evaluations)


def spoiled(rank: int, mesh: Any, by: str) -> tuple[Tensor, pd.Run]:
    """A chunk of four environments, of which one is broken: by what it sees, or by what the network makes of it."""
    torch.manual_seed(0)
    policy = LowdimPolicy("global", steps=12).eval()
    obs = torch.randn(4, OBS_STEPS, OBS, generator=torch.Generator().manual_seed(1))
    obs[1, 0, 0] = torch.nan if by == "observation" else 50.0
    plain = policy.model.forward

    def forward(x: Tensor, t: Any, local_cond: Any = None, global_cond: Any = None) -> Tensor:
        said = plain(x, t, local_cond=local_cond, global_cond=global_cond)
        late = (torch.as_tensor(t).expand(len(x)) < 50)[:, None, None]
        return torch.where((global_cond[:, :1, None] > 40) & late, torch.nan, said)

    policy.model.forward = forward
    torch.manual_seed(rank)
    with torch.no_grad(), pd.parallelize(policy, window=6, tolerance=0, mesh=mesh) as run:
        return policy.predict_action({"obs": obs})["action"], run


def by_observation(rank: int) -> tuple[Tensor, pd.Run]:
    return spoiled(rank, dist.group.WORLD, "observation")


def by_network(rank: int) -> tuple[Tensor, pd.Run]:
    return spoiled(rank, dist.group.WORLD, "network")


@pytest.mark.parametrize("run_on", [by_observation, by_network])
def test_one_broken_environment_spoils_its_own_row_only_on_many_ranks(run_on: Any) -> None:
    """B8: the others are those of one rank."""
    expected, _ = spoiled(0, None, run_on.__name__.removeprefix("by_"))
    outcomes = ranks.run(2, run_on)
    assert not any(o.error for o in outcomes), outcomes
    for found, run in (o.value for o in outcomes):
        assert bool(found[1].isnan().any()) and bool(found[[0, 2, 3]].isfinite().all())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
        assert "stepped alone" in str(run)


def test_compare_on_a_mesh_is_refused_before_any_work() -> None:
    """A8: with what was given and what is needed."""
    policy = LowdimPolicy("global").eval()
    with pytest.raises(ValueError, match=r"compare: given with mesh.*needed: one of the two"):
        pd.parallelize(policy, compare=True, mesh=object())
    assert "conditional_sample" not in vars(policy)
