"""Mutation testing of the core: mutmut changes it in every way it knows, and a random sample of that is tested.

    python tests/mutation/mutation.py [--count 60] [--minutes 30] [--seed 0] [--tests solve,stop] [MODULE ...]
    score = mutants noticed / mutants decided

Made in out/mutation, a copy, so that a run can be stopped and gone on with. A mutant is noticed where a test fails or
does not end. What survived is named; `mutmut show NAME` in out/mutation shows it. Not in CI: a mutant takes seconds
to minutes, and there are thousands.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "out" / "mutation"
CORE = (
    "denoiser", "execution/chunked", "execution/evaluate", "methods/anderson", "methods/base", "methods/newton",
    "methods/parareal", "methods/scan", "methods/spectral", "methods/spectrum", "methods/speculation", "noise",
    "problem", "rules", "schedule", "solution", "solve", "stopping/final_error", "system", "window/buffers",
    "window/loop", "methods/guess", "methods/picard", "methods/work",
)  # fmt: skip
TESTS = (
    "core/problem", "core/promises_random", "core/rules", "core/schedule", "core/solution", "core/solve",
    "execution/evaluate", "methods/anderson", "methods/base", "methods/newton", "methods/parareal", "methods/spectral",
    "methods/spectrum", "methods/speculation", "mutation/mutants", "stopping/final_error",
)  # fmt: skip
BATCH = 30
NOTICED = ("killed", "timeout", "suspicious", "segfault")


def prepare(modules: list[str], tests: list[str]) -> None:
    """The copy that mutmut works in, and its settings; what it found out before stays."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in ("src", "tests", "benchmarks", "training", "weights"):
        shutil.rmtree(PLACE / name, ignore_errors=True)
        shutil.copytree(ROOT / name, PLACE / name, ignore=shutil.ignore_patterns("__pycache__", "*.gif", "*.png"))
    shutil.copy(ROOT / "pyproject.toml", PLACE)
    only = "\n".join(f"    src/paradigms/{name}.py" for name in modules)
    files = "\n".join(f"    tests/{folder}/test_{name}.py" for folder, name in (t.split("/") for t in tests))
    (PLACE / "setup.cfg").write_text(
        f"[mutmut]\nsource_paths=src/\nonly_mutate=\n{only}\npytest_add_cli_args_test_selection=\n{files}\n"
        "pytest_add_cli_args=\n    -p\n    no:xdist\n    -k\n    not every_mutant_is_of_code\n"
        "process_isolation=forkserver\ntimeout_constant=60\nuse_git_change_detection=false\n"
    )


def mutmut(*args: str, seconds: float | None = None) -> str:
    """What mutmut says, for so long at most."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mutmut", *args]
    with subprocess.Popen(
        command, cwd=PLACE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 15)
            return process.communicate()[0]


def results() -> dict[str, str]:
    """Every mutant's state, by name."""
    lines = (line.strip().rpartition(": ") for line in mutmut("results", "--all", "true").splitlines())
    return {name: state for name, _, state in lines if name.startswith("paradigms.")}


def main() -> int:
    """Runs the sample, says the score and what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(CORE), metavar="MODULE")
    parser.add_argument("--count", type=int, default=60, help="mutants in the sample")
    parser.add_argument("--minutes", type=float, default=30, help="for the mutants, once they are made")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--tests", default=",".join(TESTS), help="files of tests, as core/solve")
    asked = parser.parse_args()
    tests = asked.tests.split(",")
    for what, given, known in (("MODULE", asked.modules, CORE), ("--tests", tests, TESTS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{what} is {unknown[0]!r}; type some of {', '.join(known)}")
    prepare(asked.modules, tests)
    said = mutmut("run", "--max-children", "1", "none of them")  # makes all, and finds out which test runs what
    names = sorted(results())
    if not names:
        print(said[-3000:])
        return 1
    sample = random.Random(asked.seed).sample(names, min(asked.count, len(names)))
    until = time.monotonic() + 60 * asked.minutes
    for k in range(0, len(sample), BATCH):  # mutmut takes the quick ones of a call first
        if time.monotonic() < until:
            mutmut("run", "--max-children", "1", *sample[k : k + BATCH], seconds=until - time.monotonic())
    states = results()
    found = Counter(states.get(name, "gone") for name in sample)
    noticed, survived = sum(found[state] for state in NOTICED), found["survived"] + found["no tests"]
    for name in sample:
        if states.get(name) in ("survived", "no tests"):
            print(f"{states[name]}: {name}")
    print(
        f"{len(names)} mutants of {', '.join(asked.modules)}; {len(sample)} drawn at seed {asked.seed}: {dict(found)}"
    )
    if noticed + survived:
        print(f"score: {noticed} of {noticed + survived} noticed, {noticed / (noticed + survived):.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
