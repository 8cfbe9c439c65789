"""Many ranks sample what one process samples: rows are shared out evenly, and nothing but their answers is sent."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import paradigms as pd
import ranks
from paradigms.distributed.packing import ALIGN, HEADER
from paradigms.distributed.partition import partition_rows
from paradigms.distributed.team import FIRST, Team
from paradigms.execution.model_check import ROWS
from paradigms.execution.model_known import rows_beside
from problems import LINEAR, RULES, seeded, start
from toy import Mixture

METHODS = {"Spectral": pd.Spectral(), "Picard": pd.Picard(pd.Extrapolate()), "QuasiNewton": pd.QuasiNewton()}
assert FIRST < 24 * 16 * 6 * 8
HOW: dict[str, dict[str, Any]] = {
    **{f"{rule}, Spectral": {"rule": rule} for rule in RULES},
    **{f"ddpm, {name}": {"method": method} for name, method in METHODS.items()},
    "one sample": {"B": 1},
    "a window of one row": {"window": 1, "B": 2},
    "a verification": {"verify": True},
    "the paper's criterion": {"tolerance": pd.StepNoise(0.1)},
    "given noise": {"noise": True},
    "more noise than goes with the agreement": {"noise": True, "B": 16},
    "a generator a sample": {"generators": True},
    "a condition": {"condition": True},
    "nodes": {"rule": "ddim", "method": pd.Skeleton(few=8, always=True), "tolerance": 0.01},
}


def shifted(x: Tensor, t: Tensor, shift: Tensor) -> Tensor:
    """The mixture, moved by a condition (M, 1)."""
    return Mixture()(x - shift, t)


def solve(seed: int, mesh: Any, rule: str = "ddpm", B: int = 3, window: Any = 7, **how: Any) -> pd.Solution:
    """A problem of which start, noise and condition are of a seed."""
    system = RULES[rule](24)
    x = system.noise((B, 6), seeded(seed), dtype=torch.float64)
    generator: Any = None if "noise" in how else seeded(seed + 1)
    if how.pop("generators", False):
        generator = [seeded(seed + b) for b in range(B)]
    if how.pop("noise", False):
        how["noise"] = torch.randn(24, B, 6, generator=seeded(seed), dtype=torch.float64)
    model: Any = how.pop("model", Mixture())
    if how.pop("condition", False):
        model, how["condition"] = shifted, {"shift": torch.full((B, 1), 0.1 * seed, dtype=torch.float64)}
    method = how.pop("method", None)
    return pd.sample(model, system, x, method, window=window, generator=generator, mesh=mesh, **how)


def all_of_them(rank: int) -> dict[str, pd.Solution]:
    """Every problem, of another seed on each rank."""
    model = Mixture()
    again = [solve(rank, dist.group.WORLD, model=model, window="auto") for _ in range(3)]  # of what they learned before
    found = {name: solve(rank, dist.group.WORLD, **how) for name, how in HOW.items()}
    return found | {f"auto, {k}": solution for k, solution in enumerate(again)}


@pytest.fixture(scope="module", params=[2, 3])
def solutions(request: pytest.FixtureRequest) -> list[dict[str, pd.Solution]]:
    outcomes = ranks.run(request.param, all_of_them)
    assert not any(o.error for o in outcomes), outcomes
    return [o.value for o in outcomes]


@pytest.mark.parametrize("name", HOW)
def test_ranks_sample_what_one_process_samples_of_the_first_ranks_seed(
    name: str, solutions: list[dict[str, pd.Solution]]
) -> None:
    alone = solve(0, None, **HOW[name])
    for solution in (s[name] for s in solutions):
        assert torch.equal(solution.x, solutions[0][name].x)
        torch.testing.assert_close(solution.x, alone.x, rtol=1e-9, atol=1e-9)
        assert (solution.rounds, solution.evaluations, solution.trace) == (alone.rounds, alone.evaluations, alone.trace)


def test_ranks_agree_on_what_was_spent(solutions: list[dict[str, pd.Solution]]) -> None:
    for name in HOW:
        first, *others = (s[name] for s in solutions)
        assert first.sharing is not None and first.model_seconds > 0
        assert {(s.sharing, s.model_seconds) for s in others} <= {(first.sharing, first.model_seconds)}


@pytest.mark.parametrize("again", range(3))
def test_ranks_pick_the_same_windows_by_times_they_agree_on(
    again: int, solutions: list[dict[str, pd.Solution]]
) -> None:
    first, *others = (s[f"auto, {again}"] for s in solutions)
    exact = pd.sequential(Mixture(), RULES["ddpm"](24), first_start(), generator=seeded(1))
    assert first.converged and float((first.x - exact).norm() / exact.norm()) < 0.03
    for other in others:
        assert torch.equal(first.x, other.x) and (first.windows, first.trace) == (other.windows, other.trace)


def first_start() -> Tensor:
    return RULES["ddpm"](24).noise((3, 6), seeded(0), dtype=torch.float64)


class Half(nn.Module):
    """A model in half precision, and how many rows it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.rows = nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16)), list[int]()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.rows.append(len(x))
        return x * self.scale


