"""The plan against real runs here, on 1 process and on 2 that share the rows by gloo.

    predicted = sum_r [ T(ceil(m[r] / P)) + G(m[r], P) + outside ]        measured: the median of sharded runs

T is the median latency, until the slowest of the P is done while all are at work, for they share a memory; m[r] and
outside are of a run in which nothing is shared; G is measured, too: rounds shared out of a model that takes no time.
Each number of processes is a torchrun of this module, a thread and a core to a process; passes of T and the runs take
turns, so that a machine's moods meet both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from ..job import Job, Request, prepare
from ..latency import Latency
from ..plan import FREE, Link, Trace, seconds, sequential
from ..planrun import caller, rounds
from ..shard import sharded
from ..solve import sample
from ..solve import sequential as step_by_step
from .report import spread, table

CASES = ("scenes ddpm 1000 16", "scenes ddpm 200 64", "scenes ddim 200 32", "digits ddpm 100 32")
HEAD = ("model", "rule", "window", "processes", "predicted s", "measured s (range)", "off by")
LIMIT, WAIT = 0.15, 280  # seconds until a run is given up


def check(cases: Sequence[str], processes: Sequence[int], repeats: int) -> tuple[str, list[dict[str, Any]]]:
    """A table and its numbers, an entry for each case and number of processes; raises RuntimeError where one fails."""
    found = [entry for P in processes for entry in launch(P, repeats, cases)]
    return table(HEAD, [row(entry) for entry in found]), found


def row(entry: dict[str, Any]) -> list[Any]:
    """One line of the table."""
    facts = [entry[k] for k in ("model", "rule", "window", "processes", "predicted")]
    return [*facts, spread(entry["measured"]), f"{100 * entry['off']:+.1f} %"]


def launch(P: int, repeats: int, cases: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of P processes, from a torchrun of this module."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={P}"]
    command += ["--module", __name__, str(repeats), *cases]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT * len(cases))
    if done.returncode:
        raise RuntimeError(f"{P} processes ended with code {done.returncode}: {done.stderr.strip()[-800:]}")
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


def entries(job: Job, about: str, repeats: int) -> list[dict[str, Any]]:
    """In parallel, and on one process step by step (a window of 1), too; only rank 0's numbers count."""
    P, W, B, N = dist.get_world_size(), int(job.window), job.request.batch, len(job.system)
    most = -(-W * B // P)
    call = caller(job, most)
    points = sorted({B, *(2**k for k in range(12) if B < 2**k < most), most})
    for M in points:
        call(M)  # to warm up
    runs, outside = rounds(job, W)
    passes: list[dict[int, float]] = []
    shared, alone = [], []
    for _ in range(repeats):
        passes.append({M: again(call, M) for M in points})
        shared.append(timed(lambda: parallel(job)))
        alone.append(timed(lambda: single(job)) if P == 1 else 0.0)
        outside = min(outside, rounds(job, W)[1])
    latency = Latency.of({M: median(p[M] for p in passes) for M in points})
    size = 4.0 * torch.Size(job.shape).numel()
    trace = Trace(N, W, B, runs, size, outside)
    facts = {"model": job.request.model, "rule": f"{job.request.rule}-{job.steps}", "processes": P, "about": about}
    link = sharing(job.shape, most) if P > 1 else FREE
    made = {**facts, "window": W, "predicted": seconds(latency, trace, P, link), "measured": shared}
    lone = {**facts, "window": 1, "processes": 1, "predicted": sequential(latency, trace), "measured": alone}
    both: list[dict[str, Any]] = [made, lone] if P == 1 else [made]
    return [{**e, "off": e["predicted"] / median(e["measured"]) - 1} for e in both]


def again(call: Callable[[int], object], M: int) -> float:
    """Seconds of a call until all ranks are done, in the mean over some: a small one between large ones is slower."""
    times = max(32 // M, 1)
    dist.barrier()
    marks = [time.perf_counter()]
    for _ in range(times):
        call(M)
        marks.append(time.perf_counter())
    spent = torch.tensor(marks, dtype=torch.float64).diff()
    dist.all_reduce(spent, dist.ReduceOp.MAX)
    return float(spent.mean())


def timed(work: Callable[[], object]) -> float:
    """Seconds of `work`, which all ranks begin at once."""
    dist.barrier()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def parallel(job: Job) -> None:
    """One sample, its rows shared by all ranks."""
    x, generator = job.start()
    how: dict[str, Any] = {"window": job.window, "tolerance": job.stop, "generator": generator}
    how |= {"mesh": dist.group.WORLD} if dist.get_world_size() > 1 else {}
    sample(job.model, job.system, x, job.method, condition=job.condition, **how)


def single(job: Job) -> None:
    """The same sample step by step."""
    x, generator = job.start()
    step_by_step(job.model, job.system, x, generator=generator, condition=job.condition)


def sharing(shape: tuple[int, ...], most: int, times: int = 30) -> Link:
    """What sharing out a round costs beside the model, as a link: medians of rounds of two sizes.

    The all-gather, and all that goes with it: the packing, the check that all ranks do the same.
    """
    P = dist.get_world_size()
    known = sharded(lambda x, t: x, dist.group.WORLD)
    found = {}
    for each in (1, most):
        x, t = torch.zeros(P * each, *shape), torch.zeros(P * each)
        found[each] = median(timed(lambda x=x, t=t: known(x, t)) for _ in range(times))  # type: ignore[misc]
    size = 4.0 * torch.Size(shape).numel()
    slope = max(found[most] - found[1], 1e-9) / max((most - 1) * size, 1.0) / (P - 1)  # seconds a byte
    return Link("gloo here", 1 / slope, max(found[1] / (P - 1) - size * slope, 0.0))


def main(repeats: str, *cases: str) -> None:
    """A rank of the group: all cases; rank 0 prints the entries as one line of JSON."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # each on a core of its own
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[dist.get_rank() % len(cores)]})
    found = []
    for case in cases:
        model, rule, steps, window = case.split()
        job = prepare(Request(model, rule, int(steps), window=int(window), batch=1))
        found += entries(job, case, int(repeats))
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
