"""The picture of docs/skeleton.md: which rows of a chain a round evaluates, and what is interpolated between nodes.

python -m benchmarks.plots.skeleton docs/skeleton.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from paradigms.skeleton import Skeleton
from paradigms.skeleton.frame import NodeRound
from paradigms.solve import iterate

from ..core.problems import problem

STEPS, WINDOW, TOLERANCE, SEED = 200, 16, 0.01, 0
PLACE = 1  # the coordinate that is drawn: a coarse one


def main(path: Path) -> None:
    """Draws one sample of mixture-1024 by 200 steps of DDIM."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    p = problem("mixture-1024")
    system, asked = p.system("DDIM-200", STEPS), list[list[int]]()
    row = {float(t): n for n, t in enumerate(system.t)}

    def model(x: Tensor, t: Tensor) -> Tensor:
        asked.append([row[float(v)] for v in t])
        said: Tensor = p.model(x, t)
        return said

    x = system.noise((1, *p.shape), torch.Generator().manual_seed(SEED))
    rounds, before = list[list[int]](), 0
    for last in iterate(model, system, x, Skeleton(), window=WINDOW, tolerance=TOLERANCE):
        assert isinstance(last, NodeRound)
        # Checks of the model call it, too: the round is the batch of as many different rows as were counted.
        rounds.append(next(rows for rows in asked if len(set(rows)) == len(rows) == last.evaluations - before))
        before = last.evaluations
        asked.clear()
    assert isinstance(last, NodeRound)
    figure, (top, middle, below) = pyplot.subplots(3, 1, figsize=(8, 7.5), sharex=True, layout="constrained")
    for round, rows in enumerate(rounds, 1):
        top.plot(rows, [round] * len(rows), "o", ms=3.5, color="#1f5fa8")
    top.invert_yaxis()
    top.set(ylabel="round", title=f"{STEPS} steps in {len(rounds)} rounds: each of the {before} dots is an evaluation")
    D, e, at_nodes, said = curves(last, p.model)
    nodes = last.surrogate.known.rows[:, 0]
    middle.plot(D, color="#777777")
    middle.set(ylabel="the model's answer D")
    below.plot(e, color="#777777")
    below.plot(said, "--", color="#c0392b")
    below.plot(nodes, at_nodes, "o", ms=3.5, color="#1f5fa8")
    below.set(xlabel="step", ylabel="what J does not explain, e")
    below.annotate("dots: the nodes, the only steps evaluated", (0.25, 0.24), xycoords="axes fraction", color="#1f5fa8")
    below.annotate("dashed: interpolated between them", (0.25, 0.14), xycoords="axes fraction", color="#c0392b")
    below.annotate("grey, below it: evaluated at every step, to compare", (0.25, 0.04), xycoords="axes fraction")
    for axes in (top, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def curves(last: NodeRound, model: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of one coordinate along the chain: D of every row, e of every row, e at the nodes, and e as interpolated."""
    S, x = last.surrogate, last.x
    N, evaluate = len(x) - 1, last.evaluate
    n = torch.arange(N)
    s, at = S.coordinates, last.coordinates[:-1, 0]
    place = int(s.back[PLACE])
    D = s.forward(evaluate(x[:-1, 0], n, torch.zeros_like(n)))  # (N, d)
    e, said = (s.plus(v, -S.J[:, 0], at) for v in (D, s.forward(last.D[:, 0])))
    return D[:, place], e[:, place], S.E[0, S.layout.slots[0], place], said[:, place]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
