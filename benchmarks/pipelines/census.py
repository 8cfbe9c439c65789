"""Every tiny pipeline of the zoo, in parallel at tolerance 0, against itself step by step.

| verdict     | what was seen                                                                                   |
| equal       | equal to 1e-5 (relative) with single calls, which is rounding, and to 1e-4 with batches          |
| row by row  | equal bit for bit; its network takes no batches, so rows are called one by one, and the report says so |
| one by one  | equal bit for bit; it fell back to its own loop, and the report says why                        |
| refused     | an error that says why, before any work                                                         |
| WRONG       | anything else                                                                                   |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paradigms.adapters import Run, parallelize
from paradigms.adapters.pipelines.code.rewrite import UnparallelError, rewindable_function
from paradigms.adapters.pipelines.subclass import looping_methods

from ..report import table, write
from ..zoo import ZOO, Specimen, run

CLOSE, ROUNDING = 1e-4, 1e-5
WINDOW = 4


@dataclass(frozen=True)
class Verdict:
    """What became of one specimen; error: relative, with batches; steps, rounds of the batched run."""

    name: str
    family: str
    verdict: str
    error: float
    steps: int
    rounds: int
    why: str = ""

    @property
    def fine(self) -> bool:
        """Whether nothing was silently wrong."""
        return self.verdict != "WRONG"


def examine(specimen: Specimen) -> Verdict:
    """Runs one specimen step by step, in parallel with single calls, and in parallel with batches."""
    expected = run(specimen, specimen.build())
    reports: list[Run] = []
    try:
        found = []
        for batched in (False, True):
            fresh = specimen.build()  # for what a network keeps of its first call must not help
            with parallelize(fresh, tolerance=0, window=WINDOW, batched=batched) as report:
                found.append(run(specimen, fresh))
            reports.append(report)
    except ValueError as refusal:
        return Verdict(specimen.name, specimen.family, "refused", 0.0, 0, 0, str(refusal))
    batch = found[1].shape == expected.shape and torch.equal(found[1], expected)
    single, error = (relative(v, expected) for v in found)
    exact = single <= ROUNDING
    why = next(iter(reports[1].fallbacks), "")
    verdict = "equal" if exact and error <= CLOSE and not why else "WRONG"
    if why and exact and (batch or error <= CLOSE):
        verdict = "row by row" if "row by row" in why else "one by one"
    return Verdict(specimen.name, specimen.family, verdict, error, reports[1].steps, reports[1].rounds, why)


def relative(v: Any, expected: Any) -> float:
    """|v - expected| / |expected|, infinite where the shapes differ."""
    return (
        float((v - expected).norm() / expected.norm().clamp(min=1e-30)) if v.shape == expected.shape else float("inf")
    )


def static() -> tuple[int, int, list[str]]:
    """Of all pipeline classes of the installed diffusers: how many hold a loop, how many of these can be rewound."""
    import diffusers

    kinds = [v for name in dir(diffusers) if isinstance(v := getattr(diffusers, name, None), type)]
    looped = [k for k in kinds if issubclass(k, diffusers.DiffusionPipeline) and looping_methods(k)]
    refused = []
    for kind in looped:
        try:
            for owner, name in looping_methods(kind):
                rewindable_function(getattr(owner, name), print)
        except UnparallelError as error:
            refused.append(f"{kind.__name__}: {error}")
    return len(looped), len(looped) - len(refused), refused


def count(verdicts: Iterable[Verdict]) -> str:
    """The census in one line, by class: a class is as good as its worst case."""
    worst: dict[str, str] = {}
    order = ("equal", "row by row", "one by one", "refused", "WRONG")
    for v in verdicts:
        name = v.name.partition("+")[0]
        worst[name] = max(worst.get(name, "equal"), v.verdict, key=order.index)
    families = {v.family for v in verdicts}
    found = Counter(worst.values())
    parts = ", ".join(f"{found[k]} {k}" for k in order if found[k])
    return (
        f"{len(worst)} classes of {len(families)} families: {parts} ({100 * found['equal'] / len(worst):.1f} % equal)"
    )


def chosen(only: str = "") -> list[Specimen]:
    """The specimens whose name holds `only`; raises ValueError where none does."""
    found = [s for s in ZOO if only in s.name]
    if not found:
        raise ValueError(f"--only is {only!r}, which no specimen's name holds; type a part of one, as 'Flux'")
    return found


def main(out: Path, specimens: list[Specimen]) -> bool:
    """Examines specimens, writes out/census.md and .json; True if none is wrong."""
    import diffusers

    verdicts = []
    for specimen in specimens:
        verdicts.append(examine(specimen))
        v = verdicts[-1]
        print(f"{v.name}: {v.verdict}" + (f" ({v.why})" if v.why else ""), flush=True)
    looped, can, refused = static()
    rows: list[list[Any]] = [[v.name, v.family, v.verdict, v.error, v.steps, v.rounds, v.why] for v in verdicts]
    head = ("specimen", "family", "verdict", "relative error in batches", "steps", "rounds at tolerance 0", "why")
    text = [
        ("The count", f"{count(verdicts)}; diffusers {diffusers.__version__}, window {WINDOW}, tolerance 0."),
        (
            "All classes of the installed diffusers",
            f"{looped} pipeline classes hold a denoising loop of their own; the code of {can} can be rewound. The "
            "others run one by one, which their report says:\n\n" + "\n".join(f"- {line}" for line in refused),
        ),
        ("Every specimen", table(head, rows)),
    ]
    write(
        out,
        "census",
        "The census of pipelines",
        text,
        {"diffusers": diffusers.__version__, "verdicts": [vars(v) for v in verdicts]},
    )
    print(f"{count(verdicts)}\nwritten to {out / 'census.md'}, {out / 'census.json'}")
    return all(v.fine for v in verdicts)
