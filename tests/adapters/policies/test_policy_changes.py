"""What a policy's loop depends on beside its arguments is watched from call to call; what it decides is found."""

from __future__ import annotations

import functools
import math
import random
import types
from collections.abc import Callable
from typing import Any

import diffusers as df
import numpy as np
import pytest
import torch
from test_policy_trust import Steered, build, chunk, near
from torch import Tensor, nn

import paradigms as pd
from interrupts import interrupted
from paradigms.adapters.policies.loop_check import one_trial
from standins import ACT, OBS, OBS_STEPS, LowdimPolicy, Net, scheduler

SCALE = 0.0


class Settings:
    """A class that is used as a namespace."""

    scale = 0.0


class Guide:
    """A helper of a policy's."""

    scale = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * (x - 0.8)


class Slotted:
    """A helper without a dictionary."""

    __slots__ = ("scale",)


class Warm(df.DDPMScheduler):
    """A scheduler with a setting of its own."""

    temperature = 1.0

    def step(self, *args: Any, **kwargs: Any) -> Any:
        made = super().step(*args, **kwargs)
        made.prev_sample = made.prev_sample * self.temperature
        return made


def steering(read: Callable[[Any], Any]) -> type:
    """A policy whose loop is pushed by what `read` finds in it."""

    class Pushed(LowdimPolicy):
        offset = 0.0

        def loop(self, said: Any, *args: Any, **kwargs: Any) -> Tensor:
            return super().loop(lambda x, t: said(x, t) + read(self) * (x - 0.8), *args, **kwargs)

    return Pushed


def dependence(where: str) -> tuple[Any, Callable[[float], None]]:
    """A policy that depends on something that lies somewhere, and what sets that."""
    cell, table, array, tensor = [0.0], {"scale": 0.0}, np.zeros(1, np.float32), torch.zeros(1)
    settings, slotted = types.SimpleNamespace(**{f"f{i}": i for i in range(60)}, scale=0.0), Slotted()
    slotted.scale = 0.0
    reads: dict[str, tuple[Callable[[Any], Any], Callable[[float], None]]] = {
        "a global": (lambda self: SCALE, lambda v: globals().update(SCALE=v)),
        "a closure": (lambda self: cell[0], lambda v: cell.__setitem__(0, v)),
        "a class as namespace": (lambda self: self.held.scale, lambda v: setattr(Settings, "scale", v)),
        "a helper's class": (lambda self: self.held.scale, lambda v: setattr(Guide, "scale", v)),
        "a helper with slots": (lambda self: self.held.scale, lambda v: setattr(slotted, "scale", v)),
        "the last of many fields": (lambda self: self.held.scale, lambda v: setattr(settings, "scale", v)),
        "a partial's arguments": (lambda self: self.held(), lambda v: table.update(scale=v)),
        "an array": (lambda self: float(self.held[0]), lambda v: array.__setitem__(0, v)),
        "a tensor's data": (lambda self: self.held, lambda v: tensor.data.fill_(v)),
        "a tensor of NumPy's": (lambda self: self.held, lambda v: array.__setitem__(0, v)),
        "its dictionary": (lambda self: vars(self)["held"][0], lambda v: cell.__setitem__(0, v)),
        "its network's field": (lambda self: self.model.scale, lambda v: setattr(policy.model, "scale", v)),
        "its class": (lambda self: type(self).offset, lambda v: setattr(type(policy), "offset", v)),
    }
    held: dict[str, Any] = {
        "a class as namespace": Settings, "a helper's class": Guide(), "a helper with slots": slotted,
        "the last of many fields": settings, "a partial's arguments": functools.partial(table.get, "scale"),
        "an array": array, "a tensor's data": tensor, "a tensor of NumPy's": torch.from_numpy(array),
        "its dictionary": cell,
    }  # fmt: skip
    read, change = reads[where]
    policy = build(steering(read), steps=8)
    policy.held, policy.model.scale = held.get(where), 0.0
    return policy, change


PLACES = (
    "a global", "a closure", "a class as namespace", "a helper's class", "a helper with slots",
    "the last of many fields", "a partial's arguments", "an array", "a tensor's data", "a tensor of NumPy's",
    "its dictionary", "its network's field", "its class",
)  # fmt: skip