def of_eight(rank: int) -> dict[str, Any]:
    """A long chain, a window of fewer rows than ranks, a model in half precision; the rows that it was asked here."""
    model, system = Half(), pd.ddpm(LINEAR, 40)
    how: dict[str, Any] = {"mesh": dist.group.WORLD, "tolerance": 0.0}
    half = pd.sample(model, system, start(system, 2, torch.float32), window=9, generator=seeded(1), **how)
    rows = list(model.rows)
    few = pd.sample(model, system, start(system, 1, torch.float32), window=3, generator=seeded(1), **how)
    by_rows = pd.sharded(model, dist.group.WORLD)
    reference = pd.sequential(by_rows, system, start(system, 1, torch.float32), generator=seeded(1))
    before = Team(dist.group.WORLD).next()
    usual = solve(rank, dist.group.WORLD)
    calls = Team(dist.group.WORLD).next() - before - 1
    return {"calls": calls, "half": half, "rows": rows, "few": few, "reference": reference, "usual": usual}


@pytest.fixture(scope="module")
def eight() -> list[dict[str, Any]]:
    outcomes = ranks.run(8, of_eight)
    assert not any(o.error for o in outcomes), outcomes
    return [o.value for o in outcomes]


def off(x: Tensor, reference: Tensor) -> float:
    """|x - reference| / |reference|."""
    return float((x - reference).norm() / reference.norm())


def test_eight_ranks_are_right_and_have_equally_many_rows(eight: list[dict[str, Any]]) -> None:
    system = pd.ddpm(LINEAR, 40)
    alone = pd.sequential(Half(), system, start(system, 2, torch.float32), generator=seeded(1))
    for rank, found in enumerate(eight):
        assert off(found["half"].x, alone) <= found["half"].tolerance, "the finest that half a float holds"
        assert found["half"].sharing.rows[rank] == sum(found["rows"]) - ROWS
    assert max(eight[0]["half"].sharing.rows) - min(eight[0]["half"].sharing.rows) <= 1


