"""sbi's own networks, trained by its own trainer on its field's tasks, sampled by sbi and by us from the same noise.

error = largest |ours - sbi's| / width of the prior;   CPU seconds of one thread, medians;   C2ST: 0.5 is "the same"
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import spread, table

from .cells import Cell, Cells
from .simulators import TASKS
from .timing import both

STEPS, SIMULATIONS, EPOCHS = 500, 4000, 100
KINDS = ("vp", "ve", "flow")
NETWORKS = tuple(f"{task}-{kind}" for task in TASKS for kind in KINDS)
QUIET = {"show_progress_bars": False}
COUNTS = (1, 10, 100)
CLOSENESS = 64  # the window of the samples that C2ST is of
FRONTIER = ((499, 0.003), (499, 0.01), (499, 0.02), (192, 0.003), (192, 0.01), (128, 0.003))
LIBRARIES = ("sbi",)


def train(name: str, minutes: float, quick: bool) -> tuple[Any, Tensor]:
    """A posterior by sbi's own trainer, and an observation that nothing was trained on; minutes: sbi counts epochs."""
    from sbi.inference import FMPE, NPSE
    from sbi.utils import BoxUniform

    warnings.simplefilter("ignore")
    task, kind = name.rsplit("-", 1)
    simulate, d, half = TASKS[task]
    torch.manual_seed(0)
    prior = BoxUniform(-half * torch.ones(d), half * torch.ones(d))
    inference = FMPE(prior, **QUIET) if kind == "flow" else NPSE(prior, sde_type=kind, **QUIET)
    theta = prior.sample((SIMULATIONS // 10 if quick else SIMULATIONS,))
    inference.append_simulations(theta, simulate(theta))
    estimator = inference.train(max_num_epochs=2 if quick else EPOCHS, show_train_summary=False)
    return inference.build_posterior(estimator, sample_with="sde"), simulate(prior.sample((1,)) * 0.5)


def compare(network: tuple[Any, Tensor], half: float, n: int, repeats: int, **how: Any) -> Cell:
    """n samples by both."""
    from paradigms.integrations.sbi import parallel

    theirs, x = network
    ours = parallel(theirs, **how)
    return both(
        lambda: theirs.sample((n,), x=x, steps=STEPS, **QUIET), lambda: ours.sample((n,), x=x, steps=STEPS, **QUIET),
        lambda: ours.solutions, lambda a, b: float((a - b).abs().max()) / (2 * half), repeats,
    )  # fmt: skip


def closeness(network: tuple[Any, Tensor], n: int) -> Cell:
    """C2ST of sbi's samples, and of ours in windows, to another set of sbi's; "auto" may step, which says nothing."""
    from sbi.utils.metrics import c2st

    from paradigms.integrations.sbi import parallel

    theirs, x = network
    sets = []
    for seed, made in ((1, theirs), (2, theirs), (1, parallel(theirs, window=CLOSENESS))):
        torch.manual_seed(seed)
        sets.append(made.sample((n,), x=x, steps=STEPS, **QUIET))
    return {"own": float(c2st(sets[0], sets[1])), "ours": float(c2st(sets[2], sets[1]))}


def measure(cells: Cells, load: Callable[[str], Any], quick: bool) -> None:
    """All cells that are missing: one sample first, for that is what is asked most."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = NETWORKS[:1] if quick else NETWORKS
    repeats = 1 if quick else 5

    def time_of(name: str, n: int, repeats: int, **how: Any) -> Cell:
        return compare(load(name), TASKS[name.rsplit("-", 1)[0]][2], n, repeats, **how)

    def c2st_of(name: str, n: int) -> Cell:
        return closeness(load(name), n)

    for n in COUNTS:
        for name in names:
            facts = {"kind": "time", **parts_of(name), "samples": n}
            cells(f"{name}/{n}", facts, partial(time_of, name, n, repeats if n < 100 else min(repeats, 2)))
    for name in names:
        facts = {"kind": "c2st", **parts_of(name)}
        cells(f"{name}/c2st", facts, partial(c2st_of, name, 50 if quick else 500))
    for name in names[: len(KINDS)]:
        for window, tolerance in FRONTIER[:1] if quick else FRONTIER:
            how = {"window": window, "tolerance": tolerance}
            facts = {"kind": "frontier", **parts_of(name), **how}
            cells(f"{name}/{window}/{tolerance}", facts, partial(time_of, name, 1, 2 * repeats, **how))


def parts_of(name: str) -> dict[str, str]:
    """The task and the kind of a network."""
    return dict(zip(("task", "network"), name.rsplit("-", 1), strict=True))


def sections(cells: Cells) -> list[tuple[str, str]]:
    """The page's."""
    main = table(
        ["task", "network", "samples", "sbi, s", "ours, s", "times as fast", "rounds", "evaluations a step", "error"],
        [[c["task"], c["network"], c["samples"], spread(c["own"]), spread(c["ours"]), spread(c["faster"]), c["rounds"],
          c["evaluations"], c["error"]] for c in cells.of("time")],
    )  # fmt: skip
    close = table(
        ["task", "network", "sbi against sbi", "ours against sbi"],
        [[c["task"], c["network"], c["own"], c["ours"]] for c in cells.of("c2st")],
    )
    best = table(
        ["network", "window", "tolerance", "times as fast", "rounds", "error"],
        [[c["network"], c["window"], c["tolerance"], spread(c["faster"]), c["rounds"], c["error"]]
         for c in cells.of("frontier")],
    )  # fmt: skip
    text = (
        f"sbi's default networks by its own trainer ({SIMULATIONS:,} simulations, {EPOCHS} epochs at most), {STEPS} "
        "steps, one CPU thread, seconds of CPU time, median (range) of both in turn on the same seeds. The error is "
        "the largest over all samples, relative to the prior's width. What is typed: `parallel(posterior).sample(...)`."
        "\n\n"
    )
    return [
        ("Posteriors of sbi", text + main),
        ("C2ST", "Two sets of 500 samples of one observation, ours in windows of 64 steps; 0.5 is equal.\n\n" + close),
        ("Two moons, one sample: window and tolerance", best),
    ]
