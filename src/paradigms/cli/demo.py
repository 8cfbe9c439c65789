"""`paradigms demo`: what is gained here, and what the same rounds or evaluations could buy otherwise.

speedup     seconds of all steps one by one / seconds in parallel, one sample at a time, the window picks itself
few steps   the plain sampler in as many steps as the parallel one took rounds: as fast where rows are free, and another
            picture; and in as many as it evaluated rows, where those are fewer than the chain has
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from ..distributed.plan import LINKS, Trace, predict
from ..files import write_json
from ..solution import Solution, relative_error
from ..viz.progress import progress
from ..viz.record import Moment, record
from . import demo_policy
from .demo_cases import Case, Made, ModelCase
from .plan import read_curve
from .story import tell
from .tables import printed

LITTLE = 1.1  # a speedup that needs a word
WIDTH = 96  # characters of a line
TIMES = 10  # the difference is shown so much brighter
NEXT = """Then type: paradigms race
  a page of this machine, both samplers side by side (pip install 'paradigms-sampling[web]')"""


@dataclass(frozen=True)
class Result:
    """A case's samples: in parallel, step by step, in as many steps as rounds, in as many as evaluations or none."""

    case: Case
    first: float
    parallel: list[Made]
    sequential: list[Made]
    rounds: list[Made]
    evaluations: list[Made]

    @property
    def speedup(self) -> float:
        """Seconds of stepping over those in parallel."""
        return seconds(self.sequential) / seconds(self.parallel)

    def error(self, made: Sequence[Made]) -> float:
        """The largest relative error against the sequential samples."""
        return max(float(relative_error(a.x, b.x).max()) for a, b in zip(made, self.sequential, strict=True))


def seconds(made: Sequence[Made]) -> float:
    """Of a sample, in the mean."""
    return fmean(m.seconds for m in made)


def demo(cases: Sequence[Case], samples: int, policy: bool, device: torch.device, out: Path) -> int:
    """Runs the policy, where asked for, and the cases; writes their pictures to `out` and prints the tables."""
    console, files, numbers = Console(stderr=True), list[Path](), dict[str, Any]()
    if policy and (how := demo_policy.missing()):
        print(f"The robot's policy is left out, its simulator is not installed; type: {how}")
    elif policy:
        with console.status("PushT: loading the policy ...") as status:
            acted = demo_policy.play(device, shown(status.update, console))
        printed(demo_policy.table(acted))
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
    printed(table(results))
    print(explain(results, device))
    print(*planned(wide), sep="\n")
    numbers["runs"] = [account(r) for r in results]
    write_json(out / "demo.json", numbers)
    print("Look at:", *files, out / "demo.json", sep="\n  ")
    print(NEXT)
    return 0 if all(m.solution is None or m.solution.converged for r in results for m in r.parallel) else 1


def shown(update: Callable[[str], None], console: Console) -> Callable[[str], None]:
    """Live where there is a terminal; nothing else says every step."""
    return update if console.is_terminal else lambda text: None


def play(case: Case, samples: int, console: Console) -> Result:
    """Every sample of a case alone, after one of seed 0 that is not counted."""
    console.print(
        f"{case.title}: {samples} sample{'s' * (samples > 1)}, each in parallel, then step by step ...", highlight=False
    )
    bar = progress(case.rows, console)
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
    pictures.grid(out / f"{case.name}.png", title, rows)
    files = [out / f"{case.name}.png"]
    if (solution := result.parallel[-1].solution) is not None:
        files.append(out / f"{case.name}_trace.png")
        pictures.trace(files[-1], title, solution, case.rows)
    return files


def stacked(made: Sequence[Made]) -> torch.Tensor:
    """Pictures (n, C, H, W)."""
    return torch.cat([m.x for m in made])


def animation(case: ModelCase, result: Result, out: Path) -> tuple[Path, Solution]:
    """The last sample's rounds beside as many steps, run once more with a wide window to be drawn."""
    from ..viz.gif import write_gif
    from .model_job import prepare

    moments: list[Moment] = []
    job = prepare(replace(case.asked, seed=len(result.parallel), window="wide"))
    solution = job.sample(lambda frames: record(frames, moments))
    path = out / f"{case.name}.gif"
    write_gif(path, tell(job, solution, moments))
    return path, solution


