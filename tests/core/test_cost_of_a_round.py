"""What a round costs beside the model, in units that no machine changes: operations, and questions to the device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import paradigms as pd
from benchmarks.core.counting import Far, Operations
from benchmarks.core.overhead import asked, shown
from problems import LINEAR, RULES, seeded
from toy import Mixture


class Shown:
    """A model that answers what it is shown."""

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return shown(x, t)


@pytest.mark.parametrize(("method", "most"), [(pd.Spectral(), 180), (pd.Anderson(), 255), (pd.Picard(), 95)])
def test_a_round_of_one_sample_asks_torch_for_so_many_operations(method: pd.AbstractMethod, most: int) -> None:
    """All of a call's, what it prepares included, a round; of `Spectral` they were 785 before anybody counted."""
    system, x = pd.ddpm(LINEAR, 100), torch.randn(1, 1, 8, 8, generator=seeded(0))
    model = Shown()
    pd.sample(model, system, x, method, window=32, generator=seeded(1))  # what it is like is asked once
    with Operations() as operations:
        rounds = pd.sample(model, system, x, method, window=32, generator=seeded(1)).rounds
    assert operations.count.total() <= most * rounds


@pytest.mark.parametrize(
    ("shape", "window", "rule"), [((1, 8, 8), 32, "ddpm"), ((4, 20, 20), 16, "ddim"), ((3, 24, 24), 8, "ddim")]
)
def test_a_round_of_the_default_launches_at_most_100_kernels(shape: tuple[int, ...], window: int, rule: str) -> None:
    """As many as of 64 numbers, 4x96x96 and 3x256x256: what is larger takes longer and not more of them."""
    system = RULES[rule](50)
    x = system.noise((1, *shape), seeded(0))
    counted = asked(system, x, lambda: {"window": window, "generator": seeded(1)})
    assert counted["kernels"] <= 100 and counted["calls"] <= 180 and counted["waits"] == 1


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
def test_of_new_states_the_stand_in_is_asked_for_as_many_rows_as_a_step_has_taps(rule: str, B: int) -> None:
    """Those of a multistep rule before the next window, and the last, from which rows that enter are guessed."""
    asked: list[int] = []

    class Counted(pd.Spectral):
        def sweep(self, *given: Any) -> Any:
            sweep, memory = super().sweep(*given)
            shift = sweep.shift
            assert shift is not None
            return replace(sweep, shift=lambda w: asked.append(len(w)) or shift(w)), memory

    system = RULES[rule](60)
    x = system.noise((B, 6), seeded(0), dtype=torch.float64)
    rounds = pd.sample(Mixture(), system, x, Counted(), window=16, tolerance=0.01, generator=seeded(1)).rounds
    assert asked == [system.taps] * rounds and rounds > 3


@pytest.mark.parametrize("method", [pd.Spectral(), pd.Picard(), pd.Speculation()])
def test_a_window_holds_no_more_rows_than_the_chain_has_left_and_is_told_of_as_asked(method: pd.AbstractMethod) -> None:
    """Rows beyond the chain cost time; a method whose window must stay has them."""
    system = pd.ddpm(LINEAR, 40)
    x = system.noise((2, 6), seeded(0), dtype=torch.float64)
    for frame in pd.iterate(Mixture(), system, x, method, window=16, tolerance=0.1, generator=seeded(1)):
        left = 40 - int(frame.begin.min())
        assert len(frame.size) == (16 if method.steady else min(16, max(left, 2))) and frame.record.window == 16
    assert left < 16, "the last window was a short one"


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
@pytest.mark.parametrize("method", [pd.Spectral(), pd.Anderson(), pd.Picard(), pd.QuasiNewton()], ids=repr)
def test_a_round_asks_the_device_once(method: pd.AbstractMethod, rule: str, B: int) -> None:
    """How many rows were accepted, and with it whether the model's answer is finite; all else is known beforehand."""
    system = RULES[rule](60)
    x, rounds = system.noise((B, 6), seeded(0), dtype=torch.float64).as_subclass(Far), 0
    model = Mixture()
    pd.sample(model, system, x, method, window=16, tolerance=0.01, generator=seeded(1))  # what it is like is asked once
    for frame in pd.iterate(model, system, x, method, window=16, tolerance=0.01, generator=seeded(1)):
        if rounds:
            assert Far.asked == {"cpu": 1}, f"round {frame.round}"
        rounds += 1
        Far.asked.clear()
    assert rounds > 3
