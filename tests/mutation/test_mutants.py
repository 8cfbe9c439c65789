"""C4: promises that no test held, found by changing the code: each fails with the mutant that `mutants.py` names."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mutants
import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.files import write_whole
from paradigms.methods.work import Evaluate, Memory, Update, WindowState
from paradigms.window.controller import WindowController
from problems import LINEAR, RULES, seeded, start
from toy import Mixture


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: m.name)
def test_every_mutant_is_of_code_that_is_there_and_names_tests_that_are(mutant: mutants.Mutant) -> None:
    assert (mutants.ROOT / mutant.file).read_text().count(mutant.old) == 1
    for name in mutant.tests:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (mutants.ROOT / file).read_text()


# ------------------------------------------------------------------------------------------------- solve, rounds


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("rule", ["ddpm", "ddim, eta 0.5"])
def test_verification_and_comparison_each_draw_the_noise_of_the_call(rule: str, several: bool) -> None:
    """C4: one replica of the generator for both; the second would go on where the first ended."""
    system, generator = RULES[rule](24), [seeded(4), seeded(5), seeded(6)] if several else seeded(4)
    x = start(system)
    how: dict[str, Any] = {"window": 6, "tolerance": 1e-6, "generator": generator}
    found = pd.sample(Mixture(), system, x, verify=True, compare=True, **how)
    again = [seeded(4), seeded(5), seeded(6)] if several else seeded(4)
    assert found.comparison is not None and found.verification is not None and found.max_error is not None
    assert torch.equal(found.comparison.x, pd.sequential(Mixture(), system, x, generator=again))
    assert found.max_error < 1e-4 and float(found.verification.residual.max()) < 1e-3


@pytest.mark.parametrize("rule", ["ddpm", "ddim", "dpmsolver"])
def test_steps_of_a_window_of_one_are_watched_one_and_all(rule: str) -> None:
    """C4: window 1 skipping `watch`."""
    system, states = RULES[rule](15), []

    def watch(frames: Iterator[pd.Frame]) -> Iterable[pd.Frame]:
        for frame in frames:
            states.append(frame.last)
            yield frame

    x = start(system)
    pd.sample(Mixture(), system, x, window=1, generator=seeded(1), watch=watch)
    assert len(states) == len(system)
    noise = torch.randn((len(system), *x.shape), generator=seeded(2), dtype=x.dtype)
    states.clear()
    final = pd.sample(Mixture(), system, x, window=1, noise=noise, watch=watch).x
    assert torch.equal(states[-1], final) and not torch.equal(states[0], states[-1])


@dataclass(frozen=True)
class Counting(pd.Jacobi):
    """Jacobi that remembers of the whole sample how often it swept."""

    sweeps: list[int] = field(default_factory=list, compare=False)

    def init(self, system: pd.System, work: WindowState) -> Memory:
        return (torch.zeros(1, work.n.shape[1]),)

    def sweep(self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        self.sweeps.append(int(memory[0].max()))
        return super().sweep(system, work, evaluate, memory)[0], (memory[0] + 1,)


@dataclass(frozen=True)
class CountingStop(pd.StepNoise):
    """The paper's criterion, which remembers of the whole sample how often it judged."""

    judged: list[int] = field(default_factory=list, compare=False)

    def init(self, system: pd.System, work: WindowState) -> Memory:
        return (torch.zeros(1, work.n.shape[1]),)

    def judge(
        self, system: pd.System, work: WindowState, sweep: Update, memory: Memory
    ) -> tuple[Tensor, Tensor, Memory]:
        self.judged.append(int(memory[0].max()))
        size, count, _ = super().judge(system, work, sweep, ())
        return size, count, (memory[0] + 1,)


class Turns(WindowController):
    """Two rounds of a window, two steps, and so on."""

    def __init__(self) -> None:
        self.asked = 0

    def next(self, row: int) -> tuple[int, int]:
        self.asked += 1
        return (5, 1) if self.asked % 4 in (1, 2) else (1, 1)


def test_what_is_known_of_a_sample_outlasts_steps_between_windows() -> None:
    """C4: memories dropped after stepping: what was spent of the tolerance and what was learned would be forgotten."""
    method, stop, system = Counting(), CountingStop(0.01), RULES["ddpm"](40)
    run = pd.sample(Mixture(), system, start(system), method, window=Turns(), tolerance=stop, generator=seeded(1))
    assert {1, 5} <= set(run.windows) and len(method.sweeps) > 4
    assert method.sweeps == stop.judged == list(range(len(method.sweeps)))


