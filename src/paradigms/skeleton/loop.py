"""The rounds of skeleton sampling: a generator of frames, as `frames` of `window/loop.py` is of windows.

    while a sample is not done
        n, b    the nodes to evaluate, of all samples                         choose.py
        x       their states: the chain on the surrogate                      surrogate.py
        D       the model, ONE batch
        learn   the Jacobian by band, eps, A; e at the nodes                  jacobian.py
        judge   the chain on the new surrogate; the parts of the error        error.py
        split   new nodes; or all rows, where that is foretold                nodes.py, handover.py

Samples that are done leave the batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..execution.memory import raise_mmap_threshold
from ..stopping.final_error import FinalError
from ..window.chain import Chain
from ..window.controller import FixedWindow
from .frame import NodeRound
from .method import Skeleton
from .samples import ActiveSamples, lost_samples, rows_to_evaluate


def node_rounds(chain: Chain, method: Skeleton, stop: FinalError, window: int) -> Iterator[NodeRound]:
    """The rounds until every sample is done or given up, or as many as the limit allows."""
    raise_mmap_threshold()
    run, evaluate, N = ActiveSamples(chain, method, stop, window), chain.evaluate, len(chain.system)
    B, given_up = len(run.who), 0
    assert isinstance(chain.controller, FixedWindow)
    begin, estimate = torch.zeros(B, dtype=torch.long), torch.full((B,), torch.inf, dtype=torch.float64)
    ends = run.x
    for round in range(1, chain.limit + 1):
        n, b = rows_to_evaluate(run)
        x = run.states(n, b)
        here = run.coordinates.inverse(x, run.like)
        D = evaluate.ask(here, n.to(here.device), run.who[b].to(here.device))
        run.rounding = evaluate.rounding
        run.learn(n, b, x, run.coordinates.forward(D))
        found = run.judge()
        assert run.judged is not None
        parts, end = run.judged.parts, run.judged.way.end
        done, who = run.grow(round), run.who
        over = ~done & ((round >= method.cap(N, window, run.tolerance)) | lost_samples(run, round))
        if bool(over.any()):
            given_up += int(over.sum())
            chain.controller.why = f"{given_up} of {B} samples needed more than {round} rounds with Skeleton()"
        left = ~(done | over)
        stride = torch.zeros(B, dtype=torch.long).index_put_((who,), torch.where(left, 0, N))
        estimate = estimate.index_copy(0, who, torch.where(over, torch.inf, parts.estimate))
        ends = ends.index_copy(0, who.to(ends.device), end)
        told = estimate.to(ends.device), evaluate.evaluations
        frame = NodeRound(round, window, begin, stride, who, found, parts, ends, run.like, evaluate, *told)
        chain.evaluate.clock.pause()
        yield frame
        chain.evaluate.clock.resume()
        begin = begin + stride
        if not bool(left.any()):
            return
        if not bool(left.all()):
            run.part(left.nonzero()[:, 0])
