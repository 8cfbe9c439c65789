"""Parareal: the textbook's refinements in a pipeline, exact at tolerance 0, few rows a round."""

from __future__ import annotations

import gc
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paradigms as pd
from paradigms.execution.model_known import rows_beside
from paradigms.methods.parareal import ChainBlocks, CoarseSolver
from problems import LINEAR, RULES, seeded, solve, start
from toy import Mixture

COARSE: list[CoarseSolver] = [pd.HeldCoarse(), pd.LinearCoarse()]
cases = {
    "rule": st.sampled_from(sorted(RULES)),
    "steps": st.integers(1, 25),
    "window": st.integers(1, 30),
    "block": st.none() | st.integers(1, 9),
    "coarse": st.sampled_from(COARSE),
    "B": st.integers(1, 4),
}


def fitting(rule: str, steps: int, window: int, block: int | None) -> tuple[pd.System, int | None]:
    """The system, and the block no longer than its window."""
    system = RULES[rule](steps)
    return system, None if block is None else min(block, window, len(system))


def watched(seen: list[pd.Frame]) -> Any:
    """A `watch` that keeps the frames."""

    def watch(frames: Any) -> Any:
        for frame in frames:
            seen.append(frame)
            yield frame

    return watch


def textbook(
    system: pd.System, model: Mixture, x: Tensor, z: Tensor | None, s: int, refinements: int
) -> list[list[Tensor]]:
    """U[k][j], each refinement finished before the next: rules of one tap, an epsilon model, no clipping."""

    def output(u: Tensor, n: int) -> Tensor:
        eps = model(u, system.t[n].expand(len(u)))
        return (u - float(system.sigma[n]) * eps) / float(system.alpha[n])

    def run(u: Tensor, j: int, frozen: bool) -> Tensor:
        D = output(u, j * s)
        for n in range(j * s, j * s + s):
            D = D if frozen else output(u, n)
            u = float(system.a[n]) * u + float(system.b[n, 0]) * D + (0 if z is None else float(system.c[n]) * z[n])
        return u

    M = len(system) // s
    U = [[x]]
    for j in range(M):
        U[0].append(run(U[0][j], j, frozen=True))
    for k in range(refinements):
        U.append([x])
        for j in range(M):
            change = run(U[k + 1][j], j, frozen=True) - run(U[k][j], j, frozen=True)
            U[k + 1].append(run(U[k][j], j, frozen=False) + change)
    return U


@pytest.mark.parametrize("rule", ["ddim", "ddpm"])
@pytest.mark.parametrize(("M", "s"), [(4, 5), (6, 2), (3, 4)])
def test_refinement_k_of_block_j_is_the_textbooks_and_known_after_k_s_plus_j_minus_k_rounds(
    rule: str, M: int, s: int
) -> None:
    """Selvam et al. 2024, algorithm 1, and their pipeline: K refinements of M blocks take K s + M - K rounds."""
    system, model = RULES[rule](M * s), Mixture()
    frames: list[pd.Frame] = []
    x = start(system, 2)
    z = torch.randn(M * s, 2, 6, generator=seeded(1), dtype=torch.float64) if rule == "ddpm" else None
    pd.sample(model, system, x, pd.Parareal(block=s, tolerance=0.0), window=M * s, noise=z, watch=watched(frames))
    U = textbook(system, model, x, z, s, M - 1)
    for k in range(M):
        for j in range(max(k, 1), M):
            frame = frames[k * s + j - k - 1]  # the last of so many rounds
            for b in range(2):
                assert torch.allclose(frame.x[j * s - int(frame.begin[b]), b], U[k][j][b], atol=1e-9), (k, j)


@settings(max_examples=25, deadline=None)
@given(**cases, dtype=st.sampled_from([torch.float64, torch.float32]))
def test_tolerance_zero_is_sequential(
    rule: str, steps: int, window: int, block: int | None, coarse: CoarseSolver, B: int, dtype: torch.dtype
) -> None:
    system, block = fitting(rule, steps, window, block)
    solution = solve(system, pd.Parareal(block=block, tolerance=0.0, coarse=coarse), window=window, B=B, dtype=dtype)
    assert solution.max_error is not None and solution.max_error <= (1e-10 if dtype == torch.float64 else 1e-5)
    assert solution.rounds <= len(system) and solution.converged


