"""The server example under load, on loopback: many users' rows in one call, against two servers that step.

    one by one        a queue: a request's steps, then the next one's
    plain batching    those who wait are stepped as one batch; who comes meanwhile waits for the next
    merged            `examples/server.py`: cost of a call measured, each user sent the way that finishes most
    merged, 0.3 %     the same at a tolerance of 0.3 % in place of 1 %, where windows are taken and no nodes
    merged, flat      the first, taking a call of any size to cost the same: the fewest calls, for a device with room

Users ask at once, each for a seed and a label of its own. Calls and errors are counts and say the same on any machine;
seconds are of one run, and given as ratios within it. error = |x - its own chain's| / |its own chain's|
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import Tensor

import paradigms as pd
from benchmarks.report import spread, table, write
from examples import server as example
from paradigms.models import load

STEPS, MOST = 200, 1024
GATHER = 0.02  # seconds that plain batching waits for another request, so that those who ask at once are in one batch
LOADS = (1, 2, 4, 8, 16, 32)
# the tolerance of each; the first two step, and have none
WAYS = {"one by one": 0.01, "plain batching": 0.01, "merged": 0.01, "merged, 0.3 %": 0.003, "merged, flat": 0.01}


class Batches:
    """Steps requests as batches of at most `most`: those who wait when a batch begins are in it. Counts as `Merger`."""

    def __init__(self, net: Any, most: int) -> None:
        self.net, self.most, self.calls, self.rows = net, most, 0, 0
        self.new: SimpleQueue[tuple[dict[str, Any], Future[dict[str, Any]]] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, wanted: dict[str, Any]) -> Future[dict[str, Any]]:
        """Queues a request."""
        found: Future[dict[str, Any]] = Future()
        self.new.put((wanted, found))
        return found

    def close(self) -> None:
        """Ends the thread, once nobody waits."""
        self.new.put(None)
        self.thread.join()

    def run(self) -> None:
        """Batch after batch, until None is queued."""
        while (first := self.new.get()) is not None:
            batch = [first]
            with contextlib.suppress(Empty):
                while len(batch) < self.most and (more := self.new.get(timeout=GATHER)) is not None:
                    batch.append(more)
            x = chains(self.net, [wanted for wanted, _ in batch])
            self.calls, self.rows = self.calls + STEPS, self.rows + STEPS * len(batch)
            for (_, found), each in zip(batch, x, strict=True):
                found.set_result({"x": each})


def chains(net: Any, wanted: list[dict[str, Any]]) -> Tensor:
    """Each request's own chain, stepped as one batch."""
    system = pd.ddim(pd.linear(), STEPS, prediction=net.prediction)
    noise = [system.noise((1, *net.shape), torch.Generator().manual_seed(w["seed"])) for w in wanted]
    label = torch.tensor([w["label"] for w in wanted])
    return pd.sequential(net.model, system, torch.cat(noise), condition={"label": label})


class Served(NamedTuple):
    """A server that runs: its port, and what counts calls and rows."""

    port: int
    counts: Any


@contextlib.contextmanager
def served(way: str, net: Any) -> Iterator[Served]:
    """A server of one of `WAYS`, until the end of the block."""
    counts: Any
    if not way.startswith("merged"):
        counts = Batches(net, 1 if way == "one by one" else MOST)
        submit: example.Submit = counts.submit
    else:
        counts, submit = example.merger_of(net, MOST, 64, 600.0, way == "merged, flat")
    with contextlib.closing(counts), example.running(example.application(submit)) as port:
        yield Served(port, counts)


def burst(one: Served, wanted: list[dict[str, Any]], own: Tensor) -> dict[str, Any]:
    """All of them at once: counts, the worst error, the seconds of each, and until all were answered."""
    calls, rows = one.counts.calls, one.counts.rows

    def ask(each: dict[str, Any]) -> tuple[Tensor, float]:
        began = time.perf_counter()
        said = example.ask(one.port, each)
        return torch.tensor(said["x"]), time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(len(wanted)) as pool:
        said = list(pool.map(ask, wanted))
    seconds = time.perf_counter() - began
    off = (torch.stack([x.reshape(own.shape[1:]) for x, _ in said]) - own).flatten(1).norm(dim=1)
    return {
        "calls": one.counts.calls - calls, "rows": one.counts.rows - rows,
        "error": float((off / own.flatten(1).norm(dim=1)).max()), "latency": [s for _, s in said], "seconds": seconds,
    }  # fmt: skip


