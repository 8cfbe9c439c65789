"""The seconds in which a thread waited for a processor are no part of what its own work takes."""

from __future__ import annotations

import threading

import pytest

from paradigms.execution import clock, processor_wait


def test_a_wait_for_a_processor_is_left_out_of_what_decides_and_not_of_what_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, waits = [1.0], [1.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(clock, "waited", lambda: waits[0])
    each = clock.Clock()
    each.exact = True
    for waiting in (0.0, 3.0):
        each.enter()
        now[0], waits[0] = now[0] + 0.01 + waiting, waits[0] + waiting
        each.leave()
        now[0] += 0.002
    assert each.inside == pytest.approx(3.02) and each.read() == pytest.approx((0.02, 0.002))


def test_waits_are_counted_for_each_thread_and_after_a_fork_or_not_at_all() -> None:
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(processor_wait.waited())) for _ in range(3)]
    for each in threads:
        each.start()
        each.join()
    assert len(found) == 3 and all(v >= 0 for v in found) and processor_wait.waited() >= 0