@given(st.integers(1, 9), st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_shares_follow_each_other_and_differ_by_one_row_in_each_round_and_in_all(R: int, rounds: list[int]) -> None:
    turn, had = 0, [0] * R
    for M in rounds:
        parts = partition_rows(M, R, turn)
        sizes = [last - first for first, last in parts]
        assert [0, *(last for _, last in parts)] == [*(first for first, _ in parts), M]
        had, turn = [n + size for n, size in zip(had, sizes, strict=True)], (turn + M) % R
        assert max(sizes) - min(sizes) <= 1 and max(had) - min(had) <= 1


def test_eight_ranks_sample_what_one_process_samples(eight: list[dict[str, Any]]) -> None:
    alone = solve(0, None)
    for found in eight:
        torch.testing.assert_close(found["usual"].x, alone.x, rtol=1e-5, atol=1e-5)
        assert (found["usual"].rounds, found["usual"].evaluations) == (alone.rounds, alone.evaluations)


def test_a_call_is_one_collective_and_one_a_round(eight: list[dict[str, Any]]) -> None:
    for found in eight:
        assert found["calls"] == 1 + found["usual"].rounds


def test_more_ranks_than_rows_is_no_trouble(eight: list[dict[str, Any]]) -> None:
    system = pd.ddpm(LINEAR, 40)
    alone = pd.sequential(Half(), system, start(system, 1, torch.float32), generator=seeded(1))
    for found in eight:
        assert off(found["few"].x, alone) <= found["few"].tolerance
        torch.testing.assert_close(found["reference"], alone, rtol=1e-5, atol=1e-5)
    assert sum(eight[0]["few"].sharing.rows) == eight[0]["few"].evaluations
    assert max(eight[0]["few"].sharing.rows) - min(eight[0]["few"].sharing.rows) <= 1


def test_on_the_wire_is_a_header_and_the_answers_in_the_models_dtype_once_a_round(
    eight: list[dict[str, Any]],
) -> None:
    """A rank receives from each of 7 others HEADER + the answers to ceil(M / 8) rows of 6 numbers, of 2 bytes each."""
    solution = eight[0]["half"]
    ends = [0, *(evaluations for *_, evaluations in solution.trace)]
    rounds = [b - a for a, b in itertools.pairwise(ends)]
    longest = [-(-M // 8) * 6 * (4 if k == 0 else 2) for k, M in enumerate(rounds)]  # the first is not known to be half
    assert solution.sharing.wire_bytes == sum(7 * (HEADER + -(-n // ALIGN) * ALIGN) for n in longest)
    assert solution.sharing.calls == solution.rounds


class Together(nn.Module):
    """A model that is itself on several ranks: each adds its part of the mean, by an all-reduce of their own group."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        self.group, self.part = group, 1 + dist.get_rank(group)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = x * (self.part / 3)
        dist.all_reduce(y, group=self.group)
        return 0.5 * y


def of_a_square(rank: int) -> Tensor:
    """Time shared out in one dimension of a mesh, the model in the other."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("model", "time"))
    system = pd.ddpm(LINEAR, 20)
    how: dict[str, Any] = {"generator": seeded(rank % 2), "mesh": mesh, "window": 5, "tolerance": 0.0}
    solution = pd.sample(Together(mesh.get_group("model")), system, system.noise((3, 6), seeded(rank % 2)), **how)
    with pytest.raises(ValueError, match="a mesh of 2 dimensions"):
        pd.sharded(Mixture(), init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model")))
    return solution.x


def test_time_composes_with_another_dimension_of_a_mesh() -> None:
    outcomes, system = ranks.run(4, of_a_square), pd.ddpm(LINEAR, 20)
    alone = pd.sequential(lambda x, t: 0.5 * x, system, system.noise((3, 6), seeded(0)), generator=seeded(0))
    for outcome in outcomes:
        assert not outcome.error, outcome
        torch.testing.assert_close(outcome.value, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("room", [1, 3, 5])
def test_where_memory_runs_out_the_batch_halves_and_goes_on(room: int) -> None:
    asked: list[int] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        asked.append(len(x))
        if len(x) > room:
            raise torch.OutOfMemoryError
        return Mixture()(x, t)

    system = pd.ddpm(LINEAR, 20)
    how: dict[str, Any] = {"window": 7, "generator": seeded(1)}
    short, whole = pd.sample(model, system, start(system), **how), solve_whole(system)
    torch.testing.assert_close(short.x, whole.x, rtol=1e-9, atol=1e-9)
    assert (short.evaluations, short.rounds) == (whole.evaluations, whole.rounds)
    assert short.chunk is not None and short.chunk <= room < 2 * short.chunk + 2 and whole.chunk is None
    assert sum(n for n in asked if n <= room) == whole.evaluations + rows_beside(model)  # nothing twice
    assert sum(n > room for n in asked) <= 9  # and what did not fit is remembered


def solve_whole(system: pd.System) -> pd.Solution:
    return pd.sample(Mixture(), system, start(system), window=7, generator=seeded(1))


def test_where_one_row_has_no_room_that_is_said() -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    system = pd.ddpm(LINEAR, 5)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        pd.sample(model, system, start(system))
