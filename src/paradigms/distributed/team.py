"""The ranks that share the rows of a round: rank r of R evaluates M / R of them, one all-gather brings all to all.

States are on every rank already, because every rank runs the same solver on the same numbers; so nothing is scattered.
Before the first round the ranks agree on the problem. What is sent is in `exchange.py`, how it gets there in
`transport.py`.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from .exchange import CPU, Exchange, SharedCall
from .packing import HEADER, pack_tensors, tensor_bytes, unpack_tensors
from .partition import AgreedSeconds, Sharing, partition_rows

# Bytes of what ranks say of a problem before they begin. Chosen by hand.
TEXT = 4096
# Bytes of the first rank's tensors that go with it, where they are no more. Chosen by hand.
FIRST = 16384

T = TypeVar("T")


class Team(Exchange):
    """The ranks of a DeviceMesh (its one dimension, or the one called "time"), of a process group, or of a team.

    spent: so far; agreed: of the last call.
    """

    def __init__(self, mesh: Any) -> None:
        super().__init__(mesh)
        self.spent, self.agreed = Sharing((0,) * self.size, 0, 0, 0.0), AgreedSeconds()
        self.turn = 0  # the rank whose turn it is to have a row more

    def share(self, call: SharedCall) -> tuple[list[Tensor], float]:
        """Of every rank the answers to its rows, as bytes, and the largest note; tells `spent` and `agreed` of it.

        Raises RankError, on all ranks alike, where one failed or is elsewhere.
        """
        parts = partition_rows(call.M, self.size, self.turn)
        found, heads = self.exchange(call, parts)
        slowest = max(h.model for h in heads), max(h.outside for h in heads), min(h.waited for h in heads)
        self.agreed, was = AgreedSeconds(*slowest), self.spent
        rows = tuple(n + last - first for n, (first, last) in zip(was.rows, parts, strict=True))
        received = was.wire_bytes + (self.size - 1) * found.shape[1]
        self.spent = Sharing(rows, was.calls + 1, received, was.wire_seconds + self.agreed.wire)
        self.turn = (self.turn + call.M) % self.size
        self.slowest, self.ended = max(self.slowest, self.agreed.model), time.perf_counter()
        note = max((h.note for h, (first, last) in zip(heads, parts, strict=True) if last > first), default=0.0)
        return [found[r, HEADER : HEADER + call.size(*part)] for r, part in enumerate(parts)], note

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
