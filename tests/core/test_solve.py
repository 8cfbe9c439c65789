"""The window: exact at tolerance 0, honest above it, same noise, same memory, same counts."""

from __future__ import annotations

import gc
import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.execution.clock import Clock
from paradigms.execution.model_known import rows_beside
from paradigms.methods.work import Evaluate, Memory, Update, WindowState
from paradigms.window.controller import FixedWindow, YieldingWindow
from problems import LINEAR, METHODS, RULES, seeded, solve, start
from toy import Mixture

cases = {
    "rule": st.sampled_from(sorted(RULES)),
    "method": st.sampled_from(METHODS),
    "steps": st.integers(1, 25),
    "window": st.integers(1, 30),
    "B": st.integers(1, 4),
}


@settings(max_examples=60, deadline=None)
@given(**cases)
def test_tolerance_zero_is_sequential_in_float64(
    rule: str, method: pd.AbstractMethod, steps: int, window: int, B: int
) -> None:
    system = RULES[rule](steps)
    solution = solve(system, method, window=window, tolerance=0.0, B=B)
    assert solution.max_error is not None and solution.max_error <= 1e-10
    assert solution.rounds <= 2.5 * len(system) and solution.converged


@settings(max_examples=60, deadline=None)
@given(**cases)
def test_tolerance_zero_is_sequential_in_float32(
    rule: str, method: pd.AbstractMethod, steps: int, window: int, B: int
) -> None:
    solution = solve(RULES[rule](steps), method, window=window, tolerance=0.0, B=B, dtype=torch.float32)
    # a Heun step of a flow rounds by more than 1e-5 in float32, also where it is stepped through
    assert solution.max_error is not None and solution.max_error <= (3e-5 if rule == "flow_heun" else 1e-5)


@settings(max_examples=60, deadline=None)
@given(**cases, tolerance=st.sampled_from([0.003, 0.03, 0.3, 3.0]))
def test_any_tolerance_ends_within_the_chain_and_counts_what_the_model_saw(
    rule: str, method: pd.AbstractMethod, steps: int, window: int, B: int, tolerance: float
) -> None:
    system, model = RULES[rule](steps), Mixture()
    x = start(system, B)
    solution = pd.sample(model, system, x, method, window=window, tolerance=tolerance, generator=seeded(1))
    assert solution.evaluations == solution.trace[-1][2] == model.rows - rows_beside(model)
    assert solution.rounds == len(solution.trace) <= 2.5 * len(system)
    assert int(solution.sample_rounds.max()) <= solution.rounds
    if not solution.retries:
        assert int(solution.sample_rounds.max()) == solution.rounds <= len(system)
    assert solution.converged and bool(torch.isfinite(solution.x).all())


