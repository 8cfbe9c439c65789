"""A policy on many ranks acts as on one: its network's calls are shared out."""

from __future__ import annotations

from typing import Any

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
