"""The clock on a GPU, with a CUDA that is made up: what it counts, and how often a round waits for the device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.execution.clock import Clock
from problems import RULES, seeded

GPU: Any = SimpleNamespace(device=torch.device("cuda", 0))


class FakeCuda:
    """A CUDA whose work takes no time here and `milliseconds` there; counts who waits for it."""

    def __init__(self, patch: pytest.MonkeyPatch, milliseconds: float = 0.0, done: bool = False) -> None:
        self.waits, self.recorded, cuda = 0, 0, self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: object) -> None:
                self.at = cuda.recorded
                cuda.recorded += 1

            def query(self) -> bool:
                return done

            def synchronize(self) -> None:
                cuda.waits += 1

            def elapsed_time(self, end: Any) -> float:
                assert end.at == self.at + 1, "nothing but the call lies between its events"
                return milliseconds

        def synchronize(device: object = None) -> None:
            cuda.waits += 1

        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "current_stream", lambda device: device)
        patch.setattr(torch.cuda, "synchronize", synchronize)


class OnGpu(Clock):
    """A clock that takes every call for one on a GPU."""

    def enter(self, x: Tensor | None = None) -> None:
        super().enter(GPU)

    def leave(self, x: Tensor | None = None) -> None:
        super().leave(GPU)


class Model:
    """A model that brings such a clock."""

    agreed_clock = OnGpu

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return 0.1 * x


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("window", [1, 8])
def test_the_clock_waits_for_a_gpu_at_most_once_a_round(
    window: int, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at all where the call is done by then, as it is once the round was told how far its states moved."""
    cuda, system = FakeCuda(monkeypatch, done=done), RULES["ddpm"](24)
    waits = []
    for _ in pd.iterate(Model(), system, system.noise((1, 6), seeded(0)), window=window, generator=seeded(1)):
        waits.append(cuda.waits)
    rounds = 24 if window == 1 else len(waits)
    assert 2 * rounds <= cuda.recorded <= 2 * rounds + 4, "two events a call; the checks of the model are not timed"
    assert cuda.waits <= (0 if done else rounds) and waits == sorted(waits)


def test_a_gpus_seconds_are_those_between_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the device says, but no more than passed here; what else passed is outside."""
    FakeCuda(monkeypatch, milliseconds=2.0)
    now = iter([10.0, 13.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock()
    clock.enter(GPU)
    clock.leave(GPU)
    assert clock.inside == 0.0, "the device may still be at work"
    clock.pause()
    assert clock.seconds == 0.002 and clock.outside == pytest.approx(3.998)


def test_a_call_that_failed_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of it was never asked for, so nobody waits for that."""
    cuda, clock = FakeCuda(monkeypatch, milliseconds=1e6), Clock()
    clock.enter(GPU)
    clock.pause()
    assert clock.read()[0] == 0.0 and cuda.waits == 0


def test_a_call_of_no_device_is_the_current_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline's network is timed without a tensor at hand."""
    cuda, clock = FakeCuda(monkeypatch), Clock()
    clock.enter()
    clock.leave()
    assert cuda.recorded == 0, "no GPU is in use"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    clock.enter()
    clock.leave()
    assert cuda.recorded == 2