# -------------------------------------------------------------------------------------------------- the Anderson step


@dataclass(frozen=True)
class Measured(pd.AbstractMethod):
    """A method with an Anderson step beside itself without it: how long the step is, by what its docstring allows."""

    inner: Any = None
    plain: Any = None
    found: list[Tensor] = field(default_factory=list, compare=False)

    def init(self, system: pd.System, work: WindowState) -> Memory:
        return self.inner.init(system, work)  # type: ignore[no-any-return]

    def sweep(self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        there = self.plain.sweep(system, work, evaluate, self.plain.init(system, work) if self.bare else memory)[0]
        sweep, memory = self.inner.sweep(system, work, evaluate, memory)
        k = work.revisited_rows  # rows seen before: those after take the step of the last of them, carried on
        if k > 1:
            step, moved = ((v.flatten(2).norm(dim=2)[:k]) for v in (sweep.x - there.x, there.x - work.x[1:]))
            allowed = torch.cat([0 * moved[:1], moved[:-1].cummax(0).values])
            self.found.append(step / allowed.clamp(min=1e-9))
        return sweep, memory

    @property
    def bare(self) -> bool:
        """Whether the plain method remembers nothing of the other's kind."""
        return isinstance(self.plain, pd.ExponentialPicard)


@pytest.mark.parametrize(
    ("inner", "plain"),
    [
        (pd.Anderson(), pd.ExponentialPicard(pd.Extrapolate(), variance=1.0)),
        (pd.Spectral(), replace(pd.Spectral(), most=0.0)),
    ],
    ids=["Anderson", "Spectral"],
)
def test_an_anderson_step_is_no_longer_than_the_largest_correction_before_it(inner: Any, plain: Any) -> None:
    """C4: `most` = inf. On a model whose secants are noise, weights are large and steps would be, too."""
    method = Measured(pd.Extrapolate(), inner, plain)
    system = pd.ddim(LINEAR, 30)
    for seed in range(3):
        x = system.noise((1, 4), seeded(seed), dtype=torch.float64)
        pd.sample(lambda x, t: x + torch.sin(30 * x), system, x, method, window=10, tolerance=0.01)
    steps = torch.cat([s.flatten() for s in method.found])
    assert float(steps.max()) <= 1 + 1e-6
    assert int((steps > 1 - 1e-6).sum()) > 5, "or the limit was not put to the test"


# ------------------------------------------------------------------------------------ files, rows that fit, memory


def test_a_file_is_replaced_in_one_move_and_who_reads_the_old_one_reads_it_to_its_end(tmp_path: Path) -> None:
    """C4: a `whole()` that writes to the path itself, or copies to it."""
    path = tmp_path / "file.txt"
    path.write_text("before " * 100)
    with path.open() as reader:
        assert reader.read(7) == "before "
        with write_whole(path) as partial:
            assert partial != path and partial.parent == path.parent, "a move to another disk would be a copy"
            partial.write_text("after")
            written = partial.stat().st_ino
        assert reader.read() == "before " * 99
    assert path.read_text() == "after" and path.stat().st_ino == written
    assert [f.name for f in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("room", [1, 3, 40])
def test_rows_that_do_not_fit_are_halved_so_few_batches_are_lost(room: int) -> None:
    """C4: out of memory halving to R - 1, where a batch of 128 rows would be tried 125 times before 3 fit."""
    failed: list[int] = []

    class Model:
        trusted = True  # nothing is asked beside the chain's rows

        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            if len(x) > room:
                failed.append(len(x))
                raise torch.OutOfMemoryError
            return Mixture()(x, t)

    model, system = Model(), RULES["ddim"](32)
    x = start(system, 4)
    run = pd.sample(model, system, x, window=32, tolerance=0.01)
    reference = pd.sample(Mixture(), system, x, window=32, tolerance=0.01)
    assert len(failed) <= math.ceil(math.log2(failed[0] / room)) and failed[0] == 128
    assert run.chunk is not None and room // 2 < run.chunk <= room
    assert torch.allclose(run.x, reference.x, rtol=1e-9) and run.rounds == reference.rounds


FAULTS = """
import resource

import torch

import paradigms as pd

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def model(x, t):
    held = [torch.ones(2**18) for _ in range(50)]  # a MiB each: more than what libc keeps by itself
    del held
    return x

system = pd.ddim(pd.linear(), 8, prediction="x0")
x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
pd.sample(model, system, x, window=4)
before = faults()
rounds = sum(pd.sample(model, system, x, window=4).rounds for _ in range(2))
print((faults() - before) / (rounds * 50 * 256))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_rounds_do_not_clear_the_pages_of_the_rounds_before_anew() -> None:
    """C4: `raise_mmap_threshold` doing nothing, where each round gives 50 MiB back and asks for them again."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=environment)
    assert float(run.stdout) < 0.05, "of so many pages"


# ------------------------------------------------------------------------------------------ what is learned, judged


@dataclass(frozen=True)
class Slopes(pd.AbstractMethod):
    """The default method, and alpha times the slope by which it takes an answer to other states, where they moved."""

    inner: pd.AbstractMethod = field(default_factory=lambda: pd.Spectral(most=0.0))
    found: list[Tensor] = field(default_factory=list, compare=False)

    def init(self, system: pd.System, work: WindowState) -> Memory:
        return self.inner.init(system, work)

    def sweep(self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        sweep, memory = self.inner.sweep(system, work, evaluate, memory)
        W = len(work.n)
        rows = torch.arange(1, W)[:, None].expand(W - 1, work.n.shape[1])
        moved = sweep.x[:-1] - work.x[1:-1]  # of the states x[1:], which the outputs D[1:] are of
        slope = (sweep.known(rows) - sweep.D[1:]) / moved
        alpha = system.alpha[work.n[1:]][..., None]
        self.found.append((alpha * slope)[(moved.abs() > 1e-6) & work.live[1:, :, None]])
        return sweep, memory


@pytest.mark.parametrize(("gain", "limit"), [(3.0, 1.0), (-2.0, 0.0)])
def test_a_learned_slope_lies_between_that_of_a_model_that_knows_better_and_of_one_that_believes_the_state(
    gain: float, limit: float
) -> None:
    """C4: the secant's clamp to (0, 3) in place of (0, 1). On D = 3 x, alpha J would be 3 where noise is low."""
    system, method = pd.ddim(LINEAR, 40, prediction="x0"), Slopes(pd.Extrapolate())
    x = system.noise((4, 1), seeded(0), dtype=torch.float64)
    for _ in pd.iterate(lambda x, t: gain * x, system, x, method, window=10, tolerance=1e-6):
        pass
    slopes = torch.cat(method.found)
    assert float(slopes.min()) >= -1e-6 and float(slopes.max()) <= 1 + 1e-6
    assert int(((slopes - limit).abs() < 1e-6).sum()) > 50, "or the limit was not put to the test"


@pytest.mark.parametrize("rule", ["ddpm", "ddim"])
@pytest.mark.parametrize("factor", [1e-2, 1e-4])
def test_a_table_whose_levels_are_not_its_own_costs_few_rounds_more(rule: str, factor: float) -> None:
    """C4: no `LARGEST_GROWTH`. Such levels say that a change grows 1e50 times, which no tolerance would outlast."""
    own = RULES[rule](60)
    other = replace(own, alpha=own.alpha * factor, sigma=own.sigma * factor)  # of which the rule's rows know nothing
    method, x = pd.Picard(pd.Extrapolate()), start(own, 8)
    how: dict[str, Any] = {"window": 20, "tolerance": 0.01}
    usual, odd = (
        len(list(pd.iterate(Mixture(), system, x, method, generator=seeded(1), **how))) for system in (own, other)
    )
    assert odd <= 1.6 * usual, (odd, usual)


@pytest.mark.parametrize("rule", ["ddpm", "ddim"])
@pytest.mark.parametrize("tolerance", [1e-7, 1e-9])
def test_a_carry_that_was_right_for_fifty_rounds_is_not_taken_for_right_on_rows_evaluated_once(
    rule: str, tolerance: float
) -> None:
    """C4: `LEAST_EPS` = 0. The model answers 0 while t >= 100, so that holding answers is exact, and then wakes."""

    def wakes(x: Tensor, t: Tensor) -> Tensor:
        return (t < 100)[:, None] * (0.5 * torch.sin(3 * x) + 0.3)

    system = getattr(pd, rule)(LINEAR, 200, prediction="x0")
    x = system.noise((8, 16), seeded(0), dtype=torch.float64)
    method = pd.ExponentialPicard(pd.Copy(), variance=0.0)
    how: dict[str, Any] = {"window": 8, "tolerance": tolerance, "generator": seeded(1)}
    frames = list(pd.iterate(wakes, system, x, method, **how))
    reference = pd.sequential(wakes, system, x, generator=seeded(1))
    off = (frames[-1].last - reference).norm(dim=1) / reference.norm(dim=1)
    assert float(off.max()) <= tolerance
