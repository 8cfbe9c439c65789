"""A policy's own loop is never replaced by another: what a table cannot answer for runs as it is, with the reason."""

from __future__ import annotations

import copy
import functools
import pickle
import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from policies import act, made
from standins import ACT, ACT_STEPS, HORIZON, OBS, OBS_STEPS, DiffusionModel, DiffusionPolicy, LowdimPolicy, scheduler


class Steered(LowdimPolicy):
    """Its loop adds 0.3 (x - 0.8) to what the network says."""

    strength = 0.3

    def loop(self, said: Any, *args: Any, **kwargs: Any) -> Tensor:
        return super().loop(lambda x, t: said(x, t) + self.strength * (x - 0.8), *args, **kwargs)


class Around(LowdimPolicy):
    """Its `conditional_sample` takes anything, hands it on, and moves the answer."""

    def conditional_sample(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().conditional_sample(*args, **kwargs) + 0.01


class SteeredRobot(DiffusionModel):
    """LeRobot's model, which holds its first action where it was."""

    def conditional_sample(
        self,
        batch_size: int,
        global_cond: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        chunk = super().conditional_sample(batch_size, global_cond, generator, noise)
        chunk[:, 0] = 0.5
        return chunk


class TwoNoises(LowdimPolicy):
    """Its loop draws once more than a table's."""

    def loop(self, said: Any, data: Tensor, mask: Tensor, generator: Any, **kwargs: Any) -> Tensor:
        found = super().loop(said, data, mask, generator, **kwargs)
        torch.randn(3, generator=generator)
        return found


class Counting(LowdimPolicy):
    """Its loop keeps account of its calls, and pushes every third chunk."""

    count = 0

    def loop(self, *args: Any, **kwargs: Any) -> Tensor:
        self.count += 1
        return super().loop(*args, **kwargs) + (0.1 if self.count % 3 == 0 else 0.0)


class TwoAnswers(LowdimPolicy):
    """Its loop asks with and without what is seen, as guidance does; its further arguments are `more`."""

    def conditional_sample(
        self, condition_data: Tensor, condition_mask: Tensor, local_cond: Tensor | None = None,
        global_cond: Tensor | None = None, generator: Any = None, **more: Any,
    ) -> Tensor:  # fmt: skip
        def said(x: Tensor, t: Tensor) -> Tensor:
            known, none = (self.model(x, t, global_cond=c) for c in (global_cond, torch.zeros_like(global_cond)))
            return 3 * known - 2 * none

        return self.loop(said, condition_data, condition_mask, generator, **more)


class DP3(LowdimPolicy):
    """As DP3's: neither the generator nor further arguments reach the scheduler."""

    def conditional_sample(
        self,
        condition_data: Tensor,
        condition_mask: Tensor,
        condition_data_pc: Any = None,
        condition_mask_pc: Any = None,
        local_cond: Tensor | None = None,
        global_cond: Tensor | None = None,
        generator: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        trajectory = torch.randn(size=condition_data.shape, dtype=condition_data.dtype, device=condition_data.device)
        self.noise_scheduler.set_timesteps(self.num_inference_steps)
        for t in self.noise_scheduler.timesteps:
            trajectory[condition_mask] = condition_data[condition_mask]
            said = self.model(sample=trajectory, timestep=t, local_cond=local_cond, global_cond=global_cond)
            trajectory = self.noise_scheduler.step(said, t, trajectory).prev_sample
        trajectory[condition_mask] = condition_data[condition_mask]
        return trajectory


def build(kind: type, **how: Any) -> Any:
    """A policy of a class with weights of its own, at rest."""
    torch.manual_seed(0)
    return kind(**how).eval()


def near(x: Tensor, y: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two chunks are the same but for rounding."""
    return float((x - y).norm()) <= tolerance * float(y.norm())


def chunk(policy: Any, B: int = 2, seen: Tensor | None = None, seed: int = 3, **how: Any) -> Tensor:
    """A chunk by the policy's `conditional_sample`, with noise of a seed from torch's own stream."""
    data = torch.zeros(B, HORIZON, ACT)
    if seen is None:
        seen = torch.randn(B, OBS_STEPS * OBS, generator=torch.Generator().manual_seed(B))
    torch.manual_seed(seed)
    with torch.no_grad():
        return policy.conditional_sample(data, data.bool(), global_cond=seen, **how)


# ------------------------------------------------------------------------------------------ A7


@pytest.mark.parametrize("kind", [Steered, Around, TwoNoises, TwoAnswers, Counting])
@pytest.mark.parametrize("window", [8, "auto"])
def test_a_loop_with_something_of_its_own_runs_itself_at_every_call(kind: type, window: Any) -> None:
    """A7: nothing of it is dropped, no call is another sampler's, and the report says why."""
    policy, twin = build(kind), build(kind)
    with pd.parallelize(policy, window=window, tolerance=0.01) as run:
        for seed in range(6):
            assert torch.equal(chunk(policy, seed=seed), chunk(twin, seed=seed))
            assert torch.equal(torch.get_rng_state(), (chunk(twin, seed=seed), torch.get_rng_state())[1])
            twin.count = getattr(policy, "count", 0)
    assert (run.calls, run.own_calls, run.rounds) == (6, 6, 6 * 20)
    assert len(run.fallbacks) == 1 and f"{kind.__name__}.conditional_sample" in run.fallbacks[0]
    assert run.fallbacks[0] in str(run)


def test_a_lerobot_loop_with_something_of_its_own_runs_itself() -> None:
    """A7, of the other library."""
    policy = build(DiffusionPolicy)
    policy.diffusion.__class__ = SteeredRobot
    expected = act(policy)
    with pd.parallelize(policy, window=8) as run:
        assert torch.equal(act(policy), expected)
    assert run.own_calls == 1 and "off what the table of its scheduler gives" in run.fallbacks[0]


def test_steering_that_is_switched_on_later_is_found_when_it_is() -> None:
    """A7: what a loop reads of its policy is watched, not only its class."""
    policy = build(Steered)
    policy.strength = 0.0
    plain = chunk(policy)
    with pd.parallelize(policy, window=8, tolerance=0) as run:
        assert near(chunk(policy), plain) and run.own_calls == 0
        policy.strength = 0.3
        steered = chunk(policy)
        assert run.own_calls == 1
        policy.strength = 0.0
        assert near(chunk(policy), plain) and run.own_calls == 1
    policy.strength = 0.3
    assert torch.equal(chunk(policy), steered) and not near(steered, plain, 0.01)


def zero(self: Any, condition_data: Tensor, condition_mask: Tensor, global_cond: Any = None) -> Tensor:
    """A loop that gives 0."""
    return 0 * condition_data


@pytest.mark.parametrize("change", ["class", "class's method", "steps", "scheduler"])
def test_a_loop_that_changes_while_it_is_parallel_is_tried_again(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: class, method, steps or scheduler."""
    policy = build(LowdimPolicy)
    with pd.parallelize(policy, window=8, tolerance=0) as run:
        chunk(policy)
        if change == "class":
            policy.__class__ = Steered
        elif change == "class's method":
            monkeypatch.setattr(LowdimPolicy, "conditional_sample", zero)
        elif change == "steps":
            policy.num_inference_steps = 7
        else:
            policy.noise_scheduler = scheduler("DDIMScheduler")
        found = chunk(policy)
    assert near(found, chunk(policy))
    assert run.own_calls == (1 if change.startswith("class") else 0)


def test_a_scheduler_whose_step_is_replaced_is_tried_again() -> None:
    """A7: steering may be put on the scheduler, too."""
    policy = build(LowdimPolicy)
    own = policy.noise_scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        made = own(*args, **kwargs)
        made.prev_sample = 0.99 * made.prev_sample + 0.01
        return made

    with pd.parallelize(policy, window=8, tolerance=0) as run:
        chunk(policy)
        policy.noise_scheduler.step = functools.update_wrapper(step, own)
        found = chunk(policy)
    assert near(found, chunk(policy)) and run.own_calls == 1


def test_a_loop_put_in_place_by_the_user_is_tried_where_it_leads() -> None:
    """A7: a wrapper that adds nothing is run in parallel, and one that does runs itself."""
    policy, calls, push = build(LowdimPolicy), [], [0.0]
    plain = policy.conditional_sample

    def wrapped(condition_data: Tensor, condition_mask: Tensor, global_cond: Any = None, generator: Any = None) -> Any:
        calls.append(1)
        return push[-1] + plain(condition_data, condition_mask, global_cond=global_cond, generator=generator)

    for own in (0, 1):
        push.append(0.1 * own)
        policy.conditional_sample = wrapped
        expected = chunk(policy)
        calls.clear()
        with pd.parallelize(policy, window=8, tolerance=0) as run:
            assert near(chunk(policy), expected)
        assert run.own_calls == len(calls) == own and policy.conditional_sample is wrapped


@pytest.mark.parametrize("window", [8, "auto"])
def test_unknown_arguments_make_the_own_loop_run(window: Any) -> None:
    """A7: `guide` is not dropped; given as None it says nothing."""

    class Guided(LowdimPolicy):
        def conditional_sample(
            self, condition_data: Tensor, condition_mask: Tensor, local_cond: Any = None, global_cond: Any = None,
            generator: Any = None, guide: Any = None, **kwargs: Any,
        ) -> Tensor:  # fmt: skip
            found = super().conditional_sample(condition_data, condition_mask, local_cond, global_cond, generator)
            return found if guide is None else guide(found)

    policy = build(Guided)
    expected = chunk(policy), chunk(policy, guide=torch.tanh)
    with pd.parallelize(policy, window=window, tolerance=0) as run:
        assert near(chunk(policy, guide=None), expected[0])
        for _ in range(3):
            assert torch.equal(chunk(policy, guide=torch.tanh), expected[1])
    assert any("given guide" in why for why in run.fallbacks) and run.own_calls >= 3


def test_a_trial_leaves_streams_state_hooks_and_network_alone() -> None:
    """A7: the user's random numbers, buffers, queues, hooks and network are not those of the trial."""
    calls: list[Any] = []

    class Busy(LowdimPolicy):
        def loop(self, *args: Any, **kwargs: Any) -> Tensor:
            self.queue.append(random.random())
            self.seen_calls.add_(1)
            return super().loop(*args, **kwargs) + 0.0 * random.random()

    policy = build(Busy)
    policy.queue = deque(maxlen=4)
    policy.register_buffer("seen_calls", torch.zeros(()))
    policy.generator = torch.Generator().manual_seed(5)
    policy.model.register_forward_hook(lambda *given: calls.append(given))
    states = random.getstate(), torch.get_rng_state(), policy.generator.get_state()
    timesteps = policy.noise_scheduler.timesteps
    run = pd.enable_parallel_sampling(policy, window=8)  # which tries it, too
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert not calls and not policy.queue and float(policy.seen_calls) == 0
    assert torch.equal(policy.generator.get_state(), states[2]) and policy.noise_scheduler.timesteps is timesteps
    chunk(policy)
    assert len(calls) == 20 and len(policy.queue) == 1 and float(policy.seen_calls) == 1
    assert "it changes queue, seen_calls" in run.fallbacks[0]
    chunk(policy)  # what a loop's own run changes is no reason to try it again for ever
    pd.disable_parallel_sampling(policy)


def test_a_policy_that_holds_what_cannot_be_copied_is_parallel_where_its_loop_does_not_use_it() -> None:
    """A7: a lock beside the loop is nothing to it, and one within it is named."""
    import threading

    class Locked(LowdimPolicy):
        def loop(self, *args: Any, **kwargs: Any) -> Tensor:
            with self.lock:
                return super().loop(*args, **kwargs)

    for kind, own in ((LowdimPolicy, 0), (Locked, 1)):
        policy = build(kind)
        policy.lock = threading.Lock()
        expected = chunk(policy)
        with pd.parallelize(policy, window=8, tolerance=0) as run:
            assert near(chunk(policy), expected)
        assert run.own_calls == own and all("lock" in why for why in run.fallbacks)


# ------------------------------------------------------------------------------------------ A8


@pytest.mark.parametrize("kwargs", [{}, {"points": 512, "eta": 1.0}])
def test_dp3s_loop_whose_further_arguments_go_nowhere_is_parallel_and_right(kwargs: Any) -> None:
    """A8: arguments that the loop never reads are not the scheduler's."""
    policy = build(DP3, noise_scheduler=scheduler("DDIMScheduler"), **kwargs)
    policy.generator = torch.Generator().manual_seed(1)  # which the loop does not read either
    expected, left = act(policy, B=2), torch.get_rng_state()
    with pd.parallelize(policy, window=8, tolerance=0) as run:
        assert near(act(policy, B=2), expected) and torch.equal(torch.get_rng_state(), left)
    assert run.own_calls == 0 and not run.fallbacks


@pytest.mark.parametrize("kind", ["LeRobot", "U-Net, global"])
def test_a_scheduler_that_the_own_loop_cannot_run_is_refused_at_once(kind: str) -> None:
    """A8: before any call, with the loop's own error and what to type."""
    policy = made(kind, noise_scheduler=unipc())
    with pytest.raises(ValueError, match=r"UniPC.* cannot be run by .*generator.*; type: policy\.noise_scheduler = "):
        pd.enable_parallel_sampling(policy)
    holder = getattr(policy, "diffusion", policy)
    assert "conditional_sample" not in vars(holder)
    fine = made(kind)
    holder = getattr(fine, "diffusion", fine)
    with pd.parallelize(fine, window=8) as run:
        holder.noise_scheduler = unipc()
        for _ in range(2):
            with pytest.raises(ValueError, match=r"UniPC.* cannot be run by"):
                act(fine)
    assert run.calls == 0


def unipc() -> Any:
    """A scheduler whose step takes no generator."""
    import diffusers as df

    return df.UniPCMultistepScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")


# ------------------------------------------------------------------------------------------ B7


def test_pickles_and_copies_of_a_parallel_policy_are_plain() -> None:
    """B7: also of one that starts warm, and while it is parallel."""
    policy = build(LowdimPolicy)
    expected = chunk(policy)
    with pd.parallelize(policy, window=8, warm_start=True) as run:
        chunk(policy)
        for twin in (copy.deepcopy(policy), copy.copy(policy), pickle.loads(pickle.dumps(policy))):
            assert set(vars(twin)) == set(vars(build(LowdimPolicy)))
            assert torch.equal(chunk(twin), expected)
        assert run.calls == 1 and not torch.equal(chunk(policy), expected) and run.calls == 2
    robot = build(DiffusionPolicy)
    pd.enable_parallel_sampling(robot, window=8, warm_start=True)
    robot.reset()
    twin = pickle.loads(pickle.dumps(robot))
    pd.disable_parallel_sampling(robot)
    assert "conditional_sample" not in vars(twin.diffusion) and "reset" not in vars(twin)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)])
def test_contexts_left_in_any_order_leave_none_parallel(order: tuple[int, ...]) -> None:
    """B7: what is seen is always the last that is not over."""
    policy = build(LowdimPolicy)
    before = set(vars(policy))
    contexts = [pd.parallelize(policy, window=w, warm_start=True) for w in (2, 4, 8)]
    runs = [context.__enter__() for context in contexts]
    open_ = [0, 1, 2]
    for n in order:
        contexts[n].__exit__(None, None, None)
        open_.remove(n)
        counts = [run.calls for run in runs]
        chunk(policy)
        assert [run.calls - c for run, c in zip(runs, counts, strict=True)] == [
            int(open_[-1:] == [k]) for k in range(3)
        ]
    assert set(vars(policy)) == before


def test_contexts_of_two_policies_that_share_their_model_leave_none_parallel() -> None:
    """B7: the first to be entered is the first to be left."""
    one, two = build(DiffusionPolicy), build(DiffusionPolicy)
    two.diffusion = one.diffusion
    contexts = [pd.parallelize(policy, window=8) for policy in (one, two)]
    for context in contexts:
        context.__enter__()
    for context in contexts:
        context.__exit__(None, None, None)
    assert "conditional_sample" not in vars(one.diffusion) and "__getstate__" not in vars(one.diffusion)


# ------------------------------------------------------------------------------------------ B8


@pytest.mark.parametrize("window", [8, "auto"])
@pytest.mark.parametrize("warm", [False, True])
def test_a_broken_observation_spoils_its_own_chunk_only(window: Any, warm: bool) -> None:
    """B8: as in the policy's own loop, and the report names the sample."""
    policy = build(LowdimPolicy)
    seen = torch.randn(3, OBS_STEPS * OBS)
    seen[1, 2] = torch.nan
    expected = chunk(policy, 3, seen)
    assert bool(expected[1].isnan().all())
    with pd.parallelize(policy, window=window, tolerance=0, warm_start=warm) as run:
        for _ in range(3):
            found = chunk(policy, 3, seen)
            assert bool(found[1].isnan().all()) and near(found[[0, 2]], expected[[0, 2]])
    assert run.own_calls or run.fallbacks == ["sample 1: its observation is not finite; it was stepped alone"]


def test_a_batch_of_broken_observations_and_broken_known_entries_end_as_in_the_own_loop() -> None:
    """B8: all of a batch, and observations that are entries of the state."""
    policy = build(LowdimPolicy)
    broken = torch.full((2, OBS_STEPS * OBS), torch.inf)
    with pd.parallelize(policy, window=8):
        assert not bool(chunk(policy, 2, broken).isfinite().any())
    policy = build(LowdimPolicy, seen="inpaint")
    obs = torch.randn(3, OBS_STEPS, OBS)
    obs[2, 0, 1] = torch.nan
    torch.manual_seed(0)
    with torch.no_grad():
        expected = policy.predict_action({"obs": obs})["action_pred"]
        torch.manual_seed(0)
        with pd.parallelize(policy, window=8, tolerance=0):
            found = policy.predict_action({"obs": obs})["action_pred"]
    assert torch.allclose(found, expected, atol=1e-5, equal_nan=True) and bool(expected[2].isnan().any())


def test_a_network_that_knows_what_to_do_with_a_broken_observation_is_asked() -> None:
    """B8: NaN may be how an observation says that a sensor is off."""
    policy = build(LowdimPolicy)
    forward = policy.model.forward
    policy.model.forward = lambda x, t, local_cond=None, global_cond=None: forward(
        x, t, local_cond, torch.nan_to_num(global_cond)
    )
    seen = torch.randn(2, OBS_STEPS * OBS)
    seen[0, 0] = torch.nan
    expected = chunk(policy, 2, seen)
    with pd.parallelize(policy, window=8, tolerance=0):
        found = chunk(policy, 2, seen)
    assert bool(found.isfinite().all()) and near(found, expected)


def test_a_network_that_fails_on_single_samples_spoils_those_only() -> None:
    """B8: NaN from the network, from an observation that is finite."""
    policy = build(LowdimPolicy)
    forward = policy.model.forward

    def failing(x: Tensor, t: Any, local_cond: Any = None, global_cond: Any = None) -> Tensor:
        said = forward(x, t, local_cond, global_cond)
        late = (torch.as_tensor(t).expand(len(x)) < 50)[:, None, None]
        return torch.where((global_cond[:, :1, None] > 5) & late, torch.nan, said)

    policy.model.forward = failing
    seen = torch.randn(4, OBS_STEPS * OBS)
    seen[[0, 3], 0] = 9.0
    expected = chunk(policy, 4, seen)
    with pd.parallelize(policy, window=8, tolerance=0) as run:
        found = chunk(policy, 4, seen)
    assert bool(found[[0, 3]].isnan().all()) and near(found[[1, 2]], expected[[1, 2]])
    assert [why[:8] for why in run.fallbacks] == ["sample 0", "sample 3"] and "not finite" in run.fallbacks[0]


# ------------------------------------------------------------------------------------------ B9


@pytest.mark.parametrize(("window", "warm"), [(8, False), ("auto", False), (16, True)])
def test_a_compiled_policy_has_few_graphs(window: Any, warm: bool) -> None:
    """B9: at most 5, where its own loop has 42."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    policy, counter = build(DiffusionPolicy), CompileCounter()
    seen = {"observation.state": torch.zeros(1, OBS)}

    def acted() -> Tensor:
        torch.manual_seed(0)
        policy.reset()
        return torch.stack([policy.select_action(dict(seen)) for _ in range(2 * ACT_STEPS)])

    expected = acted()
    policy.diffusion.generate_actions = torch.compile(policy.diffusion.generate_actions, backend=counter)
    with pd.parallelize(policy, window=window, warm_start=warm, tolerance=0) as run:
        assert near(acted(), expected)
    assert run.calls == 2 and counter.frame_count <= 5
    torch._dynamo.reset()


# ------------------------------------------------------------------------------------------ point 3, the report


def test_a_window_of_1_is_the_policys_own_loop_bit_for_bit() -> None:
    policy = build(LowdimPolicy)
    expected = chunk(policy)
    with pd.parallelize(policy, window=1) as run:
        assert torch.equal(chunk(policy), expected)
    assert run.own_calls == 1 and "window=1" in str(run)


@pytest.mark.parametrize("how", ["global", "one", "several"])
def test_compare_gives_the_error_against_the_own_loop_on_the_same_noise(how: str) -> None:
    """B2, point 3: the streams end where they would without it."""
    policy = build(LowdimPolicy, steps=50)

    def generator() -> Any:
        made = [torch.Generator().manual_seed(k) for k in (1, 2)]
        return {"global": None, "one": made[0], "several": made}[how]

    with pd.parallelize(policy, window=16):
        found, left = chunk(policy, generator=generator()), torch.get_rng_state()
    with pd.parallelize(policy, window=16, compare=True) as run:
        g = generator()
        assert torch.equal(chunk(policy, generator=g), found) and torch.equal(torch.get_rng_state(), left)
    own = generator()
    if how == "several":
        seen = torch.randn(2, OBS_STEPS * OBS, generator=torch.Generator().manual_seed(2))
        right = torch.cat([chunk(policy, 1, seen[k : k + 1], generator=own[k]) for k in range(2)])
    else:
        right = chunk(policy, generator=own)
    error = (found - right).flatten(1).norm(dim=1) / right.flatten(1).norm(dim=1)
    assert run.max_error == pytest.approx(float(error.max()), rel=1e-3) and 0 < run.max_error < 0.01
    assert run.calls == 1 and run.speedup is not None
    assert "relative error against the policy's own loop" in str(run) and "times as fast" in str(run)


def test_the_report_says_the_window_and_why_a_call_was_stepped() -> None:
    """B1, B2 for policies."""
    policy = build(LowdimPolicy)
    with pd.parallelize(policy, window=8) as run:
        chunk(policy)
    assert "window=8: windows of up to 8" in str(run) and "speedup not measured; compare=True measures it" in str(run)
    with pd.parallelize(policy, tolerance=0) as run:
        for _ in range(4):
            chunk(policy)
    assert "window='auto'" in str(run) and all(f"stepped because {why}" in str(run) for why in run.reasons)
    assert not run.own_calls or run.reasons


def test_a_mesh_and_a_loop_of_its_own_are_refused_together() -> None:
    with pytest.raises(ValueError, match="compare: given with mesh"):
        pd.parallelize(build(LowdimPolicy), compare=True, mesh=SimpleNamespace()).__enter__()


# ------------------------------------------------------------------------------------------ B11


def test_the_shipped_unet_in_bfloat16_runs_in_its_own_dtype_and_as_its_own_loop() -> None:
    """B11: to what 15 and 100 steps of rounding come to, and bit for bit with a window of 1."""
    from paradigms.policies.policy import build as shipped
    from paradigms.policies.tasks.task import load_task

    torch.manual_seed(0)
    policy = shipped(load_task("pusht"), "unet", widths=(16, 32), embed=16).bfloat16()
    obs, dtypes = torch.randn(2, 2, policy.obs_dim), set()
    policy.model.out.register_forward_hook(lambda module, given, said: dtypes.add(said.dtype))

    def acted() -> Tensor:
        g = torch.Generator().manual_seed(1)
        return policy.predict_action({"obs": obs}, generator=g)["action"]

    expected = acted()
    assert expected.dtype == torch.bfloat16
    for window, tolerance in ((8, 0.05), (1, 0.0)):
        with pd.parallelize(policy, window=window) as run:
            found = acted()
        assert found.dtype == torch.bfloat16 and near(found.float(), expected.float(), tolerance)
        assert run.own_calls == (window == 1)
    assert dtypes == {torch.bfloat16}


class Cast(torch.nn.Module):
    """A bfloat16 network in a float32 loop."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner.bfloat16()

    def forward(self, x: Tensor, t: Any, local_cond: Any = None, global_cond: Any = None) -> Tensor:
        """As the network within it."""
        return self.inner(x.bfloat16(), t, None, global_cond.bfloat16())


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("way", ["autocast", "half network"])
def test_a_network_that_answers_in_bfloat16_gives_what_its_own_loop_gives(kind: str, way: str) -> None:
    """A12, B11: schedulers draw noise in the dtype of the network's answer."""
    policy = build(LowdimPolicy, noise_scheduler=scheduler(kind), steps=10)
    if way == "half network":
        policy.model = Cast(policy.model).eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        expected = chunk(policy)
        with pd.parallelize(policy, window=8, tolerance=0):
            assert near(chunk(policy), expected, 0.02)


def test_a_loop_that_does_something_else_in_half_precision_is_found() -> None:
    """A7, A12: the trial is made in float32 for equality, and in half precision for what happens there alone."""

    class Else(LowdimPolicy):
        def loop(self, said: Any, *args: Any, **kwargs: Any) -> Tensor:
            def other(x: Tensor, t: Tensor) -> Tensor:
                m: Tensor = said(x, t)
                return m.flip(1) if m.dtype == torch.bfloat16 else m

            return super().loop(other, *args, **kwargs)

    policy = build(Else, steps=10)
    with pd.parallelize(policy, window=8, tolerance=0) as run:
        chunk(policy)
        assert run.own_calls == 0
        policy.model = Cast(policy.model).eval()
        found = chunk(policy)
    assert run.own_calls == 1 and "in bfloat16" in run.fallbacks[0] and torch.equal(found, chunk(policy))
