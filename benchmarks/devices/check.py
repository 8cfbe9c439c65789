"""The plan against real runs here, on 1 process and on 2 that share the rows by gloo.

    predicted = call + sum_r [ T(ceil(m[r] / P)) + G(m[r], P) + outside ], or N (T(B) + step)
    measured  = the median of sharded runs, or of the sequential sampler's

| T        | a model call, of the slowest of the P while all are at work, for they share a memory           |
| m[r]     | the rows of a run in which nothing is shared                                                   |
| G        | a model call whose rows are shared out, less one of as many rows a rank that is not            |
| outside  | of a round of a run in which nothing is shared, of the slowest of the P; step: of a step       |
| call     | until ranks have begun a call, and wait for its first round, less the same of one process      |

Medians, none of which is of the runs that are predicted; but they take turns, so that a machine's moods meet all. Each
number of processes is a torchrun of this module, a thread and a core to a process, which keeps the memory that it had:
what is given back to the system comes again page by page, 100 MB of it or none in one and the same call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from paradigms.cli.model_job import Job, Request, prepare_job
from paradigms.cli.plan import measured_run, stepping_seconds, timed_caller
from paradigms.distributed.plan import FREE, Link, Trace, call_seconds, sequential_seconds
from paradigms.execution.latency import LatencyCurve
from paradigms.execution.sharded import sharded
from paradigms.solve import iterate, sample
from paradigms.solve import sequential as step_by_step

from ..report import spread, table

CASES = ("scenes ddpm 1000 16", "scenes ddpm 200 64", "scenes ddim 200 32", "digits ddpm 100 32")
HEAD = ("model", "rule", "window", "processes", "predicted s", "measured s (range)", "off by")
TERMS = (*HEAD[:4], "T of a row", "T of a rank's most", "outside a round", "a step", "G without bytes", "call")
WHAT = "What they were predicted from, in ms, each measured by itself:"
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": f"{2**40}"}  # glibc's; others do not read it
WAIT = 280  # seconds until a run is given up
ENOUGH = 0.3  # seconds of runs in a turn: of short ones there are more


def check(cases: Sequence[str], processes: Sequence[int], repeats: int) -> tuple[str, list[dict[str, Any]]]:
    """A table and its numbers, an entry for each case and number of processes; raises RuntimeError where one fails."""
    found = [entry for P in processes for entry in launch(P, repeats, cases)]
    lines, terms = [row(entry) for entry in found], [parts(entry) for entry in found if entry["window"] > 1]
    return f"{table(HEAD, lines)}\n\n{WHAT}\n\n{table(TERMS, terms)}", found


def row(entry: dict[str, Any]) -> list[Any]:
    """One line of the table."""
    facts = [entry[k] for k in ("model", "rule", "window", "processes", "predicted")]
    return [*facts, spread(entry["measured"]), f"{100 * entry['off']:+.1f} %"]


def parts(entry: dict[str, Any]) -> list[Any]:
    """What a prediction was made of, in milliseconds."""
    each = [entry["T"][0], entry["T"][-1], *(entry[k] for k in ("outside", "step", "lag", "call"))]
    facts = [entry[k] for k in ("model", "rule", "window", "processes")]
    return [*facts, *(f"{1000 * s:.2f}" if s else "-" for s in each)]


def launch(P: int, repeats: int, cases: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of P processes, from a torchrun of this module."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={P}"]
    command += ["--module", __name__, str(repeats), *cases]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | KEPT
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT * len(cases))
    if done.returncode:
        raise RuntimeError(f"{P} processes ended with code {done.returncode}: {done.stderr.strip()[-800:]}")
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


def entries(job: Job, about: str, repeats: int) -> list[dict[str, Any]]:
    """In parallel, and on one process step by step (a window of 1), too; only rank 0's numbers count."""
    P, W, B, N = dist.get_world_size(), int(job.window), job.request.batch, len(job.system)
    most = -(-W * B // P)
    call, shared = (
        timed_caller(job, most),
        timed_caller(replace(job, model=sharded(job.model, dist.group.WORLD)), P * most),
    )
    points = sorted({B, *(2**k for k in range(12) if B < 2**k < most), most})
    for M in points:
        call(M)  # to warm up
    runs, _ = measured_run(job, W)
    turns = repeats * min(max(round(ENOUGH / slowest(timed(lambda: parallel(job)))), 1), 4)
    found: dict[str, list[Any]] = {k: [] for k in ("T", "G", "outside", "step", "call", "together", "alone")}
    for _ in range(turns):
        found["T"].append(T := {M: again(call, M) for M in points})
        found["outside"].append(slowest(measured_run(job, W)[1]))
        found["together"].append(timed(lambda: parallel(job)))
        if P > 1:
            found["G"].append({M: again(shared, P * M) - T[M] for M in (1, most)})
            found["call"].append(begun(job, True) - begun(job, False))
        else:
            found["step"].append(stepping_seconds(job))
            found["alone"].append(timed(lambda: single(job)))
    latency = LatencyCurve.of({M: median(T[M] for T in found["T"]) for M in points})
    size = 4.0 * torch.Size(job.shape).numel()
    link = linked(found["G"], most, size, P, median(found["call"])) if P > 1 else FREE
    trace = Trace(N, W, B, runs, size, median(found["outside"]), about, median(found["step"] or [0.0]))
    facts = {"model": job.request.model, "rule": f"{job.request.rule}-{job.steps}", "processes": P, "about": about}
    parts = {"rows": latency.rows, "T": latency.seconds, "outside": trace.outside, "step": trace.step}
    parts |= {"bytes a second": link.speed if link.speed < inf else None, "lag": link.lag, "call": link.call}
    made = [(W, call_seconds(latency, trace, P, link), found["together"])]
    made += [(1, sequential_seconds(latency, trace), found["alone"])] if P == 1 else []
    return [
        {**facts, **parts, "window": w, "predicted": s, "measured": m, "off": s / median(m) - 1} for w, s, m in made
    ]


def again(call: Callable[[int], object], M: int) -> float:
    """Seconds of a call until all ranks are done, in the mean over some: a small one between large ones is slower."""
    times = max(64 // M, 2)
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


def begun(job: Job, together: bool) -> float:
    """Seconds until a run waits for its first round."""
    x, generator = job.start()
    how: dict[str, Any] = {"window": job.window, "tolerance": job.stop, "generator": generator}
    how |= {"mesh": dist.group.WORLD} if together else {}
    return timed(lambda: iterate(job.model, job.system, x, job.method, condition=job.condition, **how))


def slowest(seconds: float) -> float:
    """The most of all ranks."""
    found = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)


def linked(found: Sequence[Mapping[int, float]], most: int, size: float, P: int, call: float) -> Link:
    """The link that takes as long as sharing out 1 row and `most` rows a rank did, of `size` bytes each."""
    least, all = (max(median(G[M] for G in found), 0.0) / (P - 1) for M in (1, most))
    if all < least:  # bytes are not to be seen
        least = all = (least + all) / 2
    slope = (all - least) / max((most - 1) * size, 1.0)  # seconds a byte
    return Link("gloo here", 1 / slope if slope else inf, max(least - size * slope, 0.0), max(call, 0.0))


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
        job = prepare_job(Request(model, rule, int(steps), window=int(window), batch=1))
        found += entries(job, case, int(repeats))
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