@pytest.mark.parametrize("window", [1, 4, 10])
def test_rows_evaluated_are_exactly_the_live_ones(window: int) -> None:
    """Jacobi from a copied guess moves one row a round here, so the count has a closed form."""
    N, model = 10, Mixture()
    system = pd.ddpm(LINEAR, N)
    pd.sample(
        model, system, start(system, 2), pd.Jacobi(), window=FixedWindow(window), tolerance=0.0, generator=seeded(1)
    )
    assert model.rows == 2 * sum(min(window, N - begin) for begin in range(N)) + rows_beside(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_window_whose_rounds_come_near_steps_is_given_up_and_the_reason_said(dtype: torch.dtype) -> None:
    """A12: a network that makes rows move one a round costs a window's evaluations a step; then steps are cheaper."""
    system = pd.ddim(LINEAR, 100)
    x, model = start(system, 2, torch.float32), lambda x, t: (x + torch.sin(20 * x)).to(dtype)
    how: dict[str, Any] = {"tolerance": 1e-6, "compare": True}
    given, fixed = (pd.sample(model, system, x, pd.Jacobi(), window=w, **how) for w in (8, FixedWindow(8)))
    assert given.evaluations < 0.85 * fixed.evaluations and given.rounds <= 1.2 * fixed.rounds and given.converged
    assert given.reason is not None and "rounds of a window of 8 finished hardly more than a step each" in given.reason
    assert (given.max_error or 0) <= (given.tolerance or 0) and str(given.reason) in repr(given)


class Rounded:
    """What a pace is told of the model: its clock, and the rounding of its answers."""

    def __init__(self, rounding: float = 0.01) -> None:
        self.clock, self.rounding = Clock(), rounding


@given(moved=st.lists(st.integers(1, 8), max_size=60), window=st.integers(2, 9))
def test_a_window_is_given_up_after_a_windows_worth_of_rounds_that_were_no_better_than_steps(
    moved: list[int], window: int
) -> None:
    pace, rounds, stepped, row = YieldingWindow(window), list[int](), 0, 0
    fine = YieldingWindow(window)
    for count in moved:
        size, steps = pace.next(row)
        if size == 1:
            assert steps <= window and len(rounds) == window and 0.8 * sum(rounds) < window
            pace.on_steps(row, steps, None)  # type: ignore[arg-type]
            stepped, row = stepped + steps, row + steps
            if not pace.due:
                rounds.clear()
        else:
            assert size == window
            rounds = [*rounds, count][-window:]
            pace.on_round(row, window, window, count, Rounded())
            fine.on_round(row, window, window, count, Rounded(0.0))
            row += count
    assert (pace.reason() is None) == (stepped == 0)
    assert fine.next(row) == (window, 1), "without a network's rounding slow rounds are growth"


def test_a_window_of_one_is_the_sequential_sampler_bit_for_bit() -> None:
    for rule, make in RULES.items():
        system, model = make(12), Mixture()
        x = start(system, 2, torch.float32)
        one = pd.sample(model, system, x, window=1, tolerance=0.5, generator=seeded(1))
        assert model.rows == 2 * len(system) and one.rounds == len(system)
        assert torch.equal(one.x, pd.sequential(model, system, x, generator=seeded(1))), rule


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_error_falls_with_the_tolerance(rule: str) -> None:
    system = RULES[rule](40)
    errors = [solve(system, window=16, tolerance=t).max_error or 0.0 for t in (0.3, 0.03, 0.003, 0.0003)]
    assert errors[-1] < 1e-4 and errors[-1] < errors[0] / 10, errors


@pytest.mark.parametrize("rule", ["dpmsolver", "dpmsolver_single"])
@pytest.mark.parametrize("window", [3, 8, 50])
def test_paradpmsolver_converges_to_the_sequential_multistep_answer(rule: str, window: int) -> None:
    """Its history crosses windows: the paper's own code restarts at first order, and stalls at 0.02-0.15."""
    system = RULES[rule](50)
    stops = [pd.StepNoise(10.0**-k) for k in range(1, 9)]
    curve = [solve(system, pd.Picard(), window=window, tolerance=stop).max_error or 0.0 for stop in stops]
    assert curve[-1] < 1e-8, curve
    assert all(later <= 3 * earlier for earlier, later in itertools.pairwise(curve)), curve


@pytest.mark.parametrize("method", METHODS)
def test_each_sample_of_a_batch_advances_as_if_it_were_alone(method: pd.AbstractMethod) -> None:
    system, apart = pd.ddim(LINEAR, 60), 0

    def watch(frames: Any) -> Any:
        nonlocal apart
        for frame in frames:
            apart = max(apart, int(frame.begin.max() - frame.begin.min()))
            yield frame

    x = start(system, 5)
    together = pd.sample(Mixture(), system, x, method, window=20, tolerance=0.05, watch=watch)
    for b in range(5):
        alone = pd.sample(Mixture(), system, x[b : b + 1], method, window=20, tolerance=0.05)
        assert torch.allclose(alone.x[0], together.x[b], rtol=0, atol=1e-12)
        assert alone.rounds == int(together.sample_rounds[b])
    assert apart > 0, "no sample ran ahead of another, so this compared nothing"


def test_the_same_seed_leaves_the_generator_where_sequential_does() -> None:
    system, one, two = pd.ddpm(LINEAR, 30), seeded(5), seeded(5)
    x = start(system)
    pd.sample(Mixture(), system, x, window=7, generator=one)
    pd.sequential(Mixture(), system, x, generator=two)
    assert torch.equal(one.get_state(), two.get_state())


def test_noise_from_one_generator_a_sample_from_a_tensor_and_from_the_default() -> None:
    system = pd.ddpm(LINEAR, 30)
    x = start(system)
    each = pd.sample(Mixture(), system, x, tolerance=0, window=32, generator=[seeded(b) for b in range(3)])
    for b in range(3):
        assert torch.allclose(each.x[b : b + 1], pd.sequential(Mixture(), system, x[b : b + 1], generator=seeded(b)))
    z = torch.randn(30, 3, 6, generator=seeded(9), dtype=torch.float64)
    given_rows = pd.sample(Mixture(), system, x, tolerance=0, window=32, noise=z)
    assert torch.allclose(given_rows.x, pd.sequential(Mixture(), system, x, noise=z))
    torch.manual_seed(3)
    default = pd.sample(Mixture(), system, x, tolerance=0, window=32, compare=True)
    torch.manual_seed(3)
    assert torch.allclose(default.x, pd.sequential(Mixture(), system, x)) and (default.max_error or 0) < 1e-12


@pytest.mark.parametrize("guess", [pd.Copy(), pd.Extrapolate()])
def test_memory_is_of_the_window_not_of_the_chain(guess: pd.Guess) -> None:
    """The most states alive at any model call, the model's own included, does not grow with the chain."""
    d = 211  # no other tensor here has a multiple of it

    def peak(N: int) -> int:
        mixture, most, calls = Mixture(d=d), 0, 0

        def model(x: Tensor, t: Tensor) -> Tensor:
            nonlocal most, calls
            calls += 1
            if calls % 4:  # every fourth is looked at: all objects that there are take their time
                return mixture(x, t)
            alive = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in _tensors()}
            most = max(most, sum(n // (8 * d) for n in alive.values() if n % (8 * d) == 0))
            return mixture(x, t)

        system = pd.ddpm(LINEAR, N)
        pd.sample(model, system, start(system, 1, d=d), pd.Picard(guess), window=8, generator=seeded(1))
        return most

    assert peak(120) <= 1.1 * peak(30) <= 13 * 8, "twelve states a row, where the chain has thirty rows a row"


def _tensors() -> list[Tensor]:
    return [v for v in gc.get_objects() if type(v) is Tensor and v.layout is torch.strided]


def test_a_fast_sample_waits_for_a_slow_one_so_that_the_noise_held_stays_bounded() -> None:
    """One sample whose data estimate never changes, one that a rough model keeps moving: the first may not run off."""
    ahead, model = [], lambda x, t, rough: x + rough[:, None] * torch.sin(20 * x)
    system = pd.ddpm(LINEAR, 200)
    x, rough = start(system, 2), torch.tensor([0.0, 1.0]).double()

    def watch(frames: Any) -> Any:
        for frame in frames:
            ahead.append(int(frame.end.max() - frame.begin.min()))
            yield frame

    how: dict[str, Any] = {"window": 5, "tolerance": 0.001, "condition": {"rough": rough}}
    z = torch.randn(200, 2, 6, generator=seeded(4), dtype=torch.float64)
    method = pd.Picard(pd.Extrapolate())
    solution = pd.sample(model, system, x, method, noise=z, watch=watch, **how)
    assert 4 * 5 <= max(ahead) <= 5 * 5 and solution.converged  # a stretch of steps is a window long
    exact = pd.sequential(model, system, x, noise=z, condition={"rough": rough})
    assert float((solution.x - exact)[0].norm() / exact[0].norm()) < 1e-3


def test_a_limit_on_rounds_is_reported_not_hidden() -> None:
    system = pd.ddpm(LINEAR, 50)
    stopped = pd.sample(Mixture(), system, start(system), window=5, generator=seeded(1), max_rounds=3)
    assert not stopped.converged and stopped.rounds == 3
    assert all(s.startswith("stopped at step ") and s.endswith(" of 50") for s in stopped.status)


def test_frames_tell_the_story_that_the_solution_sums_up() -> None:
    system, seen = pd.ddim(LINEAR, 40), []

    def watch(frames: Any) -> Any:
        for frame in frames:
            seen.append(frame)
            yield frame

    solution = pd.sample(Mixture(), system, start(system), window=9, tolerance=0.1, watch=watch)
    assert [f.round for f in seen] == list(range(1, solution.rounds + 1))
    total = torch.stack([f.stride for f in seen]).sum(0)
    assert total.tolist() == [40] * 3 and torch.equal(seen[-1].begin + seen[-1].stride, total)
    assert all(bool((f.end - f.begin <= 9).all()) and bool((f.stride <= f.end - f.begin).all()) for f in seen)


def test_a_method_that_accepts_nothing_is_stopped_by_name() -> None:
    """A stride of its own, 0 for every sample, would go on for ever."""

    @dataclass(frozen=True)
    class Idle(pd.Jacobi):
        def sweep(
            self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: Memory
        ) -> tuple[Update, Memory]:
            sweep, memory = super().sweep(system, work, evaluate, memory)
            return replace(sweep, stride=torch.zeros(work.n.shape[1], dtype=torch.long)), memory

    with pytest.raises(RuntimeError, match="Idle: given 0 rows to accept of every sample; needed: at least 1 row"):
        solve(pd.ddim(LINEAR, 10), Idle(), window=4)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_stepping_that_nobody_watches_has_the_account_of_stepping_that_is_watched(rule: str) -> None:
    system = RULES[rule](12)
    x = start(system, 3)
    alone, seen = (
        pd.sample(Mixture(), system, x, window=1, generator=seeded(1), **how)  # type: ignore[arg-type]
        for how in ({}, {"watch": lambda found: found})
    )
    assert torch.equal(alone.x, seen.x) and torch.equal(
        alone.x, pd.sequential(Mixture(), system, x, generator=seeded(1))
    )
    for name in ("steps", "windows", "rounds", "evaluations", "trace", "converged", "status"):
        assert getattr(alone, name) == getattr(seen, name), name
    for name in ("done", "sample_rounds", "residual"):
        assert torch.equal(getattr(alone, name), getattr(seen, name)), name
