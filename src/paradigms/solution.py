"""A solution that tells the truth: what was spent, what was seen, and on request what can be proved.

The verification evaluates the accepted trajectory once more, all rows in parallel, and finds by how much each row
misses its own step, r[n] = step(x)[n] - x[n+1]. A row with noise c[n] is then a Gaussian whose mean is off by r[n]:

    TV <= sum_n TV(N(0, c[n]^2), N(r[n], c[n]^2)) = sum_n erf(|r[n]| / (2 sqrt(2) c[n]))

"If every step is off by at most 2 eps c / N, the sample is within eps of the sequential sampler in total variation":
Shih et al. 2023, proposition 1, which uses the linear (Pinsker) form of the same sum. It is a worst case: it adds up
what in truth contracts, and in high dimension it passes 1 while the samples agree to a per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .execute import Evaluator
from .noise import Noise
from .pace import Expected
from .retry import Retry
from .shares import Sharing
from .stop import DOUBT
from .trace import Round, Told


@dataclass(frozen=True)
class Verification:
    """One exact look at the accepted trajectory: residual (B,), the largest RMS(r[n]) / std[n]; tv_bound (B,), <= 1.

    tv_bound bounds the total variation to the sequential sampler in the mean over samples, worst case. It is nan for a
    rule without noise, whose law no bound of this form can reach.
    """

    residual: Tensor
    tv_bound: Tensor


@dataclass(frozen=True)
class Comparison:
    """The sequential sample on the same noise (B, ...), and its seconds."""

    x: Tensor
    seconds: float


@dataclass(frozen=True)
class Solution:
    """A sample and its account.

    x (B, ...): the sample, or the last accepted state where a limit on rounds stopped it. rows: in the chain. told:
    what is kept of each frame. seconds: all of it, model_seconds: in the model. verification and comparison, where
    asked for, cost extra rows (N a sample each) that rounds and evals leave out; seconds has the verification's. chunk:
    rows that the device had room for at once, None where it had room for all. sharing: what a team of ranks spent, on
    a mesh; seconds and model_seconds are then the same on all of them. retries: samples that were made again, because
    more growth was seen than had been assumed; told is of the first attempt, rounds and evals are of all. estimate
    (B,): of the relative error, growth that was seen included, None where nothing estimates it. tolerance: what the
    criterion was held to, which is more than was asked where the numbers hold no less. reason: why rows were stepped
    through one by one, or windows taken in place of nodes, None where none was. expected: what the window that suits the chain best was to take.
    """

    x: Tensor
    rows: int
    told: tuple[Told, ...]
    seconds: float
    model_seconds: float
    verification: Verification | None = None
    comparison: Comparison | None = None
    chunk: int | None = None
    sharing: Sharing | None = None
    retries: tuple[Retry, ...] = ()
    estimate: Tensor | None = None
    tolerance: float | None = None
    reason: str | None = None
    expected: Expected | None = None

    def __repr__(self) -> str:
        n, model = len(self.done), self.model_seconds
        spent = f"{self.rounds} rounds for {self.rows} steps, {self.evals} evaluations, {self.seconds:.3g} s"
        parts = [
            f"{n} sample{'s' if n > 1 else ''} {tuple(self.x.shape)}: {self._verdict()}",
            f"{spent}, of them {model:.3g} in the model",
            self._errors(),
            f"{'stepped one by one: ' if any(each.single for each in self.told) else ''}{self.reason}"
            if self.reason
            else "",
        ]
        return "\n".join(part for part in parts if part)

    def _verdict(self) -> str:
        """What became of the samples, in words."""
        bad = {b: each for b, each in enumerate(self.status) if each != "converged"}
        if not bad:
            return "converged"
        first, why = next(iter(bad.items()))
        return f"{len(bad)} not converged; sample {first}: {why}"

    def _errors(self) -> str:
        """What is known of the error, in words; empty where nothing is."""
        known = [] if self.tolerance is None else [f"tolerance {self.tolerance:.2g}"]
        if self.estimate is not None:
            known.append(f"error estimated at {float(self.estimate.max()):.2g} at most")
        if self.max_error is not None:
            known.append(f"error against the sequential sample {self.max_error:.2g} at most")
        made = len({b for retry in self.retries for b in retry.samples})
        return ", ".join(known + ([f"{made} made again"] if made else []))

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """The window of each round, 1 for a step; the last ones of a run hold no more rows than are left."""
        every = (each for told in (self.told, *(retry.told for retry in self.retries)) for each in told)
        return tuple(each.window for each in every for _ in range(each.single or 1))

    @property
    def rounds(self) -> int:
        """Model batches one after the other."""
        return len(self.windows)

    @property
    def evals(self) -> int:
        """Rows evaluated."""
        return self.told[-1].evals + sum(retry.told[-1].evals for retry in self.retries)

    @cached_property
    def done(self) -> Tensor:
        """Rows accepted (B,)."""
        last = self.told[-1]
        return torch.tensor(last.begin) + torch.tensor(last.stride)

    @cached_property
    def sample_rounds(self) -> Tensor:
        """The rounds each sample took (B,)."""
        rounds = taken(self.told)
        for retry in self.retries:
            rounds[list(retry.samples)] += taken(retry.told)
        return rounds

    @cached_property
    def residual(self) -> Tensor:
        """The largest distance (B,), in std, of an accepted state from the step the model gave."""
        residual = torch.tensor([each.residual for each in self.told]).amax(0)
        for retry in self.retries:
            residual[list(retry.samples)] = torch.tensor([each.residual for each in retry.told]).amax(0)
        return residual

    @cached_property
    def trace(self) -> tuple[Round, ...]:
        """(begin, end, evals so far) of every round; samples that are made again begin at row 0 again."""
        trace = [round for each in self.told for round in each.rounds()]
        for retry in self.retries:
            before = trace[-1][2]
            trace += [(begin, end, before + evals) for each in retry.told for begin, end, evals in each.rounds()]
        return tuple(trace)

    @property
    def converged(self) -> bool:
        """Whether every sample reached the end of its chain, and none is known to be beyond the tolerance."""
        return all(each == "converged" for each in self.status)

    @property
    def status(self) -> tuple[str, ...]:
        """Of each sample, "converged", where it stopped, or by how much it may be beyond the tolerance."""
        estimate = [0.0] * len(self.done) if self.estimate is None else self.estimate.tolist()
        return tuple(self._status(d, e) for d, e in zip(self.done.tolist(), estimate, strict=True))

    def _status(self, done: int, estimate: float) -> str:
        if done < self.rows:
            return f"stopped at row {done} of {self.rows}"
        if self.tolerance is not None and estimate > DOUBT * self.tolerance:
            return f"the error may be {estimate:.2g}, beyond the tolerance {self.tolerance:g}"
        return "converged"

    @property
    def error(self) -> Tensor | None:
        """Relative error |x - sequential| / |sequential| of each sample (B,), where compared."""
        return None if self.comparison is None else relative_error(self.x, self.comparison.x)

    @property
    def max_error(self) -> float | None:
        """The largest relative error over the batch, where compared."""
        return None if self.error is None else float(self.error.max())

    @property
    def median_error(self) -> float | None:
        """The median relative error over the batch, where compared."""
        return None if self.error is None else float(self.error.median())


def taken(told: Sequence[Told]) -> Tensor:
    """The rounds each sample took (B,)."""
    return torch.stack([part(each) for each in told]).sum(0)


def part(told: Told) -> Tensor:
    """The rounds of a frame that each sample took part in (B,)."""
    stride = torch.tensor(told.stride)
    if told.taking is not None:
        return torch.zeros_like(stride).index_fill(0, torch.tensor(told.taking, dtype=torch.long), 1)
    return stride if told.single else (stride > 0).long()


def relative_error(x: Tensor, reference: Tensor) -> Tensor:
    """|x - reference| / |reference| of each sample (B,)."""
    return (x - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1).clamp(min=1e-30)


def verify(evaluate: Evaluator, states: Tensor, noise: Noise, window: int) -> tuple[Tensor, Verification]:
    """Evaluates the trajectory states (N + 1, B, ...) once more, `window` rows a call; also the last step's result.

    That result replaces x[N]: a last row without noise is then exact, and only rows with noise enter the bound.
    """
    system, (N, B) = evaluate.system, (len(states) - 1, states.shape[1])
    b = torch.arange(B, device=states.device)
    D = states.new_zeros((system.history, *states.shape[1:]))
    worst, bound = states.new_zeros(B), states.new_zeros(B)
    y = states[-1:]
    for begin in range(0, N, window):
        n = torch.arange(begin, min(begin + window, N), device=states.device)[:, None].expand(-1, B)
        x = states[begin : begin + len(n)]
        fresh = evaluate(x.flatten(0, 1), n.flatten(), b.repeat(len(n))).unflatten(0, (len(n), B))
        D = torch.cat([D, fresh])
        y = system.step(x, D, noise.rows(n, begin, begin + len(n)), n)
        D = D[-system.history :]
        size = (y - states[begin + 1 : begin + 1 + len(n)]).flatten(2).norm(dim=2)  # (W, B)
        worst = worst.maximum((size / states[0, 0].numel() ** 0.5 / system.std[n]).amax(0))
        c = system.c[n]
        bound = bound + torch.where(c > 0, torch.erf(size / (8**0.5 * c.clamp(min=1e-30))), 0.0).sum(0)
    silent = bool((system.c[:-1] == 0).any())
    return y[-1], Verification(worst, torch.full_like(bound, torch.nan) if silent else bound.clamp(max=1))
