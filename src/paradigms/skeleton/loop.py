"""The rounds of skeleton sampling: a generator of frames, as `frames` of `window/loop.py` is of windows.

    while a sample is not done
        n, b    the nodes to evaluate, of all samples                         nodes.py
        x       their states: the chain on the surrogate                      surrogate.py
        D       the model, ONE batch
        learn   the Jacobian by band, eps, A; e at the nodes                  jacobian.py
        judge   the chain on the new surrogate; the parts of the error        error.py
        split   new nodes; or all rows, where that is foretold                nodes.py, handover.py

Samples that are done leave the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ..execution.memory import raise_mmap_threshold
from ..stopping.final_error import FinalError
from ..window.chain import Chain
from ..window.controller import FixedWindow
from .frame import NodeRound
from .method import Skeleton
from .samples import ActiveSamples, is_lost_now, rows_to_evaluate


def node_rounds(chain: Chain, method: Skeleton, stop: FinalError, window: int) -> Iterator[NodeRound]:
    """The rounds until every sample is done or given up, or as many as the limit allows."""
    raise_mmap_threshold()
    run, evaluate, N = ActiveSamples(chain, method, stop, window), chain.evaluate, len(chain.system)
    B, given_up = len(run.who), 0
    assert isinstance(chain.controller, FixedWindow)
    starts, errors, ends = [0] * B, [math.inf] * B, run.x
    for round in range(1, chain.limit + 1):
        n, b = rows_to_evaluate(run)
        x = run.states(n, b)
        here = run.coordinates.inverse(x, run.like)
        rows, samples = torch.tensor([n, [run.who[j] for j in b]]).to(here.device)
        D = evaluate.ask(here, rows, samples)
        run.rounding = evaluate.rounding
        run.learn(n, b, x, run.coordinates.forward(D))
        found = run.judge()
        assert run.judged is not None
        parts, who, end = list(run.judged.parts), run.who, run.judged.way.end
        done, late = run.grow(round), round >= method.cap(N, window, run.tolerance)
        over = [not done[j] and (late or is_lost_now(run, j, round)) for j in range(len(who))]
        if any(over):
            given_up += sum(over)
            chain.controller.why = f"{given_up} of {B} samples needed more than {round} rounds with Skeleton()"
        strides, errors = [0] * B, list(errors)
        for j, b_ in enumerate(who):
            strides[b_] = N if done[j] or over[j] else 0
            errors[b_] = math.inf if over[j] else parts[j].estimate
        ends = end if len(who) == B else ends.index_copy(0, torch.tensor(who, device=ends.device), end)
        frame = NodeRound(
            round, window, starts, strides, who, found, parts, ends, run.like, evaluate, errors, evaluate.evaluations
        )
        chain.evaluate.clock.pause()
        yield frame
        chain.evaluate.clock.resume()
        starts = [n + k for n, k in zip(starts, strides, strict=True)]
        left = [j for j, b_ in enumerate(who) if not strides[b_]]
        if not left:
            return
        if len(left) < len(who):
            run.part(left)
