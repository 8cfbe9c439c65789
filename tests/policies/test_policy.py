"""The policy: its own loop against one written by hand, its generators, its normaliser, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("diffusers")
pytest.importorskip("numpy")
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from paradigms.policies import DiffusionPolicy, Task, build
from paradigms.policies.policy import MinMax, few_steps


def nothing() -> None:
    raise AssertionError("these tests need no simulator")


TASK = Task("reach", 3, (-2.0, 0.0), (2.0, 1.0), 40, 10.0, nothing, nothing)  # type: ignore[arg-type]


@pytest.fixture
def policy() -> DiffusionPolicy:
    torch.manual_seed(0)
    return build(TASK, "unet", widths=(8, 16), embed=8)


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def test_the_loop_is_the_schedulers(policy: DiffusionPolicy) -> None:
    """x <- scheduler.step(model(x)), written out with diffusers' DDPM of the published settings."""
    obs = torch.randn(2, 2, 3)
    answer = policy.predict_action({"obs": obs}, generator=torch.Generator().manual_seed(7))
    scheduler = DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    g = torch.Generator().manual_seed(7)
    x = torch.randn(2, 16, 2, generator=g)
    with torch.no_grad():
        for t in range(99, -1, -1):
            x = scheduler.step(policy.model(x, t, global_cond=obs.flatten(1)), t, x, generator=g).prev_sample
    expected = torch.stack([2 * x[..., 0], 0.5 * x[..., 1] + 0.5], -1)  # -1..1 to the task's -2..2 and 0..1
    assert torch.equal(answer["action_pred"], expected)
    assert torch.equal(answer["action"], expected[:, 1:9])


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver"])
def test_a_rows_noise_does_not_depend_on_its_batch(policy: DiffusionPolicy, name: str) -> None:
    if name == "ddim":
        few_steps(policy, 5)
    if name == "dpmsolver":
        policy.noise_scheduler = DPMSolverMultistepScheduler.from_config(policy.noise_scheduler.config)
        policy.num_inference_steps = 5
    obs = torch.randn(3, 2, 3)
    together = policy.predict_action({"obs": obs}, generator=seeded(4, 5, 6))["action"]
    for n in range(3):
        alone = policy.predict_action({"obs": obs[n : n + 1]}, generator=seeded(4 + n))["action"]
        torch.testing.assert_close(together[n : n + 1], alone, atol=1e-4, rtol=1e-4)


def test_inpainting_holds_what_the_mask_says(policy: DiffusionPolicy) -> None:
    data, mask = torch.randn(1, 16, 2).clamp(-1, 1), torch.zeros(1, 16, 2, dtype=torch.bool)
    mask[:, :4] = True
    with torch.no_grad():
        x = policy.conditional_sample(data, mask, global_cond=torch.zeros(1, 6), generator=seeded(0))
    assert torch.equal(x[mask], data[mask])
    assert not torch.equal(x[~mask], data[~mask])


def test_observations_of_another_shape_are_refused(policy: DiffusionPolicy) -> None:
    for shape in [(2, 3), (1, 1, 3), (1, 2, 4)]:
        with pytest.raises(ValueError, match=r"needs \(B, 2, 3\)"):
            policy.predict_action({"obs": torch.zeros(shape)})


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="unet, mlp"):
        build(TASK, "transformer")


bounds = st.floats(-1e3, 1e3, width=32)


@given(st.lists(st.tuples(bounds, bounds, st.floats(0, 1, width=32)), min_size=1, max_size=4))
def test_the_normaliser_goes_there_and_back(rows: list[tuple[float, float, float]]) -> None:
    low, high, u = torch.tensor(rows).unbind(-1)
    low, high = low.minimum(high), low.maximum(high)
    n, x = MinMax(low, high), low + u * (high - low)
    y = n.normalize(x)
    wide = high - low > 1e-2  # narrower ones lose digits to their offset
    assert bool((y[wide].abs() <= 1.01).all())
    torch.testing.assert_close(n.unnormalize(y), x, atol=1e-3, rtol=1e-5)
