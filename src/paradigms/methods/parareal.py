"""Parareal: blocks of s rows at once; each block is stepped through from a start state that a coarse jump predicts.

F(U) is the fine solver: the rows of a block, one after another, from the state U. G(U) is the coarse solver: one jump
over all of them. The start state U[j] of block j is refined, k = 0, 1, ...:

    U[j+1] <- G(U[j]) + C[j],    C[j] = F(U[j]) - G(U[j]) of the last full pass; before the first, the rows' own noise

    G(U) = A U + B0 D[f] + B1 (D[f] - D[f-s])                D is held at the block's first row f, or is a line

In the code a pass of F over a block is a march. G costs nothing, because D[f] is also the first row of the march.
Nothing waits for a whole refinement: a round evaluates one row in each block, the one that its march has reached, and a
new start state begins its march at once. So K refinements of M blocks take about K s + M rounds and K evaluations a
row. A start state that moves by no more than the tolerance is left as it is. A row is accepted if x[n+1] is the step
that the model gives from x[n], up to the tolerance. In the first block that always holds; at a border between blocks
it holds if the march that arrives agrees with the state from which the next block began.
Source: Lions, Maday, Turinici 2001 (parareal); Selvam et al., NeurIPS 2024 (self-refining diffusion samplers).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..system import System, expand_like
from ..validate import check_number, check_whole, named_arguments
from .base import AbstractMethod
from .scan import leading_rows, recur_rows, rms
from .work import Evaluate, Memory, Update, WindowState, pick_rows

# The tolerance of a block's start state, as a share of the solver's tolerance. With this share the median error is 0.5
# to 3 % of the solver's tolerance, and that of 1 in 100 samples 30 %.
START_SHARE = 1 / 30


class CoarseSolver(ABC):
    """How a coarse jump predicts the model along a block: D[n] = D[f] + lean[n] (D[f] - D[f-s])."""

    @abstractmethod
    def lean(self, system: System, first: Tensor, before: Tensor) -> Tensor:
        """lean (N,) of all rows, where a row's block begins at row f = first (N,) and the one before at before (N,)."""


@named_arguments
@dataclass(frozen=True)
class HeldCoarse(CoarseSolver):
    """Coarse solver of `Parareal`: the denoised estimate at the block's first step, held over the block.

    For a deterministic rule that is one DDIM step.
    """

    def lean(self, system: System, first: Tensor, before: Tensor) -> Tensor:
        return torch.zeros(len(system), dtype=torch.float64)


@named_arguments
@dataclass(frozen=True)
class LinearCoarse(CoarseSolver):
    """Coarse solver of `Parareal`, of second order: a line through the estimates of this block and the one before.

    Linear in log(alpha / sigma). Not to be confused with the noise schedule `linear`.
    """

    def lean(self, system: System, first: Tensor, before: Tensor) -> Tensor:
        level = (system.alpha.double() / system.sigma.double()).log().cpu()
        lean = (level - level[first]) / (level[first] - level[before])
        return torch.where(lean.isfinite(), lean, 0)  # the first block has none before it, and zero SNR no logarithm


@dataclass(frozen=True)
class ChainBlocks:
    """Blocks of s rows of a chain, and the jump over each at its first row, A, B0, B1 (N, 3)."""

    s: int
    jump: Tensor

    @classmethod
    def of(cls, system: System, s: int, coarse: CoarseSolver, like: Tensor) -> ChainBlocks:
        """The blocks of a system; the jump's coefficients run its own rows, so that it is of any rule."""
        n = torch.arange(len(system))
        first = n // s * s
        lean, a, b = coarse.lean(system, first, (first - s).clamp(min=0)), system.a.cpu(), system.b.sum(1).cpu()
        f = n[::s]
        jump = torch.zeros(len(f), 3, dtype=torch.float64)
        jump[:, 0] = 1
        for k in range(s):
            m = f[f + k < len(n)] + k
            taken = torch.stack([0 * a[m], b[m], b[m] * lean[m]], 1)
            jump[: len(m)] = a[m, None] * jump[: len(m)] + taken
        table = torch.zeros(len(n), 3, dtype=torch.float64)
        table[f] = jump
        return cls(s, table.to(like))

    def ahead(self, work: WindowState, D: Tensor, past: Tensor) -> Tensor:
        """G (W, B, ...) of the rows in the window, noise apart; past (1, B, ...) is the D[f] that last left it."""
        before = torch.cat([past.expand(self.s, *past.shape[1:]), D])[: len(D)]
        A, B0, B1 = (expand_like(c, D) for c in self.jump[work.n].unbind(-1))
        return A * work.x[:-1] + B0 * D + B1 * (D - before)


