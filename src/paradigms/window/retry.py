"""Samples whose error may be beyond the tolerance are made again, from the first row on the same noise.

    estimate > DOUBT tolerance                                 once more at tolerance / STRICTER
    still so, or near the finest that the numbers hold         in windows of exact rows, as at tolerance 0
    rounding, too, grows beyond it, or windows hardly pay      row by row

The last alone is tried where the estimate is infinite: of a model whose answers turn against its states, see
`stopping/error_growth.py`. The estimate includes the growth that was measured after the rows before it had been
settled, see `stopping/final_error.py`: a boundary between two modes of the data may lie ahead of a window and cannot be
foreseen.
Rounding grows as other errors do, so the error of exact rows is estimated at estimate / tolerance times the finest
tolerance of the numbers. Of 8,448 samples of problems with modes 2 % were made again, and one in a thousand in the last
two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..noise import Noise
from ..stopping.final_error import DOUBT, FinalError
from ..stopping.rounding import finer_than_numbers, finest_tolerance
from .chain import Chain, RunOutcome, run_frames
from .controller import FixedWindow
from .loop import frames
from .trace import FrameRecord

# In its second attempt a sample is held to the tolerance divided by this. Chosen by hand.
STRICTER = 30.0
# Windows are tried again if the first attempt took at most this many rounds a row. Chosen by hand.
LARGEST_ROUNDS_SHARE = 0.5
# How many rows are stepped through before the controller is asked again, in the last attempt. Chosen by hand.
STEPS_AT_ONCE = 64


@dataclass(frozen=True)
class Retry:
    """Samples that were made again.

    Args:
        samples: Which of the batch.
        tolerance: What they were held to, 0 for exact rows.
        records: What is kept of their frames.
    """

    samples: tuple[int, ...]
    tolerance: float
    records: tuple[FrameRecord, ...]


class PartOfNoise:
    """The noise of some samples (M,) of a batch, drawn as the whole batch draws it."""

    def __init__(self, whole: Noise, samples: Tensor) -> None:
        self.whole, self.samples, self.x = whole, samples, whole.x[samples]

    def rows(self, n: Tensor, begin: int, end: int) -> Tensor | None:
        """z (W, M, ...) at rows n (W, M), as `Noise.rows`."""
        wide = n.new_full((len(n), len(self.whole.x)), begin)
        wide[:, self.samples] = n
        z = self.whole.rows(wide, begin, end)
        return None if z is None else z[:, self.samples]


def retry_doubtful(
    chain: Chain, first: RunOutcome, window: int, noise: Callable[[], Noise], given_up: bool = False
) -> tuple[Retry, ...]:
    """Makes the samples of the first attempt that are in doubt again, and puts them in their places.

    window: of the first attempt. noise: makes the stream anew from its first row. given_up: by another method, so that
    they are made at the tolerance that was asked before they are at a stricter one.
    """
    stop = chain.stop
    if not isinstance(stop, FinalError) or first.estimate is None:
        return ()
    dtype, rounding = chain.stream.x.dtype, chain.evaluate.rounding
    finest = finest_tolerance(dtype, rounding)
    asked, retries = max(stop.tolerance, finest), list[Retry]()
    windows, steps, exact = FixedWindow(window), FixedWindow(1, STEPS_AT_ONCE), replace(stop, tolerance=0.0)
    share = 0.0 if given_up else 1.0 if chain.method.steady else sum(r.single or 1 for r in first.records) / len(chain)
    attempts = [(stop, windows)] if given_up else []
    # Windows no longer pay after many rounds, nor where the method has its tolerance from the first attempt.
    if share <= LARGEST_ROUNDS_SHARE:
        if not finer_than_numbers(asked / STRICTER, dtype, rounding):
            attempts.append((replace(stop, tolerance=asked / STRICTER), windows))
        attempts.append((exact, windows))
    rounded = finest / asked * first.estimate  # the error of exact rows
    for again, controller in (*attempts, (exact, steps)):
        doubted = (first.estimate > DOUBT * asked).nonzero()[:, 0]
        if controller is windows and again is not stop:
            doubted = doubted[rounded[doubted] <= DOUBT * asked]
        if not len(doubted):
            continue
        part, stream = chain.evaluate.part(doubted), PartOfNoise(noise(), doubted)
        retry = replace(chain, evaluate=part, stream=stream, stop=again, controller=controller)
        run = run_frames(frames(retry), stream.x, bool(first.path))
        retries.append(Retry(tuple(doubted.tolist()), again.tolerance, tuple(run.records)))
        chain.evaluate.evaluations += part.evaluations
        first.final = first.final.index_copy(0, doubted, run.final)
        for b, states in zip(doubted.tolist(), run.path, strict=False):
            first.path[b] = states
        new = torch.zeros_like(rounded[doubted]) if run.estimate is None else run.estimate
        if again is not exact:
            rounded = rounded.index_copy(0, doubted, finest / again.tolerance * new)
        elif controller is windows:
            new = rounded[doubted]
        first.estimate = first.estimate.index_copy(0, doubted, new)
    return tuple(retries)
