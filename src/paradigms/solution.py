"""What `sample` returns: the samples, what they cost, and what is known of their error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .distributed.partition import Sharing
from .stopping.final_error import DOUBT
from .validate import counted
from .window.expected import Expected
from .window.retry import Retry
from .window.trace import FrameRecord, Span
from .window.verify import Verification


@dataclass(frozen=True, eq=False)
class Comparison:
    """The sequential samples on the same noise.

    Attributes:
        x: The samples (B, ...).
        seconds: What they took.
    """

    x: Tensor
    seconds: float


@dataclass(frozen=True, eq=False)
class Solution:
    """The samples of one call, what they cost, and what is known about their error.

    `print(solution)` says it in two lines.

    Attributes:
        x: The samples (B, ...); where `max_rounds` stopped the call, the last finished states.
        steps: Of the chain, N.
        records: What is kept of each frame.
        seconds: Of the whole call, `verify` included and `compare` not.
        model_seconds: Those spent in the model.
        verification: With `verify=True`; its N evaluations a sample are not in `rounds` and `evaluations`.
        comparison: With `compare=True`; likewise not counted.
        chunk: Largest batch that fitted in memory, None where all did.
        sharing: What the ranks of a mesh exchanged, None without a mesh.
        retries: Samples that were made again, because more growth of errors was seen than had been assumed.
        estimate: Estimated relative error (B,), None where the stopping rule estimates none.
        tolerance: What the stopping rule was held to: what was asked for, or the least that the dtype can hold.
            None for a method that gives another sample of the same law.
        reason: Why steps were made one by one, or windows taken in place of nodes; None where neither was.
        expected: What the best window was expected to cost; None where nothing was measured.
    """

    x: Tensor
    steps: int
    records: tuple[FrameRecord, ...]
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
        return f"{spent_line(self)}\n{error_line(self)}"

    @property
    def speedup(self) -> float | None:
        """Times as fast as stepping, measured with `compare=True` and else expected; None if not known."""
        if self.comparison is not None:
            return self.comparison.seconds / self.seconds
        return None if self.expected is None else self.expected.stepping_seconds / self.seconds

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """The window of each round, 1 for a single step. The last ones hold the steps that are left."""
        every = (each for records in (self.records, *(retry.records for retry in self.retries)) for each in records)
        return tuple(each.window for each in every for _ in range(each.single or 1))

    @property
    def rounds(self) -> int:
        """Model batches one after the other."""
        return len(self.windows)

    @property
    def evaluations(self) -> int:
        """Evaluations, the batch entries that the model was called with."""
        return self.records[-1].evaluations + sum(retry.records[-1].evaluations for retry in self.retries)

    @property
    def evals(self) -> int:
        """`evaluations`, by the name that the first README printed."""
        return self.evaluations

    @cached_property
    def done(self) -> Tensor:
        """Steps finished, of each sample (B,)."""
        last = self.records[-1]
        return torch.tensor(last.begin) + torch.tensor(last.stride)

    @cached_property
    def sample_rounds(self) -> Tensor:
        """Rounds that each sample took (B,)."""
        return rounds_by_sample(self.records, self.retries)

    @cached_property
    def residual(self) -> Tensor:
        """How far a finished state is from the step that the model gives from the state before, the largest (B,).

        In RMS, and in units of std[n], the noise of a DDPM step there. 0 for samples that were made step by step.
        """
        return residual_by_sample(self.records, self.retries)

    @cached_property
    def trace(self) -> tuple[Span, ...]:
        """(begin, end, evaluations so far) of every round; samples made again begin at step 0 again."""
        return trace_of_attempts(self.records, *(retry.records for retry in self.retries))

    @property
    def converged(self) -> bool:
        """Whether every sample is finished, and none is known to miss the tolerance."""
        return all(each == "converged" for each in self.status)

    @property
    def status(self) -> tuple[str, ...]:
        """Of each sample "converged", where it stopped, or by how much it may miss the tolerance."""
        estimate = [0.0] * len(self.done) if self.estimate is None else self.estimate.tolist()
        ends = zip(self.done.tolist(), estimate, strict=True)
        return tuple(sample_status(done, self.steps, error, self.tolerance) for done, error in ends)

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


def spent_line(solution: Solution) -> str:
    """What was sampled and what it took, with the speedup, or why it was stepped."""
    window = max(solution.windows, default=1)
    text = f"{counted(len(solution.done), 'sample')} in {counted(solution.steps, 'step')}: "
    text += f"{counted(solution.rounds, 'round')}, {counted(solution.evaluations, 'evaluation')}, "
    text += f"windows of up to {window}, " if window > 1 else ""
    text += f"{solution.seconds:.3g} s ({solution.model_seconds:.3g} s in the model)"
    if window > 1 and solution.speedup is not None:
        how = "expected" if solution.comparison is None else "measured"
        text += f", {solution.speedup:.2f} times as fast as stepping ({how})"
    return text + reason_words(solution)


def reason_words(solution: Solution) -> str:
    """Why steps were made one by one, or windows taken in place of nodes, as the end of a line; "" for neither."""
    if solution.reason is None:
        return ""
    return f"; {'stepped one by one, because ' if 1 in solution.windows else ''}{solution.reason}"


def error_line(solution: Solution) -> str:
    """The status, and what is known of the error."""
    bad = {b: each for b, each in enumerate(solution.status) if each != "converged"}
    parts = ["converged"]
    if bad:
        first, why = next(iter(bad.items()))
        parts = [f"{len(bad)} not converged; sample {first}: {why}"]
    if solution.estimate is not None:
        parts.append(f"relative error estimated at {float(solution.estimate.max()):.2g} at most")
    if solution.max_error is not None:
        parts.append(f"error against the sequential sample {solution.max_error:.2g} at most")
    if solution.tolerance is not None:
        parts.append(f"tolerance {solution.tolerance:.2g}")
    made = len({b for retry in solution.retries for b in retry.samples})
    return ", ".join(parts + ([f"{counted(made, 'sample')} made again"] if made else []))


def sample_status(done: int, rows: int, error: float, tolerance: float | None) -> str:
    """Of one sample, "converged", where it stopped, or by how much it may be beyond the tolerance."""
    if done < rows:
        return f"stopped at step {done} of {rows}"
    if tolerance is not None and error > DOUBT * tolerance:
        return f"the error may be {error:.2g}, beyond the tolerance {tolerance:g}"
    return "converged"


def trace_of_attempts(*attempts: Sequence[FrameRecord]) -> tuple[Span, ...]:
    """(begin, end, evaluations so far) of every round of all attempts, one after the other."""
    trace: list[Span] = []
    for records in attempts:
        before = trace[-1][2] if trace else 0
        rounds = (round for each in records for round in each.rounds())
        trace += [(begin, end, before + evaluations) for begin, end, evaluations in rounds]
    return tuple(trace)


def residual_by_sample(records: Sequence[FrameRecord], retries: Sequence[Retry] = ()) -> Tensor:
    """The largest residual of each sample (B,), of its last attempt."""
    residual = torch.tensor([each.residual for each in records]).amax(0)
    for retry in retries:
        residual[list(retry.samples)] = residual_by_sample(retry.records)
    return residual


def rounds_by_sample(records: Sequence[FrameRecord], retries: Sequence[Retry] = ()) -> Tensor:
    """The rounds that each sample took (B,), in all attempts."""
    rounds = torch.stack([frame_rounds(each) for each in records]).sum(0)
    for retry in retries:
        rounds[list(retry.samples)] += rounds_by_sample(retry.records)
    return rounds


def frame_rounds(record: FrameRecord) -> Tensor:
    """The rounds of a frame that each sample took part in (B,)."""
    stride = torch.tensor(record.stride)
    if record.taking is not None:
        return torch.zeros_like(stride).index_fill(0, torch.tensor(record.taking, dtype=torch.long), 1)
    return stride if record.single else (stride > 0).long()


def relative_error(x: Tensor, reference: Tensor) -> Tensor:
    """|x - reference| / |reference| of each sample (B,)."""
    return (x - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1).clamp(min=1e-30)
