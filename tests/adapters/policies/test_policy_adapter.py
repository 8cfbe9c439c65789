"""Diffusion policies in parallel give the actions of their own loop, and are left as they were."""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.adapters.policies.backoff import Backoff, weigh
from paradigms.adapters.schedulers.cache import cached_table
from policies import KINDS, act, made
from standins import ACT, OBS, OBS_STEPS, DiffusionPolicy, LowdimPolicy, scheduler

CHAINS: dict[str, tuple[Callable[[], Any], int]] = {
    "DDPM-100": (scheduler, 100),
    "DDPM-20, sample": (lambda: scheduler(prediction_type="sample"), 20),
    "DDIM-15": (lambda: scheduler("DDIMScheduler"), 15),
    "DDIM-10, thresholded": (lambda: scheduler("DDIMScheduler", thresholding=True), 10),
    "DPMSolver-15": (lambda: scheduler("DPMSolverMultistepScheduler"), 15),
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kind", KINDS)
def test_at_tolerance_0_actions_are_the_policys_own(kind: str, chain: str) -> None:
    build, steps = CHAINS[chain]
    policy = made(kind, noise_scheduler=build(), steps=steps)
    expected, left = act(policy, B=2), torch.get_rng_state()
    with pd.parallelize(policy, tolerance=0, window=8) as run:
        found = act(policy, B=2)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert torch.equal(torch.get_rng_state(), left)  # as many draws, of the same stream
    assert (run.calls, run.steps, run.own_calls) == (1, steps, 0) and run.rounds <= steps and not run.fallbacks
    assert run.evaluations >= 2 * steps and run.seconds > run.model_seconds > 0


@pytest.mark.parametrize("kind", KINDS)
def test_within_a_tolerance_actions_are_near_and_rounds_are_fewer(kind: str) -> None:
    policy = made(kind, steps=100)
    expected = act(policy)
    with pd.parallelize(policy, window=16) as run:
        found = act(policy)
    assert float((found - expected).norm() / expected.norm()) < 0.01 and run.rounds < 50


def test_the_window_that_picks_itself_gives_the_same_actions_and_draws_the_same_noise() -> None:
    policy = made("U-Net, global", steps=100)
    with pd.parallelize(policy, warm_start=True) as run:
        for seed in range(4):  # by timing, so what it picks may differ, and what it gives may not
            found, left = act(policy, seed), torch.get_rng_state()
            loop = vars(policy).pop("conditional_sample")
            expected = act(policy, seed)
            vars(policy)["conditional_sample"] = loop
            assert float((found - expected).norm() / expected.norm()) < 0.01
            assert torch.equal(torch.get_rng_state(), left)
    assert run.calls == 4 and run.rounds <= run.steps == 400


def test_where_stepping_is_soonest_the_policys_own_loop_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = made("U-Net, global")
    own, calls, known = LowdimPolicy.conditional_sample, [], Backoff(left=2, span=2, why="a window takes longer")

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        return own(policy, *args, **kwargs)

    expected, left = act(policy), torch.get_rng_state()
    policy.conditional_sample = functools.update_wrapper(counted, policy.conditional_sample)
    monkeypatch.setattr(
        importlib.import_module("paradigms.adapters.policies.loop"), "backoff", lambda network, call: known
    )
    with pd.parallelize(policy, tolerance=0) as run:
        for k in range(3):  # left to it twice, and then weighed
            assert torch.allclose(act(policy), expected, atol=1e-5) and torch.equal(torch.get_rng_state(), left)
            assert len(calls) == run.own_calls == min(k + 1, 2)
        known.left = 1
        data = torch.zeros(1, 16, ACT)
        with pytest.raises(ValueError, match=r"Net: given .*global_cond \(1, 3\), it failed"):
            policy.conditional_sample(data, data.bool(), global_cond=torch.ones(1, 3))
    assert run.calls == 3 and run.seconds > run.model_seconds > 0
    assert "stepped because a window takes longer" in str(run)


def test_calls_rest_at_most_so_long_and_windows_end_it() -> None:
    known = Backoff()
    for _ in range(10):
        weigh(known, (1, 1))
    assert known.left == known.span == 64
    weigh(known, (1, 4, 1))
    assert known.left == 0


@pytest.mark.parametrize("method", [pd.Picard(), pd.Jacobi(), pd.Anderson(), pd.ExponentialPicard()], ids=repr)
def test_every_method_keeps_what_was_seen(method: pd.AbstractMethod) -> None:
    policy = made("U-Net, inpainting", noise_scheduler=scheduler("DDIMScheduler"), steps=12)
    expected = act(policy)
    with pd.parallelize(policy, method, tolerance=0, window=5):
        assert torch.allclose(act(policy), expected, atol=1e-5)


def test_a_chunk_holds_what_was_seen_to_the_bit() -> None:
    policy = made("U-Net, inpainting")
    data, mask = torch.zeros(2, 16, ACT + OBS), torch.zeros(2, 16, ACT + OBS, dtype=torch.bool)
    data[0, 3], mask[0, 3] = torch.randn(ACT + OBS), True  # samples may know different things
    with torch.no_grad(), pd.parallelize(policy, tolerance=0.01, window=8):
        found = policy.conditional_sample(data, mask)
    assert torch.equal(found[mask], data[mask])


def test_a_generator_is_heeded_and_left_where_the_loop_leaves_it() -> None:
    policy = made("U-Net, global")
    states, chunks = [], []
    for parallel in (False, True):
        policy.generator = torch.Generator().manual_seed(7)
        if parallel:
            with pd.parallelize(policy, tolerance=0, window=8):
                chunks.append(act(policy))
        else:
            chunks.append(act(policy))
        states.append(policy.generator.get_state())
    assert torch.allclose(*chunks, atol=1e-5) and torch.equal(*states)
    assert not torch.allclose(chunks[0], act(made("U-Net, global")), atol=1e-2)


def test_one_generator_a_sample_makes_samples_independent_of_their_batch() -> None:
    policy = made("U-Net, global")
    data, seen = torch.zeros(3, 16, ACT), torch.randn(3, OBS_STEPS * OBS, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros_like(data, dtype=torch.bool)
    with torch.no_grad(), pd.parallelize(policy, tolerance=0, window=8):
        together = policy.conditional_sample(
            data, mask, global_cond=seen, generator=[torch.Generator().manual_seed(k) for k in range(3)]
        )
        for k in range(3):
            alone = policy.conditional_sample(
                data[:1], mask[:1], global_cond=seen[k : k + 1], generator=[torch.Generator().manual_seed(k)]
            )
            assert torch.allclose(together[k : k + 1], alone, atol=1e-5)


def test_arguments_of_the_schedulers_step_are_passed_on() -> None:
    noisy, still = (made("U-Net, global", noise_scheduler=scheduler("DDIMScheduler"), eta=eta) for eta in (1.0, 0.0))
    assert not torch.allclose(act(noisy), act(still), atol=1e-2)
    for policy in (noisy, still):
        expected = act(policy)
        with pd.parallelize(policy, tolerance=0, window=8):
            assert torch.allclose(act(policy), expected, atol=1e-5)


def test_lerobots_noise_argument_and_its_queue_of_actions() -> None:
    policy = made("LeRobot")
    noise = torch.randn(2, 16, ACT, generator=torch.Generator().manual_seed(1))
    seen = torch.randn(2, OBS_STEPS * OBS)

    def chunk() -> Tensor:
        torch.manual_seed(5)
        with torch.no_grad():
            return policy.diffusion.conditional_sample(2, global_cond=seen, noise=noise.clone())

    def episode() -> Tensor:
        torch.manual_seed(6)
        policy.reset()
        return torch.stack(
            [policy.select_action({"observation.state": torch.full((1, OBS), k / 9)}) for k in range(18)]
        )

    expected = chunk(), episode()
    with pd.parallelize(policy, tolerance=0, window=8) as run:
        assert torch.allclose(chunk(), expected[0], atol=1e-5)
        assert torch.allclose(episode(), expected[1], atol=1e-5)
    assert run.calls == 1 + 3  # 18 actions of chunks of 8


def test_half_precision_stays_half_and_float64_is_as_exact_as_float32() -> None:
    policy = made("U-Net, global").double()
    data = torch.zeros(1, 16, ACT, dtype=torch.float64)
    how = {"global_cond": torch.ones(1, OBS_STEPS * OBS, dtype=torch.float64)}
    ours = []
    for parallel in (False, True):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            if parallel:
                with pd.parallelize(policy, tolerance=0, window=8):
                    ours.append(policy.conditional_sample(data, data.bool(), **how, generator=generator))
            else:
                ours.append(policy.conditional_sample(data.clone(), data.bool(), **how, generator=generator))
    assert ours[1].dtype == torch.float64 and torch.allclose(*ours, atol=1e-5)
    policy.bfloat16()
    with torch.no_grad(), pd.parallelize(policy, tolerance=0.01, window=8):
        found = policy.conditional_sample(data.bfloat16(), data.bool(), global_cond=how["global_cond"].bfloat16())
    assert found.dtype == torch.bfloat16 and bool(torch.isfinite(found).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_noise_is_the_gpus_and_actions_are_the_policys_own() -> None:
    policy = made("U-Net, global", steps=50).cuda()
    data, seen = torch.zeros(2, 16, ACT, device="cuda"), torch.ones(2, OBS_STEPS * OBS, device="cuda")
    chunks = []
    for parallel in (False, True):
        generator = torch.Generator("cuda").manual_seed(0)
        with torch.no_grad():
            if parallel:
                with pd.parallelize(policy, tolerance=0, window=8):
                    chunks.append(policy.conditional_sample(data, data.bool(), global_cond=seen, generator=generator))
            else:
                chunks.append(
                    policy.conditional_sample(data.clone(), data.bool(), global_cond=seen, generator=generator)
                )
    assert chunks[1].is_cuda and torch.allclose(*chunks, atol=1e-4)


# ------------------------------------------------------------------------------------------ left as it was


def test_a_policy_is_left_as_it_was_also_after_an_error() -> None:
    policy = made("LeRobot")
    state, attributes = copy.deepcopy(policy.state_dict()), set(vars(policy.diffusion))
    expected, config = act(policy), dict(policy.diffusion.noise_scheduler.config)
    with pytest.raises(KeyError), pd.parallelize(policy, window=8):
        act(policy)
        raise KeyError
    assert set(vars(policy.diffusion)) == attributes and torch.equal(act(policy), expected)
    assert all(torch.equal(v, policy.state_dict()[k]) for k, v in state.items())
    assert dict(policy.diffusion.noise_scheduler.config) == config


def test_within_it_state_dict_class_and_signature_stay() -> None:
    import inspect

    policy = made("U-Net, global")
    keys, takes = list(policy.state_dict()), inspect.signature(policy.conditional_sample)
    with pd.parallelize(policy, window=8):
        assert list(policy.state_dict()) == keys and type(policy) is LowdimPolicy
        assert inspect.signature(policy.conditional_sample) == takes
        twin = copy.deepcopy(policy)
    assert "conditional_sample" not in vars(twin) and torch.equal(act(twin), act(policy))


def test_nested_use_goes_back_to_the_outer_and_both_count() -> None:
    policy = made("U-Net, global")
    with pd.parallelize(policy, window=8) as outer:
        with pd.parallelize(policy, tolerance=0, window=4) as inner:
            act(policy)
        act(policy)
    assert (outer.calls, inner.calls) == (1, 1) and "conditional_sample" not in vars(policy)


def test_enabling_twice_and_disabling_once_is_sequential_again() -> None:
    policy = made("U-Net, global")
    pd.enable_parallel_sampling(policy, window=8)
    run = pd.enable_parallel_sampling(policy, window=4)
    act(policy)
    pd.disable_parallel_sampling(policy)
    pd.disable_parallel_sampling(policy)  # of one that is not parallel: nothing
    act(policy)
    assert run.calls == 1 and "conditional_sample" not in vars(policy)


def test_a_loop_of_the_users_own_comes_back() -> None:
    policy = made("U-Net, global")
    plain, calls = policy.conditional_sample, []

    def mine(condition_data: Tensor, condition_mask: Tensor, global_cond: Any = None, generator: Any = None) -> Tensor:
        calls.append(1)
        return plain(condition_data, condition_mask, global_cond=global_cond, generator=generator)

    policy.conditional_sample = mine
    with pd.parallelize(policy, tolerance=0, window=8):
        found = act(policy)
    assert policy.conditional_sample is mine and not calls
    assert torch.allclose(found, act(policy), atol=1e-5) and calls
    pd.enable_parallel_sampling(policy, window=8)
    pd.disable_parallel_sampling(policy)
    assert policy.conditional_sample is mine


def test_a_table_is_read_once_and_anew_when_the_scheduler_changes() -> None:
    policy = made("U-Net, global")
    with pd.parallelize(policy, tolerance=0, window=8):
        act(policy)
        holder = policy.noise_scheduler
        assert cached_table(holder, 20, {}) is cached_table(holder, 20, {})
        changes: list[Callable[[], Any]] = [
            lambda: setattr(policy, "num_inference_steps", 10),
            lambda: setattr(policy, "noise_scheduler", scheduler("DDIMScheduler")),
            lambda: policy.noise_scheduler.register_to_config(clip_sample=False),
            lambda: policy.noise_scheduler.alphas_cumprod.mul_(0.99),
        ]
        for change in changes:
            change()
            found = act(policy)
            with torch.no_grad():
                loop, policy.__dict__["conditional_sample"] = policy.conditional_sample, policy.conditional_sample.own
                expected = act(policy)
                policy.__dict__["conditional_sample"] = loop
            assert torch.allclose(found, expected, atol=1e-5)


# ------------------------------------------------------------------------------------------ refused


def test_a_policy_in_training_mode_is_refused_with_what_to_type() -> None:
    policy = made("transformer")
    with pd.parallelize(policy, window=8) as run:
        policy.train()
        state = torch.get_rng_state()
        with pytest.raises(ValueError, match=r"training mode.*policy\.eval\(\)"):
            policy.predict_action({"obs": torch.zeros(1, OBS_STEPS, OBS)})
        assert torch.equal(torch.get_rng_state(), state) and run.calls == 0


@pytest.mark.parametrize("kind", ["LeRobot", "U-Net, global", "transformer"])
def test_a_wrong_observation_is_refused_with_its_shape(kind: str) -> None:
    policy = made(kind)
    holder, wrong = getattr(policy, "diffusion", policy), OBS_STEPS * OBS + 1
    name, shape = ("cond", (1, OBS_STEPS, OBS + 1)) if kind == "transformer" else ("global_cond", (1, wrong))
    first = (1,) if kind == "LeRobot" else (torch.zeros(1, 16, ACT), torch.zeros(1, 16, ACT, dtype=torch.bool))
    with pd.parallelize(policy, window=8):
        with pytest.raises(ValueError, match=f"{name}.*{shape[-1]}.*needed: observations"):
            holder.conditional_sample(*first, **{name: torch.zeros(shape)})
        with pytest.raises(ValueError, match=rf"{name}: given \(2, .*needed: a tensor \(1, "):
            holder.conditional_sample(*first, **{name: torch.zeros(2, *shape[1:])})


def test_a_wrong_mask_and_wrong_noise_are_refused() -> None:
    policy, robot = made("U-Net, inpainting"), made("LeRobot")
    with pd.parallelize(policy, window=8), pytest.raises(ValueError, match=r"condition_mask \(1, 16, 3\)"):
        policy.conditional_sample(torch.zeros(1, 16, 7), torch.zeros(1, 16, 3, dtype=torch.bool))
    with pd.parallelize(robot, window=8), pytest.raises(ValueError, match=r"noise: given .*needed: \(1, 16, 2\)"):
        robot.diffusion.conditional_sample(1, noise=torch.zeros(1, 16, 3))


def test_a_scheduler_that_is_no_table_is_refused_by_name_before_any_work() -> None:
    policy = made("U-Net, global", noise_scheduler=scheduler(variance_type="learned_range"))
    with pytest.raises(ValueError, match=r"DDPMScheduler.*variance.*type: policy\.noise_scheduler = "):
        pd.enable_parallel_sampling(policy, window=8)
    assert "conditional_sample" not in vars(policy)


@pytest.mark.parametrize("thing", [torch.nn.Linear(2, 2), object(), DiffusionPolicy().diffusion.unet])
def test_what_is_neither_policy_nor_pipeline_is_refused(thing: Any) -> None:
    with pytest.raises(ValueError, match=r"no diffusion policy|nothing in it|needed: a diffusers pipeline"):
        pd.enable_parallel_sampling(thing)


def test_skeleton_sampling_of_a_policy_is_refused_at_once() -> None:
    policy = made("U-Net, global")
    with pytest.raises(ValueError, match=r"method: given Skeleton\(\); needed: .*; type method=Spectral\(\)"):
        pd.enable_parallel_sampling(policy, pd.Skeleton(), warm_start=True)
    assert "conditional_sample" not in vars(policy)


@pytest.mark.parametrize("window", [0, -1, 2.5, True])
def test_a_wrong_window_is_refused(window: Any) -> None:
    with pytest.raises(ValueError, match="window: given"):
        pd.enable_parallel_sampling(made("LeRobot"), window=window)


def test_the_real_lerobot_policy_where_it_is_installed() -> None:
    why = "lerobot is not installed (it pins torch below ours); seen to pass with lerobot 0.4.4"
    kept = pytest.importorskip("lerobot.policies.diffusion.configuration_diffusion", reason=why, exc_type=ImportError)
    model = pytest.importorskip("lerobot.policies.diffusion.modeling_diffusion", reason=why, exc_type=ImportError)
    from lerobot.configs.types import FeatureType, PolicyFeature

    torch.manual_seed(0)
    config = kept.DiffusionConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (5,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (7,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        down_dims=(16, 32), diffusion_step_embed_dim=16, n_groups=4, device="cpu",
    )  # fmt: skip
    policy = model.DiffusionPolicy(config).eval()
    seen = {"observation.state": torch.randn(2, 5), "observation.environment_state": torch.randn(2, 7)}

    def episode() -> Tensor:
        torch.manual_seed(1)
        policy.reset()
        return torch.stack([policy.select_action(dict(seen)) for _ in range(10)])

    expected = episode()
    with pd.parallelize(policy, tolerance=0, window=16) as run:
        assert torch.allclose(episode(), expected, atol=1e-5) and run.calls == 2
    with pd.parallelize(policy, window=16, warm_start=True) as run:
        assert float((episode() - expected).abs().max()) < 0.03 and run.rounds < 60