class BlockMarches(NamedTuple):
    """Where the marches of a window stand, see `Parareal`.

    due (W + 1, B): the row of a state that awaits the model, else -1. known (W + 1, B): whether it answered.
    promised, G (W + 1, B, ...): what the jump said at the start of a march. correction, C (W + 1, B, ...): F - G of the
    last march through. past (1, B, ...): the D[f] that last left the window.
    """

    blocks: ChainBlocks
    due: Tensor
    known: Tensor
    promised: Tensor
    correction: Tensor
    past: Tensor


@named_arguments
@dataclass(frozen=True)
class Parareal(AbstractMethod):
    """Parareal: blocks of steps at once, each started from a coarse jump over the block before it (SRDS).

    Needs about 2 evaluations a step and more rounds than the other methods. A round evaluates one state a block however
    long the window is, so a window of N steps is affordable.

    Args:
        guess: What states hold before the model has seen them.
        block: Steps in a block; None is the root of half the window, which takes the fewest rounds.
        tolerance: Of a block's start, as in `StepNoise`; None is a thirtieth of the solver's. Where it is too loose
            for that, samples are made again step by step.
        coarse: The coarse solver, `HeldCoarse()` or `Linear()`.

    Raises:
        ValueError: A block does not fit in the window, or an argument cannot be used.

    Source:
        Lions, Maday, Turinici 2001; Selvam et al. 2024.
    """

    steady: ClassVar[int | None] = 32

    block: int | None = None
    tolerance: float | None = None
    coarse: CoarseSolver = field(default_factory=HeldCoarse)

    def __post_init__(self) -> None:
        if self.block is not None:
            check_whole(
                "Parareal: block", self.block, "a whole number of rows, at least 1 and at most the window's", 1, 2**31
            )
        if self.tolerance is not None:
            needed = "a finite number, 0 (exact) or more"
            check_number("Parareal: tolerance", self.tolerance, needed, lambda v: 0 <= v < math.inf)

    def held_to(self, tolerance: float) -> Parareal:
        return replace(
            self, tolerance=START_SHARE * tolerance if self.tolerance is None or tolerance == 0 else self.tolerance
        )

    def init(self, system: System, work: WindowState) -> Memory:
        """The blocks, and the first march, which is due at the first row."""
        W, B = work.n.shape
        s = max(round(math.sqrt(W / 2)), 1) if self.block is None else self.block
        if not 1 <= s <= W:
            raise ValueError(f"Parareal: block: given {self.block}; needed: 1 to {W}, the rows in the window")
        due = torch.full((W + 1, B), -1, device=work.n.device)
        due[0] = 0  # a row's own number, so that the copies which sliding makes of the last slot are none
        zero = torch.zeros_like(work.x)
        return BlockMarches(ChainBlocks.of(system, s, self.coarse, work.x), due, due > 0, zero, zero, zero[:1])

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        blocks, due, known, G, C, past = memory
        W, s = len(work.n), blocks.s
        row = torch.arange(W + 1, device=due.device)[:, None]
        at = work.n[:1] + row  # the row of each state (W + 1, B)
        first = (at % s == 0) & (at < len(system))
        live, seen = (v.to(due.device, non_blocking=True) for v in (work.live, work.seen))
        hit = (due[:-1] == at[:-1]) & live
        asked = hit.cpu()
        (D,) = evaluate(work.x[:-1], live=asked)
        D = torch.where(expand_like(hit, D), D, work.D[-W:])
        if system.taps > 1:  # rows that no march has reached are as the jump takes them
            start = row[:-1] - at[:-1] % s  # their block's first row
            new = hit.gather(0, start.clamp(min=0)) & (start >= 0) & (seen + hit == 0)
            D = torch.where(expand_like(new, D), pick_rows(D, start.clamp(min=0)), D)
        y = system.step(work.x[:-1], torch.cat([work.D[:-W], D]), work.z, work.n)

        # every march takes along what G promised at its start, so that F - G is of one start when it arrives
        ahead = torch.where(expand_like(hit & first[:-1], y), blocks.ahead(work, D, past), G[:-1])
        marched, arrived = hit & ~first[1:], hit & first[1:]
        G = torch.cat([G[:1], torch.where(expand_like(marched, y), ahead, G[1:])])
        G[:-1] = torch.where(expand_like(first[:-1], y), ahead, G[:-1])
        C = torch.cat([C[:1], torch.where(expand_like(arrived, y), y - ahead, C[1:])])

        there, known = known | (due == at), torch.cat([known[:-1] | hit, known[-1:]])  # a state is there; and its D
        told = torch.zeros_like(there)  # a state that begins a block whose predecessor w - s has been evaluated
        told[s:] = first[s:] & (seen + hit > 0)[: W + 1 - s] & live[s - 1 :]
        C = self._noise(system, work, C, (told & ~there)[1:] & ~arrived, first)
        x, moved = self._refine(system, work, torch.cat([work.x[:s], G[:-s] + C[s:]]), told, there)
        marched |= arrived & ~(there | told)[1:]  # and where the block's first row has left the window: it was right
        x[1:] = torch.where(expand_like(marched, y), y, x[1:])
        moved[1:] |= marched

        settled = known[:-1] & ~moved[:-1] & live
        good = leading_rows(settled & (rms(x[1:] - y) <= (self.tolerance or 0) * system.std[work.n]))  # (B,)
        mend = settled & (row[:-1] == good)  # a right state whose next is not: that is then this row's own step
        x[1:] = torch.where(expand_like(mend, y), y, x[1:])
        moved[1:] |= mend
        stride = good + mend.sum(0)

        due = torch.where(moved, at, torch.where(known, -1, due))
        left = torch.where(first[:-1] & (row[:-1] < stride), row[:-1], -1).amax(0, keepdim=True)  # (1, B)
        past = torch.where(expand_like(left >= 0, y), pick_rows(D, left.clamp(min=0)), past)
        return Update(x[1:], D, y, asked, stride), BlockMarches(blocks, due, known & ~moved, G, C, past)

    def _refine(
        self, system: System, work: WindowState, U: Tensor, told: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x (W + 1, B, ...) with U where that is told and new or far from what is there; where it was (W + 1, B)."""
        far = rms(U - work.x)
        far[1:] /= system.std[work.n]
        moved = told & ((far > (self.tolerance or 0)) | ~there)
        return torch.where(expand_like(moved, U), U, work.x), moved

    def _noise(self, system: System, work: WindowState, C: Tensor, new: Tensor, first: Tensor) -> Tensor:
        """C (W + 1, B, ...) begun, at new (W, B) ends of blocks, with what their rows' own noise adds up to."""
        if work.z is None or not bool(new.any()):
            return C
        p = torch.where(first[:-1], 0, system.a[work.n])
        r = recur_rows(expand_like(system.c[work.n], C) * work.z, [p])
        return torch.cat([C[:1], torch.where(expand_like(new, r), r, C[1:])])
