"""sbi's own networks, trained by its own trainer on its field's tasks, sampled by sbi and by us from the same noise.

error = largest |ours - sbi's| / width of the prior;   CPU seconds of one thread, medians;   C2ST: 0.5 is "the same"

Simulators: two moons (Greenberg et al. 2019), SLCP (Papamakarios et al. 2019), written from their papers.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import spread, table

STEPS, SIMULATIONS, EPOCHS = 500, 2000, 60
QUIET = {"show_progress_bars": False}


def two_moons(theta: Tensor) -> Tensor:
    """x (n, 2) of parameters (n, 2) in [-1, 1]."""
    a, r = (torch.rand(len(theta)) - 0.5) * math.pi, 0.1 + 0.01 * torch.randn(len(theta))
    crescent = torch.stack([r * a.cos() + 0.25, r * a.sin()], 1)
    return crescent + torch.stack([-theta.sum(1).abs(), theta[:, 1] - theta[:, 0]], 1) / 2**0.5


def slcp(theta: Tensor) -> Tensor:
    """x (n, 8), four draws of a Gaussian in the plane, of parameters (n, 5) in [-3, 3]."""
    s, r = theta[:, 2:4].square(), torch.tanh(theta[:, 4])
    z = torch.randn(len(theta), 4, 2)
    first = s[:, None, 0] * z[..., 0]
    second = s[:, None, 1] * (r[:, None] * z[..., 0] + (1 - r.square())[:, None].sqrt() * z[..., 1])
    return (theta[:, None, :2] + torch.stack([first, second], 2)).flatten(1)


TASKS: dict[str, tuple[Callable[[Tensor], Tensor], int, float]] = {
    "two moons": (two_moons, 2, 1.0), "SLCP": (slcp, 5, 3.0),
}  # fmt: skip
KINDS = ("vp", "ve", "flow")


def posterior(task: str, kind: str) -> tuple[Any, Tensor]:
    """A posterior by sbi's own trainer, and an observation that nothing was trained on."""
    from sbi.inference import FMPE, NPSE
    from sbi.utils import BoxUniform

    simulate, d, half = TASKS[task]
    torch.manual_seed(0)
    prior = BoxUniform(-half * torch.ones(d), half * torch.ones(d))
    inference = FMPE(prior, **QUIET) if kind == "flow" else NPSE(prior, sde_type=kind, **QUIET)
    theta = prior.sample((SIMULATIONS,))
    inference.append_simulations(theta, simulate(theta))
    estimator = inference.train(max_num_epochs=EPOCHS, show_train_summary=False)
    observed = simulate(prior.sample((1,)) * 0.5)
    return inference.build_posterior(estimator, sample_with="sde"), observed


def timed(sample: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """A sample, and its seconds of CPU time, for others use this machine too."""
    began = time.process_time()
    return sample(), time.process_time() - began


def compare(theirs: Any, ours: Any, x: Tensor, n: int, repeats: int) -> dict[str, Any]:
    """Both on the same seeds, in turn."""
    half = float(theirs.prior.base_dist.high.max()) if hasattr(theirs.prior, "base_dist") else 1.0
    own, fast, errors, rounds, asked = list[float](), list[float](), list[float](), list[int](), list[float]()
    for seed in range(repeats + 1):
        torch.manual_seed(seed)
        wanted, slow = timed(lambda: theirs.sample((n,), x=x, steps=STEPS, **QUIET))
        torch.manual_seed(seed)
        found, quick = timed(lambda: ours.sample((n,), x=x, steps=STEPS, **QUIET))
        if seed:  # the first warms both up
            own, fast = [*own, slow], [*fast, quick]
            errors.append(float((found - wanted).abs().max()) / (2 * half))
            rounds.append(sum(each.rounds for each in ours.solutions))
            asked.append(sum(each.evaluations for each in ours.solutions) / (STEPS - 1) / n)
    faster = [a / b for a, b in zip(own, fast, strict=True)]
    return {"sbi": own, "ours": fast, "faster": faster, "error": max(errors), "rounds": median(rounds),
            "evaluations": median(asked)}  # fmt: skip


def main(quick: bool, _: float = 0) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Sections of the report, and its data."""
    from sbi.utils.metrics import c2st

    from paradigms.integrations.sbi import parallel

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    repeats, cells, closeness, frontier = (2 if quick else 5), [], [], []
    for task in TASKS:
        for kind in KINDS[:1] if quick else KINDS:
            theirs, x = posterior(task, kind)
            for n in (1, 10, 100):
                found = compare(theirs, parallel(theirs), x, n, repeats if n == 1 else 2)
                cells.append({"task": task, "network": kind, "samples": n, **found})
            sets = []
            for seed, made in ((1, theirs), (2, theirs), (1, parallel(theirs))):
                torch.manual_seed(seed)
                sets.append(made.sample((200 if quick else 500,), x=x, steps=STEPS, **QUIET))
            same, ours = float(c2st(sets[0], sets[1])), float(c2st(sets[2], sets[1]))
            closeness.append({"task": task, "network": kind, "sbi, another seed": same, "ours": ours})
            if task == "two moons":
                for window, tolerance in ((499, 0.001), (499, 0.003), (499, 0.01), (499, 0.03), (128, 0.003)):
                    found = compare(theirs, parallel(theirs, window=window, tolerance=tolerance), x, 1, 2 * repeats)
                    frontier.append({"network": kind, "window": window, "tolerance": tolerance, **found})
    main_table = table(
        ["task", "network", "samples", "sbi, s", "ours, s", "times as fast", "rounds", "evaluations a step", "error"],
        [[c["task"], c["network"], c["samples"], spread(c["sbi"]), spread(c["ours"]), spread(c["faster"]), c["rounds"],
          c["evaluations"], c["error"]] for c in cells],
    )  # fmt: skip
    close = table(["task", "network", "sbi against sbi", "ours against sbi"], [list(c.values()) for c in closeness])
    best = table(
        ["network", "window", "tolerance", "times as fast", "rounds", "error"],
        [[f["network"], f["window"], f["tolerance"], spread(f["faster"]), f["rounds"], f["error"]] for f in frontier],
    )
    text = (
        f"sbi's default networks by its own trainer ({SIMULATIONS} simulations, {EPOCHS} epochs at most), {STEPS} "
        "steps, one CPU thread, seconds of CPU time, median (range) of both in turn on the same seeds. The error is "
        "the largest over all samples, relative to the prior's width.\n\n"
    )
    return [
        ("Posteriors of sbi", text + main_table),
        ("C2ST", "Of two sets of samples of one observation; 0.5 is equal.\n\n" + close),
        ("Two moons, one sample: window and tolerance", best),
    ], [*cells, *closeness, *frontier]
