"""Equation (1) one row after the other: the sequential sampler, and the window of one row.

x[n+1] = step(x[n], D[n], ..),    n = begin, begin + 1, ...        each sample from its own row on
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..execution.evaluate import Evaluator
from .buffers import ChainPosition
from .chain import Chain, NoiseStream
from .controller import Plan
from .frame import Frame
from .trace import FrameRecord


@dataclass(frozen=True, eq=False)
class SingleSteps:
    """Single steps of a chain of N rows: the states before, between and after them, and the outputs (.., B, ...).

    first: the row that each sample begins at. If nobody looks at the states in between, only the first and the last
    states and outputs are kept.
    """

    round: int
    first: tuple[int, ...]
    single: int
    N: int
    states: Sequence[Tensor]
    said: Sequence[Tensor]
    evaluate: Evaluator
    estimate: Tensor | None = None

    @property
    def rows(self) -> list[int]:
        """The row that is next of each sample."""
        return [min(row + self.single, self.N) for row in self.first]

    @cached_property
    def begin(self) -> Tensor:
        """The first rows (B,)."""
        return torch.tensor(self.first)

    @cached_property
    def end(self) -> Tensor:
        """The rows (B,) that are next."""
        return torch.tensor(self.rows)

    @property
    def stride(self) -> Tensor:
        """How many rows (B,) were stepped through."""
        return self.end - self.begin

    @cached_property
    def x(self) -> Tensor:
        """The states (W + 1, B, ...)."""
        return torch.stack(list(self.states))

    @cached_property
    def D(self) -> Tensor:
        """The outputs (W, B, ...)."""
        return torch.stack([D[-1] for D in self.said])

    @property
    def size(self) -> Tensor:
        """0 (W, B), because every step is settled."""
        return torch.zeros(self.single, len(self.first))

    @property
    def residual(self) -> Tensor:
        """0 (B,), because every state is the step that the model gave."""
        return torch.zeros(len(self.first))

    @property
    def last(self) -> Tensor:
        """The last states (B, ...)."""
        return self.states[-1]

    @property
    def record(self) -> FrameRecord:
        """What is kept of it."""
        stride = [end - begin for begin, end in zip(self.first, self.rows, strict=True)]
        end, residual = min(max(self.first) + self.single, self.N), [0.0] * len(stride)
        return FrameRecord(self.first, stride, residual, end, self.evaluate.evaluations, 1, self.single)


def sequential_sample(evaluate: Evaluator, stream: NoiseStream) -> Tensor:
    """The sample (B, ...), all rows one by one."""
    system = evaluate.system
    steps = single_steps(evaluate, stream, ChainPosition.start(system, stream.x), len(system))
    ((final, _),) = deque(steps, maxlen=1)
    return final


def stepped(chain: Chain, at: ChainPosition, steps: int) -> Generator[Frame, None, tuple[ChainPosition, Plan]]:
    """So many single steps as one frame; where the samples stand then, and what the controller says next."""
    N, row = len(chain), at.row
    steps = min(steps, N - row, chain.limit - at.round)
    found = deque(single_steps(chain.evaluate, chain.stream, at, steps), maxlen=None if chain.keep else 1)
    states, outputs = (at.x, *(x for x, _ in found)), tuple(D for _, D in found)
    chain.controller.on_steps(row, steps, chain.evaluate)
    frame = SingleSteps(at.round + steps, tuple(at.begin), steps, N, states, outputs, chain.evaluate)
    yield from chain.shown(frame)
    at = ChainPosition(frame.last, outputs[-1][-len(at.D) :], frame.rows, frame.round, at.memories)
    return at, chain.plan(at.row) if at.row < N else (1, 1)


def single_steps(
    evaluate: Evaluator, stream: NoiseStream, at: ChainPosition, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """States x (B, ...) and outputs D (H + 1, B, ...) row by row, each sample from its own row on."""
    x, D, system, b = at.x, at.D, evaluate.system, torch.arange(len(at.x), device=at.x.device)
    first, last, N, H = at.row, max(at.begin), len(system), len(at.D)
    for row in range(first, min(first + steps, N)):
        end = row - first + last + 1
        if first == last:
            n = torch.full((1, len(x)), row, device=x.device)
        else:
            n = (torch.tensor([at.begin]) + row - first).to(x.device)
        if end <= N:
            D = torch.cat([D[-H:], evaluate(x, n[0], b)[None]])
            x = system.step(x[None], D, stream.rows(n, row, end), n)[0]
        else:  # samples that are ahead have ended
            on = (n[0] < N).nonzero()[:, 0]
            n = n.clamp(max=N - 1)
            D = torch.cat([D[-H:], D[-1:]])
            D[-1, on] = evaluate(x[on], n[0, on], b[on])
            x = x.index_copy(0, on, system.step(x[None], D, stream.rows(n, row, N), n)[0, on])
        yield x, D