def table(results: Sequence[Result]) -> Table:
    """The results as a table, one line a sampler, a sample in the mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("sampler, one sample at a time")
    for name in ("rounds", "evals", "seconds", "speedup", "error"):
        table.add_column(name, justify="right")
    for r in results:
        lines = [(r.case.title, r.sequential, "", ""), ("  in parallel, window auto", r.parallel, "bold", "")]
        lines.append(("  few steps, equal rounds", r.rounds, "", "other"))
        if r.evaluations:
            lines.append(("  few steps, equal evaluations", r.evaluations, "", "other"))
        for name, made, style, _ in lines:
            rounds, evals = (round(fmean(v)) for v in ([m.rounds for m in made], [m.evaluations for m in made]))
            ratio = f"{seconds(r.sequential) / seconds(made):.2f}"
            error = "0" if made is r.sequential else f"{r.error(made):.2g}"
            last = made is lines[-1][1]
            table.add_row(
                name, f"{rounds:,}", f"{evals:,}", f"{seconds(made):.2f}", ratio, error, style=style, end_section=last
            )
    return table


def explain(results: Sequence[Result], device: torch.device) -> str:
    """What the table says, in plain sentences."""
    count = torch.get_num_threads()
    where = f"{count} CPU thread{'s' * (count != 1)}" if device.type == "cpu" else str(device)
    lines = [
        f"Measured here ({where}). Error: the largest relative error to all steps one by one, on the same noise.",
        "Few steps are another chain: sooner, and another picture. Whether it is as good, only you can say.",
    ]
    if dear := [r.case.title for r in results if not r.evaluations]:
        lines.append(f"Equal evaluations would be more than all the steps of {'; '.join(dear)}.")
    first = ", ".join(f"{r.first:.1f} s" for r in results)
    lines.append(f"A first call in parallel (seed 0, not in the table) looks for a window, and took {first}.")
    lines += [
        f"{again} of {len(r.parallel)} samples of {r.case.title} were made again, as their error might have been too "
        "large; the seconds count both."
        for r in results
        if (again := sum(m.again for m in r.parallel))
    ]
    for r in results:
        if r.speedup < LITTLE:
            rows = fmean(m.evaluations for m in r.parallel) / r.case.rows
            lines.append(
                f"{r.case.title} gains little here: {rows:.1f} times the rows of the chain were evaluated, and on this "
                "device rows cost nearly as much together as alone."
            )
    return "\n".join(wrapped(line) for line in lines)


def wrapped(text: str) -> str:
    """A sentence, no wider than a page."""
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False)


def planned(solution: Solution | None) -> list[str]:
    """The line of what is planned, and was not measured: these rounds with a large model on A100s."""
    if solution is None:
        return []
    evals, window = [0, *(e for _, _, e in solution.trace)], max(solution.windows)
    curve, rows = read_curve("sd2-a100"), tuple(b - a for a, b in pairwise(evals))
    trace = Trace(solution.rows, window, 1, (rows,), curve.size or 0.0)
    gains = [f"{predict(curve.latency, trace, P, LINKS['NVLink']).speedup:.1f} on {P}" for P in (1, 8)]
    rounds = f"{solution.rounds} rounds of up to {window} rows"
    return [
        wrapped(
            f"Planned, not measured: speedup of such {rounds} with Stable Diffusion 2 on A100s: {', '.join(gains)}."
        )
    ]


def account(r: Result) -> dict[str, Any]:
    """The numbers of a case by name, as JSON takes them."""
    ways = {
        "sequential": r.sequential,
        "parallel": r.parallel,
        "equal_rounds": r.rounds,
        "equal_evaluations": r.evaluations,
    }
    found: dict[str, Any] = {"case": r.case.title, "rows": r.case.rows, "first_seconds": r.first, "speedup": r.speedup}
    for name, made in ways.items():
        numbers = [{"rounds": m.rounds, "evals": m.evaluations, "seconds": m.seconds} for m in made]
        found[name] = {"samples": numbers, "max_error": r.error(made) if made else None}
    return found