@settings(max_examples=25, deadline=None)
@given(**cases, tolerance=st.sampled_from([0.003, 0.03, 0.3, 3.0]))
def test_any_tolerance_bounds_the_residual_and_counts_what_the_model_saw(
    rule: str, steps: int, window: int, block: int | None, coarse: CoarseSolver, B: int, tolerance: float
) -> None:
    """And no block ever has more than two rows in a round: where its march stands, and where the next sets out."""
    (system, block), model = fitting(rule, steps, window, block), Mixture()
    frames: list[pd.Frame] = []
    x, method = start(system, B), pd.Parareal(block=block, tolerance=tolerance, coarse=coarse)
    how: dict[str, Any] = {"generator": seeded(1), "watch": watched(frames), "tolerance": 1e6}  # never made again
    solution = pd.sample(model, system, x, method, window=window, **how)
    assert solution.evaluations == solution.trace[-1][2] == model.rows - rows_beside(model)
    assert solution.rounds == len(solution.trace) == int(solution.sample_rounds.max()) <= len(system)
    assert solution.converged and bool(torch.isfinite(solution.x).all())
    assert float(solution.residual.max()) <= tolerance * (1 + 1e-6)
    s = block or max(round((min(window, len(system)) / 2) ** 0.5), 1)
    evaluations = [0, *(spent for *_, spent in solution.trace)]
    blocks = min(window, len(system)) // s + 2  # those that a window can touch
    assert max(b - a for a, b in itertools.pairwise(evaluations)) <= 2 * B * blocks


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver"])
@pytest.mark.parametrize("coarse", COARSE)
def test_a_model_of_one_answer_takes_one_refinement_and_one_evaluation_a_row(rule: str, coarse: CoarseSolver) -> None:
    """Then G is F: M rounds for the coarse pass, s for the fine one, the first row shared."""
    system = RULES[rule](42)
    method = pd.Parareal(block=6, tolerance=1e-6, coarse=coarse)
    solution = solve(system, method, Mixture(J=1, width=0.0), window=42)
    assert solution.rounds == 6 + 42 // 6 - 1 and solution.evaluations == 3 * 42 and (solution.max_error or 0) < 1e-6


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("s", [1, 4, 5])
def test_a_jump_is_the_blocks_own_rows_on_a_line_of_outputs(rule: str, s: int) -> None:
    """`LinearCoarse` is exact if outputs lie on a line in the log signal-to-noise ratio, `HeldCoarse` on a level."""
    system = RULES[rule](12)
    level, like = (system.alpha / system.sigma).log(), torch.zeros(1, dtype=torch.float64)
    for coarse, tilt in ((pd.HeldCoarse(), 0.0), (pd.LinearCoarse(), 0.7)):
        D = 1.3 + tilt * level
        jump = ChainBlocks.of(system, s, coarse, like).jump
        for f in range(s, len(system) - s, s):
            if level[f] == level[f - s]:
                continue  # Heun's two rows of one level: no line goes through them
            u = torch.tensor(0.4, dtype=torch.float64)
            for n in range(f, f + s):
                u = system.a[n] * u + system.b[n].sum() * D[n]
            assert torch.allclose(jump[f] @ torch.stack([torch.tensor(0.4), D[f], D[f] - D[f - s]]).double(), u)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_error_falls_with_the_tolerance(rule: str) -> None:
    system = RULES[rule](40)
    errors = [
        solve(system, pd.Parareal(tolerance=t), window=16, tolerance=1.0).max_error or 0.0
        for t in (0.3, 0.03, 0.003, 0.0003)
    ]
    assert errors[-1] < 3e-4 and errors[-1] < max(errors) / 10, errors


def test_a_block_tolerance_too_loose_for_the_sample_is_seen_and_the_sample_made_again() -> None:
    """Off by 0.018 and "converged" before: nothing asked what the borders between blocks leave in the sample."""
    solution = solve(RULES["ddim"](40), pd.Parareal(tolerance=0.3), window=16, tolerance=0.003)
    assert solution.converged and (solution.max_error or 0) < 0.003 and solution.retries


@pytest.mark.parametrize("coarse", COARSE)
def test_fewer_rounds_than_steps_at_a_small_error(coarse: CoarseSolver) -> None:
    solution = solve(pd.ddim(LINEAR, 100), pd.Parareal(tolerance=0.01, coarse=coarse), window=100, tolerance=0.1)
    assert solution.rounds <= 50 and (solution.max_error or 0) < 0.01


