"""What a run will take, before it is made: calls that are counted, at latencies that are assumed.

    seconds of a call of M rows = max(operators x HOST, M x operations / (SHARE x PEAK))

Operators and floating-point operations of a call are counted on the "meta" device. HOST, SHARE and PEAK are
assumptions about a large GPU of 2024 and a quick host; nobody measured them. The run itself corrects them: what
finished rows took, over what was assumed of them, scales what is assumed of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..core.counting import Operations
from .networks import load

HOST = {"eager": 8e-6, "captured": 2e-6, "compiled": 4e-6}  # seconds an operator, assumed
PEAK = {"float32": 6e13, "bfloat16": 9e14, "float16": 9e14}  # operations a second, about an H200's nominal figures
SHARE = 0.3  # of the peak that a network of convolutions reaches, assumed
COMPILE = {"sd2": 60.0, "church": 40.0}  # seconds of one compilation, assumed; of the others 10
LOAD = {"sd2": 12.0, "church": 4.0}  # seconds to make the weights, assumed
OUTSIDE = 4e-3  # seconds of a round outside the network, assumed: about 400 operators at HOST


@dataclass(frozen=True)
class Calls:
    """So many calls of so many rows of a network."""

    network: str
    rows: int
    count: float
    dtype: str = "float32"
    mode: str = "eager"

    @property
    def seconds(self) -> float:
        """Assumed."""
        operators, operations = counted(self.network)
        host = operators * HOST[self.mode]
        return self.count * max(host, self.rows * operations / (SHARE * PEAK[self.dtype]))


@cache
def counted(name: str) -> tuple[int, int]:
    """Operators of a call, and floating-point operations of a row, on the meta device; zeros where it cannot be made.

    Counted with two rows, for a library may treat one row in another way.
    """
    meta = torch.device("meta")
    net = load(name, meta)
    given = net.batch(2, meta)
    with torch.no_grad(), Operations() as operators:
        net.model(**given)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        net.model(**given)
    return operators.count.total(), flops.get_total_flops() // 2


def total(calls: Sequence[Calls], more: float = 0.0) -> float:
    """Assumed seconds of calls and of what is not counted in calls."""
    return more + sum(c.seconds for c in calls)
