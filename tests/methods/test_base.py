"""Methods and guesses, each against algebra that does not use them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.methods.base import step_rows
from paradigms.methods.scan import carry_on, recur_in_place, recur_rows, scan
from paradigms.methods.work import Evaluate, Update, WindowState
from problems import LINEAR, RULES, seeded, solve, start
from toy import Mixture


@settings(max_examples=30, deadline=None)
@given(W=st.integers(1, 40), B=st.integers(1, 3), seed=st.integers(0, 99))
def test_scan_is_the_loop_it_replaces(W: int, B: int, seed: int) -> None:
    p = torch.rand(W, B, generator=seeded(seed), dtype=torch.float64)
    r = torch.randn(W, B, 4, generator=seeded(seed + 1), dtype=torch.float64)
    delta, loop = torch.zeros(B, 4, dtype=torch.float64), []
    for n in range(W):
        delta = p[n, :, None] * delta + r[n]
        loop.append(delta)
    assert torch.allclose(recur_rows(r, [p]), torch.stack(loop), atol=1e-12)
    assert torch.allclose(scan(r), r.cumsum(0), atol=1e-12)


def test_picard_sums_the_drifts_as_the_paper_says() -> None:
    """Algorithm 1, line 6: x[n+1] = x[0] + sum of the drifts up to n, noise included; one sweep of a chain."""
    system, model = pd.ddpm(LINEAR, 12), Mixture()
    x = start(system, 2)
    z = torch.randn(12, 2, 6, generator=seeded(1), dtype=torch.float64)
    frame = next(iter(pd.iterate(model, system, x, pd.Picard(), window=12, noise=z)))
    drift, schedule = [], LINEAR
    t = list(range(0, 1000 // 12 * 12, 1000 // 12))[::-1]
    for n in range(12):  # all states are copies of x
        level, after = float(schedule.alpha[t[n]] ** 2), float(schedule.alpha[t[n + 1]] ** 2) if n < 11 else 1.0
        m = model(x, torch.full((2,), t[n]))
        data = (x - (1 - level) ** 0.5 * m) / level**0.5
        beta = 1 - level / after
        mean = after**0.5 * beta / (1 - level) * data + (level / after) ** 0.5 * (1 - after) / (1 - level) * x
        drift.append(mean - x + ((1 - after) / (1 - level) * beta) ** 0.5 * z[n] * (n < 11))
    assert torch.allclose(frame.x[1:], x + torch.stack(drift).cumsum(0), atol=1e-10)


def test_jacobi_is_each_rows_own_step() -> None:
    system, model = pd.ddim(LINEAR, 9), Mixture()
    x = start(system, 2)
    frame = next(iter(pd.iterate(model, system, x, pd.Jacobi(), window=9)))
    for n in range(9):
        alpha, sigma = float(LINEAR.alpha[int(system.t[n])]), float(LINEAR.sigma[int(system.t[n])])
        after = float(LINEAR.alpha[int(system.t[n + 1])]) if n < 8 else 1.0
        eps = model(x, system.t[n].expand(2))
        step = after * (x - sigma * eps) / alpha + (1 - after**2) ** 0.5 * eps
        assert torch.allclose(frame.x[n + 1], step, atol=1e-10)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_extrapolation_runs_the_chain_on_with_the_last_estimate_held_fixed(rule: str) -> None:
    """Rows entered after the third are what stepping gives a model whose every answer is that estimate."""
    system, W, B = RULES[rule](11).to("cpu", torch.float64), 11, 2
    W = len(system)
    x, z = (torch.randn(W + 1, B, 4, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    D = torch.randn(W + 1, B, 4, generator=seeded(2), dtype=torch.float64)  # H = 1 row of history in front
    known = torch.tensor([3, 5])
    n = torch.arange(W)[:, None].expand(W, B)
    filled = pd.Extrapolate().fill(system, WindowState(x, D, z[1:], n, n >= 0, 0 * n), known)
    for b in range(B):
        k = int(known[b])
        assert torch.equal(filled[: k + 1, b], x[: k + 1, b])
        state, held = x[k, b], D[k, b]  # D[H + k - 1] belongs to row k - 1, the last one seen
        for row in range(k, W):
            state = system.a[row] * state + system.b[row].sum() * held + system.c[row] * z[1 + row, b]
            assert torch.allclose(filled[row + 1, b], state)


def test_extrapolation_takes_fewer_rounds_than_copying_on_long_chains() -> None:
    system = pd.ddpm(LINEAR, 300)
    copy, extrapolate = (
        solve(system, pd.Picard(guess), window=40, tolerance=0.1) for guess in (pd.Copy(), pd.Extrapolate())
    )
    assert extrapolate.rounds < 0.75 * copy.rounds and (extrapolate.max_error or 0) < 0.1


def test_a_method_of_ones_own_is_one_small_class() -> None:
    """The room is open: a subclass with a memory that slides with the window needs nothing else."""
    from dataclasses import dataclass

    rows_seen, remembered = [], []

    @dataclass(frozen=True)
    class Counting(pd.AbstractMethod):
        def init(self, system: pd.System, work: WindowState) -> tuple[Tensor, ...]:
            return (torch.zeros_like(work.n),)

        def sweep(
            self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: tuple[Tensor, ...]
        ) -> tuple[Update, tuple[Tensor, ...]]:
            rows_seen.append(work.seen[0].tolist())
            remembered.append(memory[0][0].tolist())
            D, y = step_rows(system, work, evaluate)
            return Update(y, D, y, work.live), (memory[0] + 1,)

    system = pd.ddim(LINEAR, 10)
    solution = solve(system, Counting(), window=4, tolerance=0.0, model=Mixture())
    assert (solution.max_error or 0) < 1e-12
    assert rows_seen[0] == [0, 0, 0] and rows_seen[3] == [3, 3, 3], "the first row was visited once a round"
    assert remembered[:4] == rows_seen[:4], "and what a method remembers of it slid with it"


@pytest.mark.parametrize("K", [1, 2])
@pytest.mark.parametrize("wide", [4, 400])
def test_one_solve_and_a_loop_over_rows_carry_alike(K: int, wide: int) -> None:
    """Small states are solved for at once, large ones row by row; from a row on where those before are known."""
    p = torch.rand(K, 9, 2, 1, generator=seeded(0), dtype=torch.float64) / K
    d = torch.randn(9, 2, wide, generator=seeded(1), dtype=torch.float64)
    for first in (1, 3, 8):
        slow = d.clone()
        for n in range(first, 9):
            slow[n] += sum(p[k, n] * slow[n - 1 - k] for k in range(min(K, n)))
        torch.testing.assert_close(recur_in_place(d.clone(), p, first), slow)
        slow[first:] = 0
        none = d.clone()
        none[first:] = 0
        for n in range(first, 9):
            slow[n] = sum(p[k, n] * slow[n - 1 - k] for k in range(min(K, n)))
        none[:first] = slow[:first]
        torch.testing.assert_close(carry_on(none, p, first), slow)
