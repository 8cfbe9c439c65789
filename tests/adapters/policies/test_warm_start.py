"""A warm start changes what a policy's next chunk costs, and not what it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from paradigms.adapters.policies.warm_start import ChunkMemory, shift_chunk
from paradigms.methods.guess import Extrapolate
from paradigms.methods.spectral import Spectral
from policies import made
from standins import ACT, ACT_STEPS, HORIZON, OBS, OBS_STEPS, DiffusionPolicy, LowdimPolicy, scheduler


class Exact(nn.Module):
    """The noise predictor of chunks that are N(m, width^2), m[i] a smooth path from where the observation is."""

    def __init__(self, noise_scheduler: Any, width: float = 0.05) -> None:
        super().__init__()
        self.register_buffer("kept", noise_scheduler.alphas_cumprod.double().clone())
        self.width = width

    def forward(self, sample: Tensor, timestep: Any, local_cond: Any = None, global_cond: Any = None) -> Tensor:
        """sample (B, T, ACT), timestep (B,) or one, global_cond (B, G) whose first number is where it is."""
        A = self.get_buffer("kept")[torch.as_tensor(timestep)].to(sample).reshape(-1, 1, 1)
        when = global_cond[:, :1, None] + torch.arange(HORIZON)[:, None] / HORIZON  # (B, T, 1)
        m = 0.8 * torch.sin(when + torch.arange(ACT))
        v = A * self.width**2 + (1 - A)
        return (1 - A).sqrt() * (sample - A.sqrt() * m) / v


def exact(steps: int = 100, kind: str = "DDPMScheduler") -> LowdimPolicy:
    """A policy whose network is exact: the chunk after the next is its own, half of it, shifted."""
    policy = LowdimPolicy("global", noise_scheduler=scheduler(kind), steps=steps)
    policy.model = Exact(policy.noise_scheduler)
    return policy.eval()


def chunk(policy: Any, when: float, seed: int, B: int = 2, generator: Any = None) -> Tensor:
    """The chunk at a time of the path, with noise of a seed."""
    data, seen = torch.zeros(B, HORIZON, ACT), torch.full((B, OBS_STEPS * OBS), when)
    generator = generator or torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return policy.conditional_sample(data, data.bool(), global_cond=seen, generator=generator)


def episode(policy: Any, chunks: int = 4) -> Tensor:
    """Chunks one after the other (C, B, T, A), n_action_steps apart."""
    return torch.stack([chunk(policy, k * ACT_STEPS / HORIZON, seed=k) for k in range(chunks)])


@pytest.mark.parametrize(("kind", "steps"), [("DDPMScheduler", 100), ("DDIMScheduler", 15)])
def test_at_tolerance_0_a_warm_answer_is_the_policys_own_for_the_same_generator(kind: str, steps: int) -> None:
    policy = made("U-Net, global", noise_scheduler=scheduler(kind), steps=steps)
    expected = episode(policy)
    with pd.parallelize(policy, tolerance=0, window=8, warm_start=True):
        assert torch.allclose(episode(policy), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "steps"), [("DDPMScheduler", 100), ("DDIMScheduler", 15)])
def test_within_a_tolerance_it_is_near_and_takes_fewer_rounds(kind: str, steps: int) -> None:
    policy = exact(steps, kind)
    expected = episode(policy)
    with pd.parallelize(policy, tolerance=0.01, window=32) as cold:
        episode(policy)
    with pd.parallelize(policy, tolerance=0.01, window=32, warm_start=True) as warm:
        found = episode(policy)
    error = (found - expected).flatten(2).norm(dim=2) / expected.flatten(2).norm(dim=2)
    assert float(error.max()) < 0.01 and warm.rounds < cold.rounds
    assert warm.calls == cold.calls == 4


def test_observations_as_entries_of_the_state_start_warm_too() -> None:
    policy = made("U-Net, inpainting", steps=30)
    obs = torch.randn(3, 1, OBS_STEPS, OBS, generator=torch.Generator().manual_seed(3))

    def run() -> Tensor:
        policy.generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            return torch.stack([policy.predict_action({"obs": seen})["action"] for seen in obs])

    expected = run()
    with pd.parallelize(policy, tolerance=0, window=8, warm_start=True):
        assert torch.allclose(run(), expected, atol=1e-5)


def test_a_reset_forgets_and_is_the_policys_own_again_afterwards() -> None:
    policy = exact()
    with pd.parallelize(policy, tolerance=0.01, window=32, warm_start=True) as run:
        chunk(policy, 0.0, seed=0)
        cold = run.rounds
        chunk(policy, ACT_STEPS / HORIZON, seed=1)
        warm = run.rounds - cold
        policy.reset()
        assert policy.conditional_sample.memory is None
        chunk(policy, ACT_STEPS / HORIZON, seed=1)
        assert warm < run.rounds - cold - warm == cold
    assert "reset" not in vars(policy) and "conditional_sample" not in vars(policy)
    policy.reset()


def test_lerobots_reset_forgets_and_clears_its_queues() -> None:
    policy = made("LeRobot")
    with pd.parallelize(policy, window=8, warm_start=True):
        policy.select_action({"observation.state": torch.zeros(1, OBS)})
        assert policy.diffusion.conditional_sample.memory is not None and policy._queues["action"]
        policy.reset()
        assert policy.diffusion.conditional_sample.memory is None and not policy._queues["action"]
    assert "reset" not in vars(policy) and isinstance(policy, DiffusionPolicy)


def test_a_reset_of_the_users_own_comes_back() -> None:
    policy, calls = exact(), []
    policy.reset = lambda: calls.append(1)
    with pd.parallelize(policy, window=8, warm_start=True), pd.parallelize(policy, window=4, warm_start=True):
        policy.reset()
    pd.enable_parallel_sampling(policy, window=8, warm_start=True)
    pd.enable_parallel_sampling(policy, window=8)
    policy.reset()
    pd.disable_parallel_sampling(policy)
    policy.reset()
    assert len(calls) == 3 and "<lambda>" in repr(policy.reset)


def test_another_shape_batch_or_scheduler_begins_cold() -> None:
    table, other = (pd.from_scheduler(scheduler(), steps) for steps in (10, 20))
    memory = ChunkMemory(table, None, torch.ones(10, 2, HORIZON, ACT))
    same = torch.zeros(2, HORIZON, ACT)
    assert memory.recall(table, same, None, 8) is not None
    assert memory.recall(table, same, torch.Generator(), 8) is not None  # one for all says nothing of who they are
    for system, x in ((other, same), (table, same[:1]), (table, same[:, :8])):
        assert memory.recall(system, x, None, 8) is None
    assert memory.recall(table, same, [torch.Generator(), torch.Generator()], 8) is None


def test_samples_with_generators_of_their_own_are_known_by_them_in_any_batch() -> None:
    table = pd.from_scheduler(scheduler(), 10)
    a, b, c = (torch.Generator() for _ in range(3))
    D = torch.randn(10, 2, HORIZON, ACT)
    sums = torch.rand(2, 10, 2, 5)
    memory = ChunkMemory(table, [a, b], D, [sums])
    last = memory.recall(table, torch.zeros(3, HORIZON, ACT), [b, c, a], 8)
    assert last is not None and last[1] is not None
    for found, kept in ((last[0], shift_chunk(D, 8)), (last[1][0], sums[0]), (last[1][1], sums[1])):
        assert torch.equal(found[:, [0, 2]], kept[:, [1, 0]]) and not found[:, 1].any()


def test_a_call_that_knows_the_jacobian_takes_fewer_rounds() -> None:
    policy = exact(50)
    table = pd.from_scheduler(policy.noise_scheduler, 50)
    x = torch.randn(1, HORIZON, ACT, generator=torch.Generator().manual_seed(1))
    seen = {"global_cond": torch.zeros(1, OBS_STEPS * OBS)}
    rounds, sums = [], None
    for _ in range(2):  # the same chain from the same noise, so that nothing but the Jacobian is known
        memory = ChunkMemory(table, None, torch.zeros(50, 1, HORIZON, ACT))
        method = memory.method(Spectral(), Extrapolate(), sums)
        g = torch.Generator().manual_seed(2)
        found = pd.sample(policy.model, table, x, method, window=50, tolerance=1e-3, generator=g, condition=seen)
        (sums,), rounds = memory.learned, [*rounds, found.rounds]
    assert rounds[1] < rounds[0]


def test_lockstep_episodes_that_end_leave_the_others_warm_and_right() -> None:
    policy = exact()
    seen = torch.zeros(3, OBS_STEPS * OBS)

    def both(parallel: bool) -> list[Tensor]:
        generators = [torch.Generator().manual_seed(k) for k in range(3)]
        chunks = []
        for alive in ([0, 1, 2], [0, 2], [2, 0]):
            data, own = torch.zeros(len(alive), HORIZON, ACT), [generators[k] for k in alive]
            with torch.no_grad():
                if parallel:
                    chunks.append(policy.conditional_sample(data, data.bool(), global_cond=seen[alive], generator=own))
                else:
                    one = [
                        policy.conditional_sample(data[:1], data[:1].bool(), global_cond=seen[:1], generator=g)
                        for g in own
                    ]
                    chunks.append(torch.cat(one))
        return chunks

    expected = both(False)
    with pd.parallelize(policy, tolerance=0, window=16, warm_start=True):
        found = both(True)
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(found, expected, strict=True))


def test_a_shift_repeats_the_last_action_also_where_nothing_is_left() -> None:
    D = torch.arange(6.0).reshape(3, 2)
    assert torch.equal(shift_chunk(D, 1), D[[1, 2, 2]]) and torch.equal(shift_chunk(D, 5), D[[2, 2, 2]])
    assert torch.equal(shift_chunk(D, 0), D)


def test_a_policy_that_does_not_say_how_far_it_goes_is_refused() -> None:
    policy = made("U-Net, global")
    del policy.n_action_steps
    with pytest.raises(ValueError, match="warm_start: LowdimPolicy has no n_action_steps"):
        pd.enable_parallel_sampling(policy, window=8, warm_start=True)
    pd.enable_parallel_sampling(policy, window=8)