def test_each_sample_of_a_batch_advances_as_if_it_were_alone() -> None:
    system, method = pd.ddim(LINEAR, 60), pd.Parareal(tolerance=0.05)
    frames: list[pd.Frame] = []
    x = start(system, 5)
    together = pd.sample(Mixture(), system, x, method, window=20, watch=watched(frames))
    for b in range(5):
        alone = pd.sample(Mixture(), system, x[b : b + 1], method, window=20)
        assert torch.allclose(alone.x[0], together.x[b], rtol=0, atol=1e-12)
        assert alone.rounds == int(together.sample_rounds[b])
    assert max(int(f.begin.max() - f.begin.min()) for f in frames) > 0, "or this compared nothing"


def test_a_fast_sample_that_waits_for_a_slow_one_goes_on_where_it_stood() -> None:
    """One whose data estimate never changes, one that a rough model keeps moving: the window of the first is cut."""
    system = pd.ddpm(LINEAR, 200)
    frames: list[pd.Frame] = []
    x, rough = start(system, 2), torch.tensor([0.0, 1.0]).double()
    z = torch.randn(200, 2, 6, generator=seeded(4), dtype=torch.float64)
    solution = pd.sample(
        lambda x, t, rough: x + rough[:, None] * torch.sin(20 * x),
        system,
        x,
        pd.Parareal(tolerance=1e-5),
        window=8,
        noise=z,
        condition={"rough": rough},
        watch=watched(frames),
    )
    assert max(int(f.begin.max() - f.begin.min()) for f in frames) > 24, "or nobody waited"
    exact = pd.sequential(
        lambda x, t, rough: x + rough[:, None] * torch.sin(20 * x), system, x, noise=z, condition={"rough": rough}
    )
    assert solution.converged and float((solution.x - exact)[0].norm() / exact[0].norm()) < 1e-3


def test_a_guess_changes_nothing_for_no_state_is_evaluated_before_a_march_or_a_jump_set_it() -> None:
    system = pd.ddpm(LINEAR, 60)
    copy, extrapolate = (
        solve(system, pd.Parareal(guess, tolerance=0.05), window=20) for guess in (pd.Copy(), pd.Extrapolate())
    )
    assert torch.equal(copy.x, extrapolate.x) and copy.evaluations == extrapolate.evaluations


def test_memory_is_of_the_window_not_of_the_chain() -> None:
    d = 211  # no other tensor here has a multiple of it

    def peak(N: int) -> int:
        mixture, most, calls = Mixture(d=d), 0, 0

        def model(x: Tensor, t: Tensor) -> Tensor:
            nonlocal most, calls
            calls += 1
            if calls % 4:  # every fourth is looked at: all objects that there are take their time
                return mixture(x, t)
            alive = {v.untyped_storage() for v in gc.get_objects() if type(v) is Tensor and v.layout is torch.strided}
            size = {v.data_ptr(): v.nbytes() for v in alive}
            most = max(most, sum(n // (8 * d) for n in size.values() if n % (8 * d) == 0))
            return mixture(x, t)

        system = pd.ddpm(LINEAR, N)
        pd.sample(model, system, start(system, 1, d=d), pd.Parareal(), window=8, generator=seeded(1))
        return most

    assert peak(90) <= 1.1 * peak(30) <= 20 * 8, "twenty states a row"


@pytest.mark.parametrize(
    "wrong", [{"block": 0}, {"block": 11}, *({"tolerance": v} for v in (-0.1, math.nan, math.inf))]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    system = pd.ddim(LINEAR, 20)
    with pytest.raises(ValueError, match=r"Parareal: (block|tolerance): given .*; needed: "):
        pd.sample(Mixture(), system, start(system), pd.Parareal(**wrong), window=10)


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver"])
def test_a_solvers_tolerance_of_zero_is_parareals_too(rule: str) -> None:
    """A10: `Parareal()` kept a tolerance of its own, and was 1 % off at a solver's tolerance of 0."""
    system = RULES[rule](40)
    for method in (pd.Parareal(), pd.Parareal(tolerance=0.01)):
        assert (solve(system, method, window=20, tolerance=0.0).max_error or 0) < 1e-10
    loose, tight = (solve(system, pd.Parareal(), window=20, tolerance=t) for t in (0.1, 1e-3))
    assert loose.rounds < tight.rounds and (tight.max_error or 0) < 1e-3