@pytest.mark.parametrize("where", PLACES)
def test_steering_switched_on_between_calls_is_found(where: str) -> None:
    """A7: wherever what steers lies, the call after its change is the own loop's."""
    policy, change = dependence(where)
    with pd.parallelize(policy, window=4, tolerance=0) as run:
        first = chunk(policy)
        assert run.own_calls == 0, run.fallbacks
        change(0.3)
        second = chunk(policy)
        assert run.own_calls == 1
    assert torch.equal(chunk(policy), second) and not near(first, second, 0.01)
    change(0.0)


@pytest.mark.parametrize("where", ["a method that super calls", "a helper's method"])
def test_a_method_replaced_between_calls_is_found(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: the method of a base class, or of what the policy holds."""
    policy = build(steering(lambda self: self.held(torch.full((), 1.8)) if self.held else 0.0), steps=8)
    policy.held = Guide() if where == "a helper's method" else None
    own = LowdimPolicy.loop
    with pd.parallelize(policy, window=4, tolerance=0) as run:
        chunk(policy)
        if policy.held:
            monkeypatch.setattr(Guide, "__call__", lambda self, x: 0.3 * x)
        else:
            monkeypatch.setattr(LowdimPolicy, "loop", lambda self, *a, **k: own(self, *a, **k) + 0.1)
        found = chunk(policy)
        assert run.own_calls == 1
    assert torch.equal(chunk(policy), found)


@pytest.mark.parametrize("change", ["its class's step", "a field", "the levels", "another of its class"])
def test_a_scheduler_changed_in_place_is_read_anew(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: the answer is that of the scheduler as it is now."""
    kind = Warm if change in ("a field", "another of its class") else df.DDIMScheduler
    more = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": kind is Warm}
    policy, own = build(LowdimPolicy, steps=8, noise_scheduler=kind(num_train_timesteps=100, **more)), kind.step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = own(self, *args, **kwargs)
        made.prev_sample = 0.9 * made.prev_sample
        return made

    with pd.parallelize(policy, window=4, tolerance=0):
        first = chunk(policy)
        if change == "its class's step":
            monkeypatch.setattr(kind, "step", functools.wraps(own)(step))
        elif change == "the levels":
            policy.noise_scheduler.alphas_cumprod.data.mul_(0.9)
        else:
            policy.noise_scheduler = (
                kind(num_train_timesteps=100, **more) if "another" in change else policy.noise_scheduler
            )
            policy.noise_scheduler.temperature = 0.9
        second = chunk(policy)
    assert near(second, chunk(policy)) and not near(first, second, 0.01)


def branching(what: str) -> type:
    """A policy whose loop decides by what it is given."""

    class Branching(LowdimPolicy):
        def conditional_sample(
            self, condition_data: Tensor, condition_mask: Tensor, local_cond: Any = None, global_cond: Any = None,
            generator: Any = None,
        ) -> Tensor:  # fmt: skip
            if what == "NaN is replaced":
                global_cond = torch.nan_to_num(global_cond)
            x = super().conditional_sample(condition_data, condition_mask, local_cond, global_cond, generator)
            if what == "if":
                return x + 0.5 if float(global_cond.mean()) > 3 else x
            if what == "where":
                return torch.where((global_cond[:, 0] > 5)[:, None, None], 0.0, x)
            if what == "NumPy":
                return x + 0.5 * bool(global_cond.numpy().mean() > 3)
            if what == "Python's random numbers":
                return x + 0.5 * (random.random() < 0.5)
            return x

    return Branching


@pytest.mark.parametrize("what", ["if", "where", "NumPy", "NaN is replaced", "Python's random numbers"])
def test_a_loop_that_decides_by_what_it_sees_runs_itself(what: str) -> None:
    """A7: a branch that a trial on made-up observations does not take."""
    policy = build(branching(what), steps=8)
    seen = torch.full((2, OBS_STEPS * OBS), 9.0)
    if what == "NaN is replaced":
        seen[0, 1] = math.nan
    with pd.parallelize(policy, window=4, tolerance=0) as run:
        random.seed(1)
        found = chunk(policy, seen=seen)
    random.seed(1)
    assert torch.equal(found, chunk(policy, seen=seen)) and run.own_calls == 1 and len(run.fallbacks) == 1


class Scaled(Net):
    """A network with more arguments."""

    def forward(
        self, sample: Any, timestep: Any, local_cond: Any = None, global_cond: Any = None, task: Any = 0
    ) -> Any:
        seen = global_cond if global_cond is not None else 0.5 * local_cond
        return super().forward(sample, timestep, None, seen) * (1 + 0.1 * task)


@pytest.mark.parametrize(
    "ask",
    [
        lambda net, x, t, c: net(x, t, global_cond=c, task=2),
        lambda net, x, t, c: net(x, t, global_cond=c, task=torch.tensor(2)),
        lambda net, x, t, c: net(x, t, local_cond=c),
        lambda net, x, t, c: (net(x + 1, t, global_cond=c) + net(x - 1, t, global_cond=c)) / 2,
    ],
)
def test_what_a_loop_asks_of_its_network_is_compared_whole(ask: Any) -> None:
    """A7: numbers, other names, and states that cancel in a linear network."""

    class Asking(LowdimPolicy):
        def conditional_sample(
            self, condition_data: Tensor, condition_mask: Tensor, local_cond: Any = None, global_cond: Any = None,
            generator: Any = None,
        ) -> Tensor:  # fmt: skip
            said = lambda x, t: ask(self.model, x, t, global_cond)  # noqa: E731
            return self.loop(said, condition_data, condition_mask, generator)

    policy = build(Asking, steps=8)
    policy.model = Scaled(ACT, OBS_STEPS * OBS).eval()
    with pd.parallelize(policy, window=4, tolerance=0) as run:
        found = chunk(policy)
    assert torch.equal(found, chunk(policy)) and run.own_calls == 1


# ---------------------------------------------------------------------- what stands where a loop is


class Handing(nn.Module):
    """A module that hands on what another has."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)


@pytest.mark.parametrize("wrap", [Handing, lambda policy: torch.compile(policy, backend="eager")])
def test_a_module_around_a_policy_is_parallel_as_the_policy(wrap: Any) -> None:
    """A7: torch.compile's module, and others that hand on what a policy has."""
    policy = build(Steered)
    expected = chunk(policy)
    run = pd.enable_parallel_sampling(wrap(policy), window=8)
    assert torch.equal(chunk(policy), expected) and run.own_calls == 1
    pd.disable_parallel_sampling(wrap(policy))
    assert "conditional_sample" not in vars(policy)


def test_a_loop_that_nothing_can_stand_before_is_refused() -> None:
    """Never silently idle: a property is seen before an object's own attribute."""

    class Property(LowdimPolicy):
        @property
        def conditional_sample(self) -> Any:
            return functools.partial(LowdimPolicy.conditional_sample, self)

    with pytest.raises(ValueError, match=r"a property.*needed: a method"):
        pd.enable_parallel_sampling(build(Property), window=8)
    policy = build(LowdimPolicy)
    policy.num_inference_steps = None
    with pytest.raises(ValueError, match=r"type: policy.num_inference_steps = 100"):
        pd.enable_parallel_sampling(policy)


def test_a_wrapped_loop_takes_what_its_wrapper_takes() -> None:
    """A7: a decorator's own argument makes the own loop run, and nothing is an error."""

    def scaled(function: Any) -> Any:
        @functools.wraps(function)
        def inner(self: Any, *args: Any, scale: float = 1.0, **kwargs: Any) -> Any:
            return scale * function(self, *args, **kwargs)

        return inner

    class Wrapped(LowdimPolicy):
        @scaled
        def conditional_sample(
            self, condition_data: Tensor, condition_mask: Tensor, local_cond: Any = None, global_cond: Any = None,
            generator: Any = None,
        ) -> Tensor:  # fmt: skip
            return super().conditional_sample(condition_data, condition_mask, local_cond, global_cond, generator)

    policy = build(Wrapped, steps=8)
    with pd.parallelize(policy, window=4, tolerance=0) as run:
        plain, half = chunk(policy), chunk(policy, scale=0.5)
    assert run.own_calls == 1 and near(2 * half, plain)


def test_a_trial_copies_only_what_the_loop_reads() -> None:
    """A policy may hold a camera."""

    class Camera:
        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("opened twice")

    policy = build(LowdimPolicy, steps=8)
    policy.camera = Camera()
    with pd.parallelize(policy, window=4, tolerance=0) as run:
        chunk(policy)
    assert run.own_calls == 0


def test_compare_leaves_a_loop_that_keeps_account_alone() -> None:
    """The own loop of a call that it made is not run a second time."""

    class Counting(LowdimPolicy):
        count = 0

        def loop(self, *args: Any, **kwargs: Any) -> Tensor:
            self.count += 1
            return super().loop(*args, **kwargs) + 0.1 * self.count

    policy, twin = build(Counting, steps=8), build(Counting, steps=8)
    with pd.parallelize(policy, window=4, compare=True) as run:
        found = [chunk(policy) for _ in range(3)]
    assert all(torch.equal(a, chunk(twin)) for a in found) and run.max_error == 0 and run.speedup is not None


def test_a_report_of_no_call_says_so() -> None:
    """Never silently idle: a policy whose own code does not ask its conditional_sample by name."""
    with pd.parallelize(build(LowdimPolicy), window=4) as run:
        assert "no call so far" in str(run)


def test_float64_starts_warm() -> None:
    """A warm start in the policy's own precision."""
    policy = build(LowdimPolicy, steps=8, noise_scheduler=scheduler()).double()
    data, seen = torch.zeros(2, 16, ACT, dtype=torch.float64), torch.zeros(2, OBS_STEPS * OBS, dtype=torch.float64)
    how = {"global_cond": seen, "generator": torch.Generator().manual_seed(0)}
    with torch.no_grad(), pd.parallelize(policy, window=4, tolerance=0, warm_start=True) as run:
        found = [policy.conditional_sample(data, data.bool(), **how) for _ in range(2)]
    how["generator"] = torch.Generator().manual_seed(0)
    with torch.no_grad():
        assert all(near(x, policy.conditional_sample(data, data.bool(), **how)) for x in found) and run.own_calls == 0


def test_another_dtype_between_calls_starts_warm() -> None:
    """A RuntimeError: what was learned in float32 was added to what float64 learned."""
    policy, twin, found = build(LowdimPolicy, steps=8), build(LowdimPolicy, steps=8), list[Tensor]()

    def act(policy: Any, dtype: torch.dtype) -> Tensor:
        data, seen = torch.zeros(2, 16, ACT, dtype=dtype), torch.ones(2, OBS_STEPS * OBS, dtype=dtype)
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return policy.to(dtype).conditional_sample(data, data.bool(), global_cond=seen, generator=g)  # type: ignore[no-any-return]

    dtypes = (torch.float32, torch.float64, torch.float32)
    with pd.parallelize(policy, window=4, tolerance=0, warm_start=True) as run:
        found = [act(policy, dtype) for dtype in dtypes]
    assert all(near(x, act(twin, dtype)) for x, dtype in zip(found, dtypes, strict=True)) and run.own_calls == 0


def test_an_interrupt_of_a_trial_leaves_nothing_behind() -> None:
    """B5: at lines of a trial and of what ends it, torch and the policy are as they were."""
    within = ("watch", "end_trial", "check_loop", "leave", "drop_mark")

    def call(policy: Any) -> None:
        with pd.parallelize(policy, window=3, tolerance=0):
            chunk(policy)

    policies = [build(LowdimPolicy, steps=3) for _ in range(10)]
    _, lines = interrupted(lambda: call(policies[0]), 10**9, within)
    came = 0
    for k, policy in enumerate(policies[1:]):
        error, _ = interrupted(lambda: call(policy), 1 + k * lines // 12, within)  # noqa: B023
        came += isinstance(error, KeyboardInterrupt)
        assert torch.overrides._len_torch_function_stack() == 0 and not one_trial._is_owned()
        assert not {"conditional_sample", "__getstate__"} & vars(policy).keys()
    assert came >= 6
