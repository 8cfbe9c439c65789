"""Starts the ranks of a job on this machine: processes with a gloo group, and what became of each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from typing import Any

import pytest
import torch
import torch.distributed as dist

LIMIT = 60.0  # seconds that a job may take
GRACE = 5.0  # and that other ranks have to end once one has failed


@dataclass
class Outcome:
    """What a rank returned or how it failed, and the exit code of its process."""

    value: Any = None
    error: str = ""
    code: int | None = None


def started(
    rank: int, ranks: int, port: int, host: int, timeout: float, pipe: connection.Connection, work: Callable, *args: Any
) -> None:
    torch.set_num_threads(1)
    wait = timedelta(seconds=timeout)
    store = dist.TCPStore("127.0.0.1", port, ranks, rank == host, timedelta(seconds=LIMIT))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=wait)
    try:
        outcome = Outcome(work(rank, *args))
    except Exception as error:
        outcome = Outcome(error=f"{type(error).__name__}: {error}")
        traceback.print_exc()
    pipe.send(outcome)
    pipe.recv()  # once all have sent


def run(ranks: int, work: Callable, *args: Any, timeout: float = 40.0, host: int = -1) -> list[Outcome]:
    """What `work(rank, *args)` came to on each of so many ranks; those that do not end are killed.

    timeout: seconds that ranks wait for each other. host: the rank that holds the job's store, else it is held here.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks", "published", work.__module__])  # loaded once, not by every process
    store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    port = store.port if host < 0 else free()
    pipes = [context.Pipe() for _ in range(ranks)]
    jobs = [
        context.Process(target=started, args=(r, ranks, port, host, timeout, there, work, *args), daemon=True)
        for r, (_, there) in enumerate(pipes)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of the server that loads the modules
        for job, (_, there) in zip(jobs, pipes, strict=True):
            job.start()
            there.close()
    outcomes, waiting = [Outcome() for _ in jobs], {here: r for r, (here, _) in enumerate(pipes)}
    until = time.monotonic() + LIMIT
    while waiting and (ready := connection.wait(waiting, max(until - time.monotonic(), 0))):
        for here in ready:
            r = waiting.pop(here)  # type: ignore[call-overload]
            with contextlib.suppress(EOFError):  # it was killed
                outcomes[r] = here.recv()  # type: ignore[union-attr]
            if outcomes[r].error:
                until = min(until, time.monotonic() + GRACE)
    for job, (here, _), outcome in zip(jobs, pipes, outcomes, strict=True):
        with contextlib.suppress(BrokenPipeError):
            here.send(None)
        if here in waiting:
            job.kill()
        job.join(GRACE)
        outcome.code = job.exitcode
        job.kill()
    return outcomes


def free() -> int:
    """A port that nobody listens at."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
