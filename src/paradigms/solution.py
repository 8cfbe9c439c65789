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

from .distributed.partition import Sharing
from .execution.evaluate import Evaluator
from .noise import Noise
from .stopping.criteria import DOUBT
from .window.controller import Expected
from .window.retry import Retry
from .window.trace import Round, Told


@dataclass(frozen=True)
class Verification:
    """The finished trajectory, evaluated once more.

    Attributes:
        residual: The largest RMS distance of a state from the step before it, in units of std[n] (B,).
        tv_bound: Bounds the total variation between this sampler and the sequential one, averaged over samples (B,),
            at most 1. A worst case: large in high dimension even where samples agree. NaN for rules without noise.

    Source:
        Shih et al. 2023, proposition 1.
    """

    residual: Tensor
    tv_bound: Tensor


@dataclass(frozen=True)
class Comparison:
    """The sequential samples on the same noise.

    Attributes:
        x: The samples (B, ...).
        seconds: What they took.
    """

    x: Tensor
    seconds: float


@dataclass(frozen=True)
class Solution:
    """The samples of one call, what they cost, and what is known about their error.

    `print(solution)` says it in a few lines.

    Attributes:
        x: The samples (B, ...); where `max_rounds` stopped the call, the last finished states.
        rows: Steps in the chain, N.
        told: What is kept of each frame.
        seconds: Of the whole call, `verified` included and `compare` not.
        model_seconds: Those spent in the model.
        verification: With `verified=True`; its N evaluations a sample are not in `rounds` and `evals`.
        comparison: With `compare=True`; likewise not counted.
        chunk: Largest batch that fitted in memory, None where all did.
        sharing: What the ranks of a mesh exchanged, None without a mesh.
        retries: Samples that were made again, because more growth of errors was seen than had been assumed.
        estimate: Estimated relative error (B,), None where the stopping rule estimates none.
        tolerance: What the stopping rule was held to: what was asked for, or the least that the dtype can hold.
        reason: Why steps were made one by one, None where none was.
        expected: What the best window was expected to cost; None where nothing was measured.
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
            f"stepped one by one: {self.reason}" if self.reason else "",
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
        """The window of each round, 1 for a single step. The last ones hold the steps that are left."""
        every = (each for told in (self.told, *(retry.told for retry in self.retries)) for each in told)
        return tuple(each.window for each in every for _ in range(each.single or 1))

    @property
    def rounds(self) -> int:
        """Model batches one after the other."""
        return len(self.windows)

    @property
    def evals(self) -> int:
        """Evaluations, the batch entries that the model was called with."""
        return self.told[-1].evals + sum(retry.told[-1].evals for retry in self.retries)

    @cached_property
    def done(self) -> Tensor:
        """Steps finished, of each sample (B,)."""
        last = self.told[-1]
        return torch.tensor(last.begin) + torch.tensor(last.stride)

    @cached_property
    def sample_rounds(self) -> Tensor:
        """Rounds that each sample took (B,)."""
        rounds = taken(self.told)
        for retry in self.retries:
            rounds[list(retry.samples)] += taken(retry.told)
        return rounds

    @cached_property
    def residual(self) -> Tensor:
        """How far a finished state is from the step that the model gives from the state before, the largest (B,).

        In RMS, and in units of std[n], the noise of a DDPM step there. 0 for samples that were made step by step.
        """
        residual = torch.tensor([each.residual for each in self.told]).amax(0)
        for retry in self.retries:
            residual[list(retry.samples)] = torch.tensor([each.residual for each in retry.told]).amax(0)
        return residual

    @cached_property
    def trace(self) -> tuple[Round, ...]:
        """(begin, end, evaluations so far) of every round; samples made again begin at step 0 again."""
        trace = [round for each in self.told for round in each.rounds()]
        for retry in self.retries:
            before = trace[-1][2]
            trace += [(begin, end, before + evals) for each in retry.told for begin, end, evals in each.rounds()]
        return tuple(trace)

    @property
    def converged(self) -> bool:
        """Whether every sample is finished, and none is known to miss the tolerance."""
        return all(each == "converged" for each in self.status)

    @property
    def status(self) -> tuple[str, ...]:
        """Of each sample "converged", where it stopped, or by how much it may miss the tolerance."""
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
        """Relative error `|x - sequential| / |sequential|` of each sample (B,); None without `compare=True`."""
        return None if self.comparison is None else relative_error(self.x, self.comparison.x)

    @property
    def max_error(self) -> float | None:
        """The largest `error` of the batch; None without `compare=True`."""
        return None if self.error is None else float(self.error.max())

    @property
    def median_error(self) -> float | None:
        """The median `error` of the batch; None without `compare=True`."""
        return None if self.error is None else float(self.error.median())


def taken(told: Sequence[Told]) -> Tensor:
    """The rounds each sample took (B,)."""
    strides = ((torch.tensor(each.stride), each.single) for each in told)
    return torch.stack([s if single else (s > 0).long() for s, single in strides]).sum(0)


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
