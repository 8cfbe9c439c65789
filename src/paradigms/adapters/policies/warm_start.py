"""A warm start: what the last chunk came to is the first guess of the next.

In receding-horizon control a chunk of T actions begins s actions after the one before it, so its actions 0..T-s-1 were
there before, as s..T-1, and of the others the last is the best guess. In the language of equation (2): before a call's
first round the stand-in of row n is the denoised estimate that row n of the last call ended with, shifted,

    x[n+1] = a[n] x[n] + b[n] D_last[n] + c[n] z[n],    D_last[n, i] <- D_last[n, min(i + s, T - 1)]

and 0 where there was no last call. Rows that enter the window later are guessed from this call's own estimates, which
by then know more: carrying D_last on takes a round more, measured. The default method also begins with the sums X, Y
from which the last call learned the network's Jacobian, see `methods/spectral.py`. Noise is the call's own, so the
answer is the policy's own loop's for the same generator; a bad guess costs rounds and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...methods.base import AbstractMethod
from ...methods.guess import Guess
from ...methods.scan import recur_rows
from ...methods.spectral import LastRound, LearnedSecants, Spectral
from ...methods.work import Evaluate, Memory, Update, WindowState
from ...noise import Generators
from ...stopping.base import AbstractStop
from ...stopping.final_error import FinalError
from ...system import System, expand_like
from ...window.controller import WindowController
from ...window.frame import Frame

# Times the margin where a window holds the whole chain: errors then are what they are from a cold start. Chosen by
# hand.
WARY = 1.5


@dataclass(frozen=True)
class RecalledGuess(Guess):
    """`guess`, but the first window is run on D (N, B, T, A), each row's own estimate."""

    guess: Guess
    D: Tensor

    def fill(self, system: System, work: WindowState, known: Tensor) -> Tensor:
        if any(work.begin) or bool(known.any()):
            return self.guess.fill(system, work, known)
        n = work.n  # rows 0..W-1 of every sample
        D = torch.cat([work.D[: len(work.D) - len(n)], self.D.to(work.D)[n[:, 0]]])
        r = system.step(torch.zeros_like(work.x[1:]), D, work.z, n)
        p = system.a[n]
        r[0] += expand_like(p[:1], r)[0] * work.x[0]
        return torch.cat([work.x[:1], recur_rows(r, [p])])


@dataclass(frozen=True)
class RecalledSpectral(Spectral):
    """`Spectral`, but it begins with the sums of secants (2, N, B, F), and leaves the latest in `learned`."""

    compiles: ClassVar[bool] = False  # it writes to a list

    sums: Tensor | None = None
    learned: list[Tensor] = field(default_factory=list)

    def begun(self, system: System, x: Tensor) -> LearnedSecants:
        known = super().begun(system, x)
        if self.sums is None or self.sums.shape != known.sums.shape:
            return known
        return replace(known, sums=self.sums.to(known.sums))  # the policy may have another dtype or device by now

    def sweep(self, system: System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        update, after = super().sweep(system, work, evaluate, memory)
        assert isinstance(after, LastRound)
        self.learned[:] = [after.known.sums]
        return update, after


@dataclass(frozen=True)
class ChunkMemory:
    """What a call ended with, and its samples' generators, where given.

    D: estimates (N, B, T, A) of a table's rows. learned: the sums of secants (2, N, B, F) of its last round,
    where its method is the default.
    """

    system: System
    who: Sequence[torch.Generator] | None
    D: Tensor
    learned: list[Tensor] = field(default_factory=list)

    def recall(
        self, system: System, x: Tensor, generator: Generators | None, stride: int
    ) -> tuple[Tensor, Tensor | None] | None:
        """D and the sums for a call from x that begins `stride` actions later; None where it is about something else.

        Samples with generators of their own are known by them, wherever in the batch they are now, and begin cold where
        they are new; others by their place in a batch of the same size.
        """
        who = generator_per_sample(generator)
        if system is not self.system or x.shape[1:] != self.D.shape[2:] or (who is None) != (self.who is None):
            return None
        D, sums = shift_chunk(self.D, stride), next(iter(self.learned), None)
        if who is None or self.who is None:
            return (D, sums) if len(x) == D.shape[1] else None
        place = [next((i for i, g in enumerate(self.who) if g is mine), -1) for mine in who]
        if sums is not None:
            sums = at_places(sums, place, 2) if sums.shape[2] == D.shape[1] else None
        return at_places(D, place, 1), sums

    def method(self, method: AbstractMethod, guess: Guess, sums: Tensor | None) -> AbstractMethod:
        """The method from this guess; the default from these sums, too, and this memory takes what it learns."""
        if type(method) is not Spectral:
            return replace(method, guess=guess)
        settings = {f.name: getattr(method, f.name) for f in fields(method)}
        return RecalledSpectral(**settings | {"guess": guess}, sums=sums, learned=self.learned)


def with_margin(stop: AbstractStop, window: int | str | WindowController, system: System) -> AbstractStop:
    """The criterion of a warm call: where all rows begin near their ends, what is off shows less, and counts more."""
    whole = isinstance(window, int) and window >= len(system)
    return replace(stop, margin=WARY * stop.margin) if whole and isinstance(stop, FinalError) else stop


def generator_per_sample(generator: Generators | None) -> Sequence[torch.Generator] | None:
    """The generators, where there is one a sample."""
    return None if generator is None or isinstance(generator, torch.Generator) else list(generator)


def at_places(v: Tensor, place: Sequence[int], axis: int) -> Tensor:
    """v with the samples at these places of an axis, 0 where a place is -1."""
    here = torch.tensor(place, device=v.device)
    known = (here >= 0).view(-1, *[1] * (v.ndim - axis - 1))
    return torch.where(known, v.index_select(axis, here.clamp(min=0)), 0)


def shift_chunk(D: Tensor, stride: int) -> Tensor:
    """D (..., T, A) as it is `stride` actions later, its last action repeated."""
    T = D.shape[-2]
    return D[..., (torch.arange(T, device=D.device) + stride).clamp(max=T - 1), :]


def record_estimates(frames: Iterator[Frame], D: Tensor) -> Iterator[Frame]:
    """The frames; D (N, B, ...) takes the estimates of the rows that each accepts."""
    for frame in frames:
        row = torch.arange(len(frame.D))[:, None]
        w, b = (row < frame.stride).nonzero(as_tuple=True)
        n = (row + frame.begin)[w, b]
        D[n.to(D.device), b.to(D.device)] = frame.D[w.to(D.device), b.to(D.device)].to(D)
        yield frame
