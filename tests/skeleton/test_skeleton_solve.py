"""What `Skeleton` promises through `sample` and `iterate`: the sequential sample, within what was asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.skeleton import handover
from paradigms.stopping.final_error import DOUBT
from problems import LINEAR, RULES, seeded, solve, start
from toy import Mixture


def skeleton(**how: Any) -> pd.Skeleton:
    """With few first nodes, on short chains, too."""
    return pd.Skeleton(**({"few": 8, "always": True} | how))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_tolerance_zero_is_the_sequential_sample(rule: str, dtype: torch.dtype, most: float) -> None:
    solution = solve(RULES[rule](20), skeleton(), tolerance=0.0, window=8, dtype=dtype)
    assert solution.max_error is not None and solution.max_error <= most
    assert solution.converged


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tolerance", [0.01, 0.001])
def test_every_rule_ends_within_the_tolerance_and_its_estimate(rule: str, tolerance: float) -> None:
    solution = solve(RULES[rule](60), skeleton(), tolerance=tolerance, window=8, B=4)
    assert solution.max_error is not None and solution.max_error <= tolerance
    assert solution.converged and solution.estimate is not None
    assert bool((solution.estimate <= (DOUBT if solution.retries else 1) * tolerance).all())


def test_a_long_chain_takes_fewer_evaluations_than_it_has_rows_and_fewer_rounds_than_windows() -> None:
    solution = solve(pd.ddim(LINEAR, 400), pd.Skeleton(), tolerance=0.01, window=16)
    assert solution.evaluations < 400 * 3 / 2
    assert solution.rounds < 400 / 16


def test_the_noise_of_a_generator_is_the_sequential_samplers() -> None:
    system, x = pd.ddpm(LINEAR, 60), start(pd.ddpm(LINEAR, 60))
    for draws in (lambda: seeded(5), lambda: [seeded(5), seeded(6), seeded(7)]):
        expected = pd.sequential(Mixture(), system, x, generator=draws())
        made = draws()
        found = pd.sample(Mixture(), system, x, skeleton(), window=8, tolerance=0.0, generator=made).x
        assert torch.allclose(found, expected, atol=1e-10)


def test_given_noise_is_the_noise() -> None:
    system = pd.ddim(LINEAR, 60, eta=1.0)
    x, noise = start(system), torch.randn(60, 3, 6, generator=seeded(2), dtype=torch.float64)
    expected = pd.sequential(Mixture(), system, x, noise=noise)
    found = pd.sample(Mixture(), system, x, skeleton(), window=8, tolerance=0.001, noise=noise)
    assert float((found.x - expected).norm() / expected.norm()) <= 0.001


def test_conditions_and_guidance_are_each_samples_own() -> None:
    mixture = Mixture()

    def model(x: Tensor, t: Tensor, shift: Tensor) -> Tensor:
        return mixture(x, t) + 0.1 * shift[:, None]

    guided = pd.Guided(model, 2.0, shift=0.0)
    system, condition = pd.ddim(LINEAR, 60), {"shift": torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)}
    expected = pd.sequential(guided, system, start(system), condition=condition)
    found = pd.sample(guided, system, start(system), skeleton(), window=8, tolerance=0.0, condition=condition).x
    assert torch.allclose(found, expected, atol=1e-10)
    alone = pd.sequential(guided, system, start(system), condition={"shift": 0 * condition["shift"]})
    assert not torch.allclose(found[1], alone[1], atol=1e-3)


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver"])
def test_a_sample_of_a_batch_takes_the_rounds_that_it_takes_alone(rule: str) -> None:
    system, method = RULES[rule](60), skeleton(pooled=False)
    x, noise = start(system, 4), torch.randn(60, 4, 6, generator=seeded(2), dtype=torch.float64)
    many = pd.sample(Mixture(), system, x, method, window=8, tolerance=0.01, noise=noise)
    for b in range(4):
        one = pd.sample(Mixture(), system, x[b : b + 1], method, window=8, tolerance=0.01, noise=noise[:, b : b + 1])
        assert one.rounds == int(many.sample_rounds[b])
        assert torch.allclose(one.x[0], many.x[b], atol=1e-6)


def test_pooled_rows_never_exceed_the_windows_of_the_batch() -> None:
    system = pd.ddpm(LINEAR, 100)
    asked: list[int] = []

    class Counted(Mixture):
        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            asked.append(len(x))
            return super().__call__(x, t)

    pd.sample(Counted(), system, start(system, 5), skeleton(), window=8, tolerance=0.01, generator=seeded(1))
    assert max(asked) <= 5 * 8 + 5


def test_a_window_of_one_is_the_sequential_sampler_bit_for_bit() -> None:
    system = pd.ddim(LINEAR, 30)
    expected = pd.sequential(Mixture(), system, start(system))
    found = pd.sample(Mixture(), system, start(system), skeleton(), window=1)
    assert torch.equal(found.x, expected)
    *_, last = pd.iterate(Mixture(), system, start(system), skeleton(), window=1)
    assert torch.equal(last.last, expected)


def test_frames_tell_the_rounds_and_keep_what_they_say() -> None:
    system = pd.ddpm(LINEAR, 60)
    noise = torch.randn(60, 3, 6, generator=seeded(2), dtype=torch.float64)
    frames = list(pd.iterate(Mixture(), system, start(system), skeleton(), window=8, tolerance=0.01, noise=noise))
    expected = pd.sequential(Mixture(), system, start(system), noise=noise)
    assert [f.round for f in frames] == list(range(1, len(frames) + 1))
    done = torch.zeros(3, dtype=torch.long)
    for frame in frames:
        assert torch.equal(frame.begin, done)
        assert frame.x.shape == (61, 3, 6) and frame.D.shape == (60, 3, 6) and frame.size.shape == (60, 3)
        assert torch.allclose(frame.x[-1], frame.last, atol=1e-8)
        done = done + frame.stride
    assert done.tolist() == [60, 60, 60]
    off = (frames[-1].last - expected).norm(dim=1) / expected.norm(dim=1)
    assert bool((off <= 0.01).all()) and bool((frames[-1].estimate <= 0.01).all())


def test_the_states_of_a_frame_are_those_of_its_surrogate() -> None:
    system = pd.dpmsolver(LINEAR, 40)
    for frame in pd.iterate(Mixture(), system, start(system), skeleton(), window=8, tolerance=0.001):
        if not bool(frame.stride.any()) and not bool(frame.begin.any()):
            n = torch.arange(40)[:, None].expand(-1, 3)
            D = torch.cat([torch.zeros_like(frame.D[:1]), frame.D])
            assert torch.allclose(
                system.to("cpu", torch.float64).step(frame.x[:-1], D, None, n), frame.x[1:], atol=1e-8
            )


def test_verified_and_compared_as_any_method() -> None:
    solution = solve(pd.ddpm(LINEAR, 60), skeleton(), tolerance=0.001, window=8, verify=True)
    assert solution.verification is not None and solution.max_error is not None
    assert solution.max_error <= 0.001
    assert bool((solution.verification.residual < 0.05).all())


def test_stopped_early_it_says_so_and_shows_what_it_has() -> None:
    system = pd.ddim(LINEAR, 200)
    how: dict[str, Any] = {"tolerance": 0.001, "window": 16}
    method = pd.Skeleton(always=True)
    solution = solve(system, method, max_rounds=4, **how)
    assert solution.rounds == 4 and not solution.converged
    assert solution.status[0] == "stopped at step 0 of 200"
    frames = list(pd.iterate(Mixture(), system, start(system), method, **how))
    assert torch.equal(solution.x, frames[3].last)
    assert solution.estimate is not None and torch.equal(solution.estimate, frames[3].estimate)


def test_samples_that_take_too_long_are_made_again_by_windows_and_it_is_told() -> None:
    solution = solve(pd.ddpm(LINEAR, 60), skeleton(last=(0, 2)), tolerance=0.001, window=8)
    assert solution.max_error is not None and solution.max_error <= 0.001
    assert solution.reason is not None and "needed more than 2 rounds with Skeleton()" in solution.reason
    assert sum(len(r.samples) for r in solution.retries) >= 1 and solution.converged


@pytest.mark.parametrize(
    ("rule", "N", "tolerance", "words"),
    [
        (pd.ddim, 100, 0.003, "below a tolerance of 0.01"),
        (pd.ddim, 40, 0.01, "less than 100 rows of an ODE"),
        (pd.ddpm, 60, 0.01, "less than 1000 rows of a chain that draws noise"),
    ],
)
def test_where_nodes_take_more_rounds_windows_are_taken(rule: Any, N: int, tolerance: float, words: str) -> None:
    how: dict[str, Any] = {"window": 16, "tolerance": tolerance}
    found, default = (solve(rule(LINEAR, N), method, **how) for method in (pd.Skeleton(), None))
    assert found.reason is not None and words in found.reason
    assert torch.equal(found.x, default.x) and found.rounds == default.rounds


def test_samples_that_nodes_do_not_follow_go_to_windows_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "LOST", 0.0)
    solution = solve(pd.ddim(LINEAR, 100), pd.Skeleton(), tolerance=0.01, window=16, dtype=torch.float32)
    assert solution.reason is not None and "needed more than 4 rounds with Skeleton()" in solution.reason
    assert solution.max_error is not None and solution.max_error <= 0.01 and solution.converged


def test_where_there_is_no_room_windows_are_taken_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "bytes_free", lambda device: 1000)
    solution = solve(pd.ddim(LINEAR, 60), skeleton(), tolerance=0.01, window=8)
    assert solution.reason is not None and "windows were taken with Skeleton(): the nodes of 60 rows" in solution.reason
    assert solution.max_error is not None and solution.max_error <= 0.01 and solution.converged


def test_a_model_that_says_nan_is_named() -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.where((t < 500)[:, None], torch.nan, 0 * x)

    system = pd.ddim(LINEAR, 60)
    with pytest.raises(pd.NonFiniteError, match="its output is not finite at row"):
        pd.sample(model, system, start(system), skeleton(), window=8)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"tolerance": pd.StepNoise(0.1)}, r"tolerance: given StepNoise; needed: a number or FinalError\(...\) with"),
        ({"few": 1}, "few: given 1; needed: a whole number of first nodes"),
        ({"last": (1.0,)}, "last: given tuple; needed: two numbers"),
        ({"width": 0.0}, "width: given 0.0; needed: a positive, finite number"),
        ({"grid": (4, 4)}, "grid: given"),
    ],
)
def test_what_it_is_not_for_is_refused(how: dict[str, Any], words: str) -> None:
    tolerance = how.pop("tolerance", 0.01)
    with pytest.raises(ValueError, match=words):
        pd.sample(Mixture(), pd.ddim(LINEAR, 20), start(pd.ddim(LINEAR, 20)), pd.Skeleton(**how), tolerance=tolerance)


def test_it_has_no_windows_that_slide() -> None:
    with pytest.raises(ValueError, match=r"method: given Skeleton\(\); needed: a method of sliding windows"):
        pd.Skeleton().sweep(None, None, None, ())  # type: ignore[arg-type]