def measured(loads: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """A cell for each load and way, of bursts in turn; all servers are threads of this process.

    One OpenMP thread each: it keeps threads for every thread that calls it, and they would wait for each other.
    """
    torch.set_num_threads(1)
    net, cells = load("digits"), list[dict[str, Any]]()
    with contextlib.ExitStack() as stack:
        servers = {way: stack.enter_context(served(way, net)) for way in WAYS}
        for users in loads:
            wanted: list[dict[str, Any]] = [{"steps": STEPS, "seed": k, "label": k % 10} for k in range(users)]
            own, runs = chains(net, wanted), {way: list[dict[str, Any]]() for way in WAYS}
            for _ in range(repeats):
                for way, tolerance in WAYS.items():
                    asked = [each | {"tolerance": tolerance} for each in wanted]
                    runs[way].append(burst(servers[way], asked, own))
            for way, found in runs.items():
                cells.append({"users": users, "way": way, **summary(found, runs)})
                print(users, way, {k: v for k, v in cells[-1].items() if k not in ("latency", "seconds")}, flush=True)
    return cells


def summary(found: list[dict[str, Any]], runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What several bursts of a way have in common, and its ratios to the two that step, burst by burst."""
    middle = [statistics.median(each["latency"]) for each in found]

    def ratios(other: str, of: Callable[[dict[str, Any]], float]) -> list[float]:
        return [of(theirs) / of(ours) for ours, theirs in zip(found, runs[other], strict=True)]

    return {
        "calls": max(each["calls"] for each in found), "rows": max(each["rows"] for each in found),
        "error": max(each["error"] for each in found), "latency": middle,
        "seconds": [each["seconds"] for each in found],
        "unfair": [max(each["latency"]) / min(each["latency"]) for each in found],
        "latency, of one by one": ratios("one by one", lambda run: statistics.median(run["latency"])),
        "latency, of plain batching": ratios("plain batching", lambda run: statistics.median(run["latency"])),
        "throughput, of one by one": ratios("one by one", lambda run: run["seconds"]),
        "throughput, of plain batching": ratios("plain batching", lambda run: run["seconds"]),
    }  # fmt: skip


def main(out: Path, quick: bool, repeats: int) -> None:
    """Measures and writes server.md."""
    cells = measured((1, 2) if quick else LOADS, 1 if quick else repeats)
    counts = table(
        ["users", "server", "calls of the model", "rows", "largest error"],
        [[c["users"], c["way"], c["calls"], c["rows"], c["error"]] for c in cells],
    )
    merged = [c for c in cells if c["way"].startswith("merged")]
    clock = table(
        ["users", "server", "latency: one by one / this", "plain batching / this",
         "throughput: this / one by one", "this / plain batching", "slowest user / quickest"],
        [[c["users"], c["way"], spread(c["latency, of one by one"]), spread(c["latency, of plain batching"]),
          spread(c["throughput, of one by one"]), spread(c["throughput, of plain batching"]), spread(c["unfair"])]
         for c in merged],
    )  # fmt: skip
    text = (
        f"Users ask at once for DDIM of {STEPS} steps on the digits model, each with a seed and a label of its own; "
        f"calls of at most {MOST} rows. One by one and plain batching step; merged is `examples/server.py` at a "
        "tolerance of 1 % or 0.3 %, which measures what a call costs; flat takes all calls to cost the same. The error "
        "is relative to each user's own chain.\n\n"
    )
    write(out, "server", "The server example under load", [
        ("Calls and errors, which are counted", text + counts),
        ("Latency and throughput, as ratios within one run",
         "Medians of the users; median (range) of the bursts, in turn. More than 1 is better.\n\n" + clock),
    ], {"cells": cells})  # fmt: skip
