"""Ranks that share the rows, each on a core of its own, against one process on one core.

    speedup = seconds alone / seconds together,     measured one after the other, in the same processes
    ceiling = 2 seconds alone / seconds of two processes that each do all of it, at once and with nothing to share
    share   = 1 - (seconds of the slowest rank in the model) / seconds       communication and scan, and what else

On a U-Net that computes: that of DDPM on CIFAR-10 at half its width, random weights. The ceiling is the machine's: what
cores that share caches, memory or a physical core leave of a speedup of 2. While one rank runs alone the other waits
for a message, which takes no time of a core. And rows a rank for 8 ranks of `scenes`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from paradigms.distributed.packing import HEADER, align_offset
from paradigms.execution.chunked import Model
from paradigms.models import load
from paradigms.rules import ddim
from paradigms.schedule import linear
from paradigms.solution import Solution, relative_error
from paradigms.solve import sample

from ..core.engine import start
from ..report import spread, table, write

STEPS, WINDOW = 50, 16
DISTURBED = 0.05  # of a core that other programs may take
NET = {"sample_size": 32, "block_out_channels": (64, 128, 128, 128), "layers_per_block": 2}  # 8.9 million weights
BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
NAMES = {
    "alone": "one process on one core, seconds",
    "together": "two processes on two cores, seconds",
    "speedup": "speedup",
    "crowd": "two processes that each do all of it, at once, seconds",
    "ceiling": "the machine's ceiling for the speedup",
    "part": "speedup, of the ceiling",
    "share": "share of the call outside the slowest rank's model: communication, scan, criterion",
    "wire share": "share of the call on the wire",
}
Work = Callable[[int, int, bool], Any]


def net() -> torch.nn.Module:
    """The U-Net."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(**NET, **BLOCKS).eval().requires_grad_(False)  # type: ignore[arg-type]


