"""One exchange between ranks: every rank evaluates its part of the rows, and gets what all the others answered.

    on the wire:   [header | answers to the rank's rows], each as long as the longest of the R

The header says which call it is, of how many rows, how long the model took and what went wrong: an error of one rank is
an error of all in the same round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .device_time import now
from .failures import RankError
from .groups import transport_device
from .packing import HEADER, Header, align_offset, error_line, pack_tensors, tensor_bytes
from .partition import partition_rows
from .transport import Transport

CPU = torch.device("cpu")

Size = Callable[[int, int], int]  # of rows [first, last) the bytes of the answers
Ask = Callable[[int, int], tuple[Sequence[Tensor], float]]  # and the answers, with a note


@dataclass(frozen=True)
class SharedCall:
    """A call of M rows that ranks share.

    ask(first, last): the answers to rows [first, last), tensors of size(first, last) bytes in all, and a note. device:
    of the answers. check: a number that is about equal on all ranks. began: when the call did, if not now.
    """

    M: int
    size: Size
    ask: Ask
    device: torch.device
    check: float = 0.0
    began: float | None = None


class Exchange(Transport):
    """The ranks of a mesh, exchanging answers."""

    def __init__(self, mesh: Any) -> None:
        super().__init__(mesh)
        self.ended: float | None = None  # when the last call of the model did

    def exchange(self, call: SharedCall, parts: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Header]]:
        """What every rank sends of its part of the rows, (R, bytes), and the headers, which agree.

        Raises RankError, on all ranks alike, where one failed or is elsewhere.
        """
        began = time.perf_counter() if call.began is None else call.began
        outside = 0.0 if self.ended is None else began - self.ended
        first, last = parts[self.rank]
        said: Sequence[Tensor] = []
        note, fault = 0.0, None
        try:
            if last > first:
                said, note = call.ask(first, last)
                if (given := sum(tensor_bytes(v) for v in said)) != call.size(first, last):
                    wanted = call.size(first, last)
                    raise ValueError(f"it answered with {given} bytes; needed: {wanted}, as other rows'")
        except Exception as error:  # whatever a model raises
            said, fault = [], error
        numbers = (now(call.device) - began, outside, self.waited, call.check, note)
        head = Header(self.next(), call.M, *numbers, "" if fault is None else error_line(fault))
        slot = align_offset(HEADER + max(call.size(*part) for part in parts))
        found = self.gather(pack_tensors(said, slot, transport_device(self.group, call.device), head.pack()), head)
        heads = [Header.read(bytes(h)) for h in found[:, :HEADER].tolist()]
        verify_headers(self.ranks, heads, fault)
        return found, heads

    def each(self, size: int, ask: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """What every rank gives, `size` bytes; raises RankError, on all ranks alike, where one raises."""
        parts = partition_rows(self.size, self.size, 0)
        call = SharedCall(self.size, lambda first, last: size * (last - first), lambda *_: (ask(), 0.0), CPU)
        found, _ = self.exchange(call, parts)
        return [v[HEADER : HEADER + size] for v in found]


def verify_headers(ranks: tuple[int, ...], heads: Sequence[Header], fault: Exception | None) -> None:
    """Raises RankError where a rank failed, or is elsewhere than the first."""
    one, named = heads[0], tuple(zip(ranks, heads, strict=True))
    if failed := {r: h.error for r, h in named if h.error}:
        raise RankError("; ".join(f"rank {r}: {error}" for r, error in failed.items()), tuple(failed)) from fault
    if other := {r: h.place for r, h in named if h.place != one.place}:
        places = "; ".join(f"rank {r} at {place}" for r, place in other.items())
        raise RankError(f"ranks went different ways: rank {ranks[0]} is at {one.place}; {places}", tuple(other))
    if far := tuple(r for r, h in named if not abs(h.check - one.check) <= 1e-3 * (1 + abs(one.check))):
        raise RankError(
            f"rank {', '.join(map(str, far))} holds other states than rank {ranks[0]}; give every rank the "
            "same x and noise, as sample(..., mesh=mesh) does",
            far,
        )
