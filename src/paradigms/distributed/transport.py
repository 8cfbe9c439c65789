"""How bytes get from rank to rank: gathers and broadcasts that all ranks take part in, and who is named if one fails.

    gather:     (L,) bytes of every rank  ->  (R, L) on every rank
    broadcast:  the first rank's tensors  ->  every rank

torch.distributed carries it: NCCL between GPUs, gloo between CPUs. A rank that waits looks every second whether another
has called the roll, see `failures.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .failures import SECOND, RankError, RollCall
from .groups import group_of, timeout_of, transport_device
from .packing import Header, error_line, pack_tensors, tensor_bytes, unpack_tensors

# Seconds in which ranks have to sign the roll, beside three model calls. It only decides how late a lost rank is named:
# the roll is called once nothing has come within the group's timeout, which is minutes. Chosen by hand.
PATIENCE = 5.0
GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name since torch 2.13
_calls: dict[str, int] = {}  # how many calls a group has shared, by its name


class Transport:
    """The ranks of a mesh, a process group or another transport, and what carries bytes between them.

    size, rank: of the group; ranks: their numbers in the job. timeout: seconds that a rank may keep the others waiting,
    of the group. waited: seconds that the last gather took. slowest: the longest model call so far.
    """

    def __init__(self, mesh: Any) -> None:
        self.group: Any = mesh.group if isinstance(mesh, Transport) else group_of(mesh)
        self.size, self.rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        self.ranks = tuple(dist.get_global_rank(self.group, r) for r in range(self.size))
        self.name = str(self.group.group_name)
        self.roll, self.timeout = RollCall(self.name, self.ranks[self.rank], self.ranks), timeout_of(self.group)
        self.waited = self.slowest = 0.0

    def next(self) -> int:
        """The number of the next call."""
        _calls[self.name] = _calls.get(self.name, 0) + 1
        return _calls[self.name]

    def gather(self, mine: Tensor, head: Header) -> Tensor:
        """Bytes (L,) of every rank, (R, L)."""
        began, all = time.perf_counter(), mine.new_empty(self.size, len(mine))
        # into one tensor, for NCCL would gather a list into a buffer of its own and copy that out, rank by rank
        start = lambda: GATHER(all.view(-1), mine, group=self.group, async_op=True)  # noqa: E731
        self.finish(start, head.call, head.place, mine.device)
        self.waited = time.perf_counter() - began
        return all

    def finish(self, start: Callable[[], Any], call: int, place: str, on: torch.device) -> None:
        """Starts what all ranks take part in, with bytes on a device, and waits; the RankError names who did not."""
        until = time.monotonic() + self.timeout
        patience = min(self.timeout, PATIENCE + 3 * self.slowest)
        looked = time.monotonic()
        try:
            work = start()
            while not work.is_completed():
                if on.type == "cpu":
                    with contextlib.suppress(RuntimeError):  # the second is over; other errors come below
                        work.wait(timedelta(seconds=SECOND))
                else:
                    time.sleep(2e-5)  # a wait that NCCL is given a time for ends the job, so it is only asked
                if not work.is_completed() and (clock := time.monotonic()) > looked + SECOND:
                    looked = clock
                    if clock > until or self.roll.called(call):
                        raise self.roll.call(call, place, f"nothing came within {self.timeout:.0f} s", patience)
            work.wait()
        except RankError:
            raise
        except RuntimeError as error:
            raise self.roll.call(call, place, error_line(error), patience) from error

    def broadcast(self, tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """The first rank's tensors, given tensors of the same shapes and dtypes on every rank."""
        sent = pack_tensors(tensors, sum(tensor_bytes(v) for v in tensors), transport_device(self.group, device))
        if len(sent):
            src = self.ranks[0]
            start = lambda: dist.broadcast(sent, src, group=self.group, async_op=True)  # noqa: E731
            call = self.next()
            self.finish(start, call, f"call {call}, a broadcast", sent.device)
        return unpack_tensors(sent, tensors)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """What this rank raises within they hear of who wait for it at their next call; its own is the one after."""
        try:
            yield
        except RankError:
            raise  # they raise it too
        except Exception as error:
            if self.size > 1:
                self.roll.sign(self.next(), "the end of its work", error_line(error))
            raise
