"""Mutants: changes of one line that a test must notice. `make mutants` applies each to a copy and runs that test.

    python tests/mutation/mutants.py [PART OF A NAME ...]      0: every mutant is noticed;  1: some are not, by name

A mutant is noticed where its tests pass on the code as it is and fail on the mutant. `test_mutants.py` holds that every
line named here is there, once, so that the list does not outlive the code. To add one: a line below, and its test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = "src/paradigms"


@dataclass(frozen=True)
class Mutant:
    """`old` in `file` becomes `new`, and one of `tests` fails."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def of(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A mutant of a file of the library, and tests as FILE::NAME or as names in test_mutants.py."""
    where = tuple(f"tests/{t}" if "::" in t else f"tests/mutation/test_mutants.py::{t}" for t in tests)
    return Mutant(name, f"{SOURCE}/{file}", old, new, where)


MUTANTS: tuple[Mutant, ...] = (
    of(
        "one generator replica for verified and compare",
        "solve.py",
        "reference.replica().stream()",
        "reference.stream()",
        "test_verification_and_comparison_each_draw_the_noise_of_the_call",
    ),
    of(
        "window 1 skips watch",
        "solve.py",
        "keep=verify or watch is not iter)",
        "keep=verify)",
        "test_steps_of_a_window_of_one_are_watched_one_and_all",
    ),
    of(
        "memories dropped after stepping",
        "window/steps.py",
        "frame.rows, frame.round, at.memories)",
        "frame.rows, frame.round)",
        "test_what_is_known_of_a_sample_outlasts_steps_between_windows",
    ),
    of(
        "memories not taken up by a window",
        "window/loop.py",
        "    if at.memories:\n",
        "    if False:\n",
        "test_what_is_known_of_a_sample_outlasts_steps_between_windows",
    ),
    of(
        "Anderson's most = inf",
        "methods/anderson.py",
        "    most: float = 1.0\n",
        "    most: float = math.inf\n",
        "test_an_anderson_step_is_no_longer_than_the_largest_correction_before_it",
    ),
    of(
        "Spectral's most = inf",
        "methods/spectral.py",
        "    most: float = 1.0\n",
        "    most: float = math.inf\n",
        "test_an_anderson_step_is_no_longer_than_the_largest_correction_before_it",
    ),
    of(
        "at tolerance 0 a state may be far from its own step",
        "stopping/rounding.py",
        "seen.maximum(apart / unmoved)",
        "seen",
        "core/test_promises_random.py::test_what_an_estimate_let_through_is_exact_at_tolerance_0",
    ),
    of(
        "no limit on the growth of a table",
        "stopping/table_facts.py",
        "LARGEST_GROWTH = 100.0",
        'LARGEST_GROWTH = float("inf")',
        "test_a_table_whose_levels_are_not_its_own_costs_few_rounds_more",
    ),
    of(
        "the secant's clamp to (0, 3)",
        "methods/spectral.py",
        "share.clamp_(0, 1)",
        "share.clamp_(0, 3)",
        "test_a_learned_slope_lies_between_that_of_a_model_that_knows_better_and_of_one_that_believes_the_state",
    ),
    of(
        "the secant's clamp lets slopes be negative",
        "methods/spectral.py",
        "share.clamp_(0, 1)",
        "share.clamp_(-1, 1)",
        "test_a_learned_slope_lies_between_that_of_a_model_that_knows_better_and_of_one_that_believes_the_state",
    ),
    of(
        "no limit on the Anderson step",
        "methods/anderson.py",
        "most = most.clamp(-fits, fits) * steady",
        "most = most * steady",
        "test_an_anderson_step_is_no_longer_than_the_largest_correction_before_it",
    ),
    of(
        "whole() writes to the path itself",
        "files.py",
        'partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")',
        "partial = path",
        "test_a_file_is_replaced_in_one_move_and_who_reads_the_old_one_reads_it_to_its_end",
    ),
    of(
        "whole() copies",
        "files.py",
        "os.replace(partial, path)",
        "path.write_bytes(partial.read_bytes())",
        "test_a_file_is_replaced_in_one_move_and_who_reads_the_old_one_reads_it_to_its_end",
    ),
    of(
        "--count accepts a folder of unknown pictures",
        "cli/many.py",
        'elif any(out.glob("[0-9]*.png")):',
        "elif False:",
        "cli/test_many_cli.py::test_pictures_of_unknown_origin_are_left_alone",
    ),
    of(
        "out of memory halving to R - 1",
        "execution/chunked.py",
        "self.most = R // 2",
        "self.most = R - 1",
        "test_rows_that_do_not_fit_are_halved_so_few_batches_are_lost",
    ),
    of(
        "raise_mmap_threshold does nothing",
        "execution/memory.py",
        '    torch.empty(LARGEST_CHUNK, dtype=torch.uint8, device="cpu")',
        "    pass",
        "test_rounds_do_not_clear_the_pages_of_the_rounds_before_anew",
    ),
)


def run(tests: tuple[str, ...], at: Path) -> tuple[int, str]:
    """pytest's exit status, and what it said, of tests on the copy at `at`."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(at / p) for p in ("src", "weights/src", ".")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def code_or_link(source: str, target: str) -> None:
    """Copies code, so that it may be edited meanwhile, and links to weights and pictures."""
    (shutil.copy if source.endswith(".py") else os.symlink)(source, target)


def noticed(mutant: Mutant, passing: set[tuple[str, ...]], copy: Path) -> str:
    """Applies it, runs its tests, takes it back: "" where they fail, or what is wrong."""
    target = copy / mutant.file
    text = target.read_text()
    if text.count(mutant.old) != 1:
        return f"its line is {text.count(mutant.old)} times in {mutant.file}; needed: once"
    if mutant.tests not in passing:
        status, said = run(mutant.tests, copy)
        if status != 0:
            return f"its tests do not pass without it:\n{said[-2000:]}"
        passing.add(mutant.tests)
    target.write_text(text.replace(mutant.old, mutant.new))
    try:
        status, said = run(mutant.tests, copy)
    except subprocess.TimeoutExpired:
        return ""  # hangs, and would be noticed
    finally:
        target.write_text(text)
    return "" if status == 1 else f"its tests pass (status {status}):\n{said[-2000:]}"


def main(parts: list[str]) -> int:
    """Says of every mutant whose name holds one of the parts whether it is noticed."""
    chosen = [m for m in MUTANTS if not parts or any(part in m.name for part in parts)]
    lost, passing = 0, set[tuple[str, ...]]()
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place)
        for name in ("src", "tests", "benchmarks", "training", "weights"):
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, copy_function=code_or_link, ignore=skip)
        (copy / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
        for mutant in chosen:
            wrong = noticed(mutant, passing, copy)
            lost += bool(wrong)
            print(f"{'NOT NOTICED' if wrong else 'noticed'}: {mutant.name}{': ' if wrong else ''}{wrong}", flush=True)
    print(f"{len(chosen) - lost} of {len(chosen)} mutants are noticed")
    return 1 if lost or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
