"""The ranks that share the rows of a round: rank r of R evaluates M / R of them, one all-gather brings all to all.

    on the wire, once a round:   [header | answers to the rank's rows], each as long as the longest of the R

States are on every rank already, because every rank runs the same solver on the same numbers; so nothing is scattered.
The header says which call it is, of how many rows, how long the model took and what went wrong: an error of one rank is
an error of all in the same round. torch.distributed carries it: NCCL between GPUs, gloo between CPUs.
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .device_time import now
from .failures import SECOND, RankError, RollCall
from .groups import group_of, timeout_of, transport_device
from .packing import HEADER, Header, align_offset, error_line, pack_tensors, tensor_bytes, unpack_tensors
from .partition import AgreedSeconds, Sharing, partition_rows

TEXT = 4096  # bytes of what ranks say of a problem before they begin
FIRST = 16384  # and of the first rank's tensors that go with it, if they are no more
PATIENCE = 5.0  # seconds in which ranks have to sign the roll, beside three model calls
CPU = torch.device("cpu")
GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name since torch 2.13
_calls: dict[str, int] = {}  # how many calls a group has shared, by its name

T = TypeVar("T")
Size = Callable[[int, int], int]  # of rows [first, last) the bytes of the answers
Ask = Callable[[int, int], tuple[Sequence[Tensor], float]]  # and the answers, with a note


class Team:
    """The ranks of a DeviceMesh (its one dimension, or the one called "time"), of a process group, or of a team.

    spent: so far; agreed: of the last call. timeout: seconds that a rank may keep the others waiting, of the group.
    """

    def __init__(self, mesh: Any) -> None:
        self.group: Any = mesh.group if isinstance(mesh, Team) else group_of(mesh)
        self.size, self.rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        self.ranks = tuple(dist.get_global_rank(self.group, r) for r in range(self.size))
        self.name = str(self.group.group_name)
        self.roll, self.timeout = RollCall(self.name, self.ranks[self.rank], self.ranks), timeout_of(self.group)
        self.spent, self.agreed = Sharing((0,) * self.size, 0, 0, 0.0), AgreedSeconds()
        self.turn = 0  # the rank whose turn it is to have a row more
        self.waited = self.slowest = 0.0
        self.ended: float | None = None  # when the last call did

    def share(
        self, M: int, size: Size, ask: Ask, device: torch.device, check: float = 0.0, began: float | None = None
    ) -> tuple[list[Tensor], float]:
        """Of every rank the answers to its rows, as bytes, and the first note; tells `spent` and `agreed` of it.

        ask(first, last): tensors of size(first, last) bytes in all, and a note. check: a number that is about equal on
        all ranks. began: when the call did, if not now. Raises RankError, on all ranks alike, where one failed or is
        elsewhere.
        """
        parts = partition_rows(M, self.size, self.turn)
        found, heads = self.exchange(M, parts, size, ask, device, check, began)
        slowest = max(h.model for h in heads), max(h.outside for h in heads), min(h.waited for h in heads)
        self.agreed, was = AgreedSeconds(*slowest), self.spent
        rows = tuple(n + last - first for n, (first, last) in zip(was.rows, parts, strict=True))
        received = was.wire_bytes + (self.size - 1) * found.shape[1]
        self.spent = Sharing(rows, was.calls + 1, received, was.wire_seconds + self.agreed.wire)
        self.turn = (self.turn + M) % self.size
        self.slowest, self.ended = max(self.slowest, self.agreed.model), time.perf_counter()
        note = next((h.note for h, (first, last) in zip(heads, parts, strict=True) if last > first), 0.0)
        return [found[r, HEADER : HEADER + size(*part)] for r, part in enumerate(parts)], note

    def exchange(
        self,
        M: int,
        parts: Sequence[tuple[int, int]],
        size: Size,
        ask: Ask,
        device: torch.device,
        check: float = 0.0,
        began: float | None = None,
    ) -> tuple[Tensor, list[Header]]:
        """What every rank sends of its part of M rows, (R, bytes), and the headers, which agree."""
        began = time.perf_counter() if began is None else began
        outside = 0.0 if self.ended is None else began - self.ended
        first, last = parts[self.rank]
        said: Sequence[Tensor] = []
        note, fault = 0.0, None
        try:
            if last > first:
                said, note = ask(first, last)
                if (given := sum(tensor_bytes(v) for v in said)) != size(first, last):
                    raise ValueError(f"it answered with {given} bytes; needed: {size(first, last)}, as other rows'")
        except Exception as error:  # whatever a model raises
            said, fault = [], error
        numbers = (now(device) - began, outside, self.waited, check, note)
        head = Header(self.next(), M, *numbers, "" if fault is None else error_line(fault))
        slot = align_offset(HEADER + max(size(*part) for part in parts))
        found = self.gather(pack_tensors(said, slot, transport_device(self.group, device), head.pack()), head)
        heads = [Header.read(bytes(h)) for h in found[:, :HEADER].tolist()]
        self.verify(heads, fault)
        return found, heads

    def each(self, size: int, ask: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """What every rank gives, `size` bytes; raises RankError, on all ranks alike, where one raises."""
        parts = partition_rows(self.size, self.size, 0)
        found, _ = self.exchange(self.size, parts, lambda a, b: size * (b - a), lambda *_: (ask(), 0.0), CPU)
        return [v[HEADER : HEADER + size] for v in found]

    def verify(self, heads: Sequence[Header], fault: Exception | None) -> None:
        """Raises RankError where a rank failed, or is elsewhere than the first."""
        one, named = heads[0], tuple(zip(self.ranks, heads, strict=True))
        if failed := {r: h.error for r, h in named if h.error}:
            raise RankError("; ".join(f"rank {r}: {error}" for r, error in failed.items()), tuple(failed)) from fault
        if other := {r: h.place for r, h in named if h.place != one.place}:
            places = "; ".join(f"rank {r} at {place}" for r, place in other.items())
            raise RankError(
                f"ranks went different ways: rank {self.ranks[0]} is at {one.place}; {places}", tuple(other)
            )
        if far := tuple(r for r, h in named if not abs(h.check - one.check) <= 1e-3 * (1 + abs(one.check))):
            raise RankError(
                f"rank {', '.join(map(str, far))} holds other states than rank {self.ranks[0]}; give every rank the "
                "same x and noise, as sample(..., mesh=mesh) does",
                far,
            )

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

    def begin(self, given: Callable[[], tuple[Mapping[str, str], Sequence[Tensor]]]) -> list[Tensor]:
        """The first rank's tensors, once all ranks were given the same problem; given: what it is, and its tensors.

        Raises ValueError, on all ranks, where they were given different things, by their names; and RankError, on all,
        where `given` raises.
        """
        tensors: list[Tensor] = []

        def ask() -> list[Tensor]:
            what, mine = given()
            tensors.extend(mine)
            said = {k: v if len(v) <= 80 else f"{v[:80]}... ({zlib.crc32(v.encode()):x})" for k, v in what.items()}
            text = json.dumps(said).encode()[:TEXT].ljust(TEXT)
            small = self.rank == 0 and sum(map(tensor_bytes, tensors)) <= FIRST
            return [
                torch.frombuffer(bytearray(text), dtype=torch.uint8),
                pack_tensors(mine if small else (), FIRST, CPU),
            ]

        first, *others = self.each(TEXT + FIRST, ask)
        for r, other in zip(self.ranks[1:], others, strict=True):
            if not torch.equal(first[:TEXT], other[:TEXT]):
                one, two = (json.loads(bytes(v[:TEXT].tolist())) for v in (first, other))
                name = next(k for k in [*one, *two] if one.get(k) != two.get(k))
                raise ValueError(
                    f"{name}: rank {self.ranks[0]} was given {one.get(name)}, rank {r} {two.get(name)}; needed: the "
                    "same on all ranks"
                )
        if sum(map(tensor_bytes, tensors)) <= FIRST:
            return unpack_tensors(first[TEXT:], tensors)
        return self.broadcast(tensors, tensors[0].device)

    def broadcast(self, tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """The first rank's tensors, given tensors of the same shapes and dtypes on every rank."""
        sent = pack_tensors(tensors, sum(tensor_bytes(v) for v in tensors), transport_device(self.group, device))
        if len(sent):
            src = self.ranks[0]
            start = lambda: dist.broadcast(sent, src, group=self.group, async_op=True)  # noqa: E731
            call = self.next()
            self.finish(start, call, f"call {call}, a broadcast", sent.device)
        return unpack_tensors(sent, tensors)

    def slowest_of(self, seconds: Sequence[float]) -> list[float]:
        """The largest of what ranks give in each place."""
        mine = torch.tensor(seconds, dtype=torch.float64)
        found = self.each(tensor_bytes(mine), lambda: [mine])
        return torch.stack([v.cpu().view(torch.float64) for v in found]).amax(0).tolist()  # type: ignore[no-any-return]

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives here, once it has ended well on every rank; else raises RankError on every rank."""
        made: list[T] = []

        def ask() -> list[Tensor]:
            made.append(work())
            return []

        self.each(0, ask)
        return made[0]

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
