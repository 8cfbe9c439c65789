"""`paradigms demo`: what is gained here, and what the same rounds or evaluations could buy otherwise.

speedup     seconds of all steps one by one / seconds in parallel, one sample at a time, the median over samples; both
            samplers make a sample of seed 0 first, which is not counted
few steps   the plain sampler in as many steps as the parallel one took rounds: as fast where rows are free, and another
            picture; and in as many as it evaluated rows, where those are fewer than the chain has
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console

from ..files import write_json
from ..solution import Solution
from ..viz.progress import progress_bar
from ..viz.record import Moment, record_moments
from . import demo_policy
from .demo_cases import Case, Made, ModelCase
from .demo_report import Result, account, explain, planned, table
from .story import tell_story
from .tables import print_table

# The difference is shown so much brighter. Chosen by hand.
TIMES = 10
NEXT = """Next, type: {program} race
  a page on this machine where both samplers race
  (it needs pip install 'paradigms-sampling[web]')"""


def demo(cases: Sequence[Case], samples: int, policy: bool, device: torch.device, out: Path) -> int:
    """Runs the policy, where asked for, and the cases; writes their pictures to `out` and prints the tables."""
    console, files, numbers = Console(stderr=True), list[Path](), dict[str, Any]()
    if policy and (how := demo_policy.missing()):
        print(f"The robot's policy is left out because its simulator is not installed; type: {how}")
    elif policy:
        with console.status("PushT: loading the policy ...") as status:
            acted = demo_policy.play(device, shown(status.update, console))
        print_table(demo_policy.table(acted))
        print(demo_policy.explain())
        demo_policy.picture(acted, out / "policy.png")
        files.append(out / "policy.png")
        numbers["policy"] = demo_policy.numbers(acted)
    results, wide = list[Result](), None
    for case in cases:
        result = play(case, samples, console)
        files += picture(result, out)
        if not results and isinstance(case, ModelCase):
            path, wide = animation(case, result, out)  # one, of the longest chain
            files.append(path)
        results.append(result)
    print_table(table(results))
    print(explain(results, device))
    print(*planned(wide), sep="\n")
    numbers["runs"] = [account(r) for r in results]
    write_json(out / "demo.json", numbers)
    print("Look at:", *files, out / "demo.json", sep="\n  ")
    print(NEXT.format(program=program()))
    return 0 if all(m.solution is None or m.solution.converged for r in results for m in r.parallel) else 1


def program() -> str:
    """What to type for this program: its name, or, where the shell does not find that, its path."""
    name, beside = "paradigms", Path(sys.executable).with_name("paradigms")
    return name if shutil.which(name) or not beside.is_file() else os.path.relpath(beside)


def shown(update: Callable[[str], None], console: Console) -> Callable[[str], None]:
    """Live where there is a terminal; nothing else says every step."""
    return update if console.is_terminal else lambda text: None


def play(case: Case, samples: int, console: Console) -> Result:
    """Every sample of a case alone, after one of seed 0 by each sampler that is not counted."""
    console.print(
        f"{case.title}: {samples} sample{'s' * (samples > 1)}, each in parallel, then step by step ...", highlight=False
    )
    bar = progress_bar(case.rows, console)
    with console.status(f"{case.title}: warming up step by step ..."):
        case.stepped(0)
    first, result = case.parallel(0, bar).seconds, Result(case, 0.0, [], [], [], [])
    for seed in range(1, samples + 1):
        result.parallel.append(made := case.parallel(seed, bar))
        with console.status(f"{case.title}: step by step, sample {seed} of {samples} ..."):
            result.sequential.append(case.stepped(seed))
            result.rounds.append(case.stepped(seed, made.rounds))
            if made.evaluations < case.rows:
                result.evaluations.append(case.stepped(seed, made.evaluations))
    whole = result.evaluations if len(result.evaluations) == samples else []
    return Result(case, first, result.parallel, result.sequential, result.rounds, whole)


def picture(result: Result, out: Path) -> list[Path]:
    """The comparison of a result, and its trace where there is one."""
    from ..viz import pictures
    from ..viz.palette import difference, pixels

    case, a, b = result.case, stacked(result.parallel), stacked(result.sequential)
    rounds = round(fmean(m.rounds for m in result.parallel))
    rows = [
        (f"step by step\n{case.rows} rounds", pixels(b)),
        (f"in parallel\n{rounds} rounds", pixels(a)),
        (f"difference\ntimes {TIMES}", difference(a, b, TIMES)),
        (f"few steps\n{rounds} rounds", pixels(stacked(result.rounds))),
    ]
    if result.evaluations:
        rows.append(("few steps,\nequal\nevaluations", pixels(stacked(result.evaluations))))
    title = f"{case.title}: {result.speedup:.1f} times as fast here"
    pictures.write_grid(out / f"{case.name}.png", title, rows)
    files = [out / f"{case.name}.png"]
    if (solution := result.parallel[-1].solution) is not None:
        files.append(out / f"{case.name}_trace.png")
        one = f"{case.title}: sample {len(result.parallel)}, {solution.rounds:,} rounds"
        pictures.write_trace(files[-1], one, solution, case.rows)
    return files


def stacked(made: Sequence[Made]) -> torch.Tensor:
    """Pictures (n, C, H, W)."""
    return torch.cat([m.x for m in made])


def animation(case: ModelCase, result: Result, out: Path) -> tuple[Path, Solution]:
    """The last sample's rounds beside as many steps, run once more with a wide window to be drawn."""
    from ..viz.gif import write_gif
    from .model_job import prepare_job

    moments: list[Moment] = []
    job = prepare_job(replace(case.asked, seed=len(result.parallel), window="wide"))
    solution = job.sample(lambda frames: record_moments(frames, moments))
    path = out / f"{case.name}.gif"
    write_gif(path, tell_story(job, solution, moments))
    return path, solution
