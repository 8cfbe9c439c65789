"""Ranks meet at torchrun's store before they are a group, and again when torchrun ends them.

come  = {rank: "" or what keeps it from taking part}       a key a rank and stage, each waits for all
left  = ranks that sign when torchrun ends them            the first of them speaks, for those that do not are gone
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.distributed.rendezvous import rendezvous

T = TypeVar("T")
TICK, GATHERING = 0.05, 0.5  # seconds between looks at the store; in which ranks that are told to end sign


class Rendezvous:
    """This rank, of `ranks`, at the store that torchrun made; patience: seconds that it waits for the others.

    come: the ranks that are known to be there.
    """

    def __init__(self, ranks: int, patience: float) -> None:
        self.ranks, self.patience = ranks, patience
        self.rank, self.stage = int(os.environ.get("RANK", "0")), 0
        self.come = [self.rank]
        self.store: Any = None
        self.line: Any = None  # the same store, by a connection that nothing else waits on

    def find(self) -> None:
        """Connects to the store; raises ValueError, which names this rank, where that is not found."""
        wait, where = timedelta(seconds=self.patience), [os.environ.get(k) for k in ("MASTER_ADDR", "MASTER_PORT")]
        try:
            store, self.rank, _ = next(rendezvous("env://", timeout=wait))
            line = dist.TCPStore(str(where[0]), int(str(where[1])), None, False, wait, wait_for_workers=False)  # type: ignore[attr-defined]
        except (RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(
                f"rank {self.rank} of {self.ranks} did not find the others at {':'.join(map(str, where))} ({why}); "
                "type --timeout SECONDS, or start it with torchrun"
            ) from error
        # torchrun keeps its store from one attempt to the next, and with it where the ranks of the last one listened
        attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self.store, self.line = c10d.PrefixStore(attempt, store), c10d.PrefixStore(attempt, line)

    def ready(self, prepare: Callable[[], T]) -> T:
        """What `prepare` gives here once it has ended well on all ranks; else ValueError on all, by the rank's name."""
        fault, made = "", None
        try:
            made = prepare()
        except Exception as error:
            fault, cause = f"{error}" or type(error).__name__, error
        said = self.all(fault)
        if missing := [r for r in range(self.ranks) if r not in said]:
            names = ", ".join(map(str, missing))
            raise ValueError(
                f"rank {names} of {self.ranks} did not come within {self.patience:.0f} s: killed, or still starting; "
                "type --timeout SECONDS to wait longer"
            )
        if fault:
            raise ValueError(f"rank {self.rank}: {fault}") from cause
        if faults := {r: text for r, text in said.items() if text}:
            raise ValueError("; ".join(f"rank {r}: {text}" for r, text in faults.items()))
        return made  # type: ignore[return-value]

    def all(self, fault: str) -> dict[int, str]:
        """What each rank has said at this stage, those that came in time."""
        self.stage += 1
        key = f"paradigms/start/{self.stage}"
        self.store.set(f"{key}/{self.rank}", fault.splitlines()[0] if fault else "")
        until = time.monotonic() + self.patience
        while True:
            self.come = [r for r in range(self.ranks) if self.store.check([f"{key}/{r}"])]
            if len(self.come) == self.ranks or time.monotonic() > until:
                return {r: self.store.get(f"{key}/{r}").decode() for r in self.come}
            time.sleep(TICK)

    def first(self) -> bool:
        """Whether this rank speaks for all that came."""
        return self.rank == min(self.come)

    def report(self) -> None:
        """Notes that why the job ends has been said."""
        with contextlib.suppress(RuntimeError, ValueError, AttributeError):  # there may be no store
            self.line.set("paradigms/said", "")

    def left(self) -> str:
        """Which ranks are gone, where this one is to say it: the first of those that sign, if no rank has said why."""
        if self.line is None:
            return ""
        try:
            self.line.set(f"paradigms/left/{self.rank}", "")
            time.sleep(GATHERING)
            if self.line.check(["paradigms/said"]):
                return ""
            there = [r for r in range(self.ranks) if self.line.check([f"paradigms/left/{r}"])]
        except (RuntimeError, ValueError):
            return (
                f"rank {self.rank} of {self.ranks}: ended, and the job's store is gone: rank 0 or torchrun was killed"
            )
        gone = [r for r in range(self.ranks) if r not in there]
        if not gone or self.rank != min(there):
            return ""
        names = " and ".join(f"rank {r}" for r in gone)
        return f"{names} of {self.ranks} ended or was killed without a word, so torchrun ends all; its log says how"