def both(rank: int, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Runs of rank 0 alone, of both by themselves at once, and of both together, after one of each to warm up.

    What other programs took of the machine meanwhile is told, and runs beyond DISTURBED of it are made again, thrice.
    """
    model: Model = load("scenes").model if quick else net()
    system = ddim(linear(), 12 if quick else STEPS, prediction="epsilon")
    how: dict[str, Any] = {"window": 4 if quick else WINDOW}
    x = system.noise((1, 3, 32, 32), torch.Generator().manual_seed(0))
    found: list[dict[str, Any]] = []
    fine = torch.zeros(())
    while len(found) < 1 + 3 * repeats and fine < 1 + repeats:
        began = time.perf_counter(), busy(), time.process_time()
        alone = sample(model, system, x, **how) if rank == 0 else None
        dist.barrier()
        crowd = torch.tensor(sample(model, system, x, **how).seconds)
        dist.all_reduce(crowd, dist.ReduceOp.MAX)
        together = sample(model, system, x, **how, mesh=dist.group.WORLD)
        ours = torch.tensor(time.process_time() - began[2])
        dist.all_reduce(ours)
        others = torch.tensor((busy() - began[1] - float(ours)) / (time.perf_counter() - began[0]))
        dist.broadcast(others, 0)
        fine += len(found) == 0 or others <= DISTURBED
        found.append(account(alone or together, float(crowd), together) | {"others": float(others)})
    return found[1:]


def busy() -> float:
    """Seconds that all cores have worked so far; 0 where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, *more = map(int, stat.read_text().splitlines()[0].split()[1:])
    return (user + nice + system + sum(more[:3])) / os.sysconf("SC_CLK_TCK")


def account(alone: Solution, crowd: float, together: Solution) -> dict[str, Any]:
    """A pair in numbers."""
    assert together.sharing is not None
    model = together.model_seconds - together.sharing.wire_seconds
    return {
        "alone": alone.seconds, "together": together.seconds, "speedup": alone.seconds / together.seconds,
        "crowd": crowd, "ceiling": 2 * alone.seconds / crowd,
        "part": crowd / 2 / together.seconds,
        "alone share": 1 - alone.model_seconds / alone.seconds, "share": 1 - model / together.seconds,
        "wire share": together.sharing.wire_seconds / together.seconds, "rounds": together.rounds,
        "evals": together.evaluations, "rows": together.sharing.rows,
        "error": float(relative_error(together.x, alone.x).max()),
        "bytes": together.sharing.wire_bytes, "formula": formula(together, 32 * 32 * 3 * 4),
    }  # fmt: skip


def formula(solution: Solution, row: int) -> int:
    """Bytes that each of R ranks receives, (R - 1) (HEADER + ceil(M / R) row) a round of M rows."""
    assert solution.sharing is not None
    R, before, received = len(solution.sharing.rows), 0, 0
    for _, _, evaluations in solution.trace:
        received += (R - 1) * align_offset(HEADER + -(-(evaluations - before) // R) * row)
        before = evaluations
    return received


def even(rank: int, repeats: int, quick: bool) -> dict[str, Any]:
    """Rows a rank of the shipped model, and how far the sample is from that of one process."""
    model = load("scenes")
    system = ddim(linear(), 12 if quick else STEPS, prediction=model.prediction)
    x, _ = start(model, system, 2)
    together = sample(model.model, system, x, window=8, mesh=dist.group.WORLD)
    dist.barrier()
    alone = sample(model.model, system, x, window=8) if rank == 0 else together
    assert together.sharing is not None
    error = float(relative_error(together.x, alone.x).max())
    return {"rounds": together.rounds, "evals": together.evaluations, "rows": together.sharing.rows, "error": error}


def main(out: Path, repeats: int = 7, quick: bool = False) -> None:
    """Measures it, prints the tables and writes out/devices.md and out/devices.json."""
    all, eight = ranks(2, both, repeats, quick), ranks(8, even, 1, quick)
    pairs = [pair for pair in all if pair["others"] <= DISTURBED] or all
    times = [(name, spread([pair[name] for pair in pairs])) for name in NAMES]
    first = pairs[0]
    received = f"{first['bytes']:,}; by (R - 1) (512 + 12288 ceil(M / R)) a round {first['formula']:,}"
    facts = [
        ["rounds, evaluations", f"{first['rounds']}, {first['evals']}"],
        ["rows of each rank", " + ".join(map(str, first["rows"]))],
        ["bytes received by each rank", received],
        ["relative difference of the samples", f"{max(pair['error'] for pair in pairs):.1g}"],
    ]
    disturbed = f"Of {len(all)} runs {len(all) - len(pairs)} are left out, in which other programs took more than "
    disturbed += (
        f"{DISTURBED:.0%} of a core; in the others they took up to {max(pair['others'] for pair in pairs):.1%}."
    )
    if pairs is all:
        disturbed = f"Other programs took more than {DISTURBED:.0%} of a core in every run, so these times say little."
    size = sum(p.numel() for p in net().parameters()) / 1e6
    of = (
        "`scenes`, DDIM-12, window 4"
        if quick
        else f"U-Net of {size:.1f} million weights, DDIM-{STEPS}, window {WINDOW}"
    )
    what = f"{of}, one sample of 3x32x32"
    body = table(("", f"median (range) of {len(pairs)} runs"), [[NAMES[k], v] for k, v in times])
    shipped = [
        ["rounds, evaluations", f"{eight['rounds']}, {eight['evals']}"],
        ["rows of each rank", " + ".join(map(str, eight["rows"]))],
        ["relative difference of the samples", f"{eight['error']:.1g}"],
    ]
    sections = [
        (what, f"{body}\n\n{disturbed}\n\n{table(('', ''), facts)}"),
        ("`scenes` on 8 ranks of this machine, DDIM-50, window 8, two samples", table(("", ""), shipped)),
    ]
    print(write(out, "devices", "Many devices", sections, {"runs": all, "eight": eight}))


def ranks(count: int, work: Work, repeats: int, quick: bool) -> Any:
    """What `work` gives on rank 0 of so many processes, each on a core of its own as far as there are."""
    context = multiprocessing.get_context("spawn")
    store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        jobs = [
            context.Process(target=run, args=(r, count, store.port, told, (work, repeats, quick)), daemon=True)
            for r in range(count)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        if any(job.exitcode for job in jobs):
            raise RuntimeError(f"ranks ended with exit codes {[job.exitcode for job in jobs]}")
        return json.loads(told.read_text())


def run(rank: int, count: int, port: int, told: Path, job: tuple[Work, int, bool]) -> None:
    """A rank; job: the work, its repeats, whether it is to be quick."""
    work, repeats, quick = job
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    store = dist.TCPStore("127.0.0.1", port, count, False)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=timedelta(minutes=5))
    found = work(rank, repeats, quick)
    if rank == 0:
        told.write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
