"""e. What the planner of `paradigms plan` predicts, against runs of other seeds.

    predicted = sum over rounds [ T(m) + outside ],    sequential = N (T(1) + step)

T is measured alone, with a wait after each call; m, outside and step are of one run of a seed that is not compared.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor

from paradigms.distributed.plan import Trace, call_seconds, sequential_seconds
from paradigms.execution.latency import measure_latency
from paradigms.solution import Solution
from paradigms.solve import sample, sequential

from .device import summary
from .estimate import OUTSIDE, Calls, total
from .networks import Network, load
from .settings import Bench, Settings
from .ways import SHARE_OF_ROUNDS, Chain

SOME = 16  # steps of which the mean is what a step takes outside the network


def measure(bench: Bench, chain: Chain) -> dict[str, Any]:
    """Predictions and measurements of the chain's windows."""
    net = load(chain.network, bench.device.where, chain.dtype, bench.settings.small)
    steps = bench.settings.steps(chain.steps)
    system, where = net.chain(chain.rule, steps), bench.device.where
    windows = bench.settings.windows(chain.windows, chain.steps)
    most = min(max(windows), steps)
    sizes = sorted({1, *(s for s in bench.settings.sizes if s < most), *(min(w, steps) for w in windows)})
    latency = measure_latency(caller(net, most, where, bench), sizes, bench.settings.repeats)

    def run(seed: int, window: int, limit: int | None = None) -> Solution:
        x = system.noise((1, *net.shape), torch.Generator().manual_seed(seed)).to(where)
        how: dict[str, Any] = {"window": window, "max_rounds": limit, "condition": net.condition}
        return sample(net.answers, system, x, generator=torch.Generator().manual_seed(seed), **how)

    def stepped(seed: int) -> Tensor:
        x = system.noise((1, *net.shape), torch.Generator().manual_seed(seed)).to(where)
        return sequential(
            net.answers, system, x, generator=torch.Generator().manual_seed(seed), condition=net.condition
        )

    seeds = range(1, 1 + bench.settings.seeds)
    step = outside_of(run(0, 1, SOME))
    plain = summary([bench.device.seconds(lambda s=s: stepped(s))[0] for s in seeds])  # type: ignore[misc]
    found = []
    for window in windows:
        run(7, window)
        told = run(0, window)
        trace = Trace(steps, window, 1, (rows_of(told),), 4.0 * prod(net.shape), outside_of(told), chain.name, step)
        taken = summary([bench.device.seconds(lambda s=s, w=window: run(s, w))[0] for s in seeds])  # type: ignore[misc]
        predicted, alone = call_seconds(latency, trace), sequential_seconds(latency, trace)
        found.append(
            {"window": window, "predicted": predicted, "measured": taken, "off": predicted / taken["median"] - 1,
             "sequential predicted": alone, "sequential measured": plain, "sequential off": alone / plain["median"] - 1,
             "speedup predicted": alone / predicted, "speedup measured": plain["median"] / taken["median"]}
        )  # fmt: skip
    points = dict(zip(latency.rows, latency.seconds, strict=True))
    return {"network": chain.network, "rule": chain.rule, "steps": steps, "dtype": chain.dtype, "latency": points,
            "windows": found}  # fmt: skip


def caller(net: Network, most: int, where: torch.device, bench: Bench) -> Callable[[int], object]:
    """A call of M rows, done when it returns."""
    given = net.batch(most, where)

    def call(M: int) -> None:
        with torch.no_grad():
            net.answers(**{k: v[:M] for k, v in given.items()})
        bench.device.wait()

    return call


def rows_of(run: Solution) -> tuple[int, ...]:
    """The rows of each round."""
    return tuple(b - a for a, b in pairwise((0, *(e for _, _, e in run.trace))))


def outside_of(run: Solution) -> float:
    """Seconds of a round outside the network, in the mean."""
    return max(run.seconds - run.model_seconds, 0.0) / run.rounds


def assumed(settings: Settings, chain: Chain) -> float:
    """Seconds of the row."""
    N, windows = settings.steps(chain.steps), settings.windows(chain.windows, chain.steps)
    rounds = SHARE_OF_ROUNDS * N * (2 + settings.seeds)
    calls = [Calls(chain.network, 1, N * settings.seeds, chain.dtype)]
    calls += [Calls(chain.network, w, rounds, chain.dtype) for w in windows]
    return total(calls, 2.0 + OUTSIDE * (len(windows) * rounds + N * settings.seeds / 10))
