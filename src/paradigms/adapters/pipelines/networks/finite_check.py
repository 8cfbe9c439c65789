"""Answers of networks that are not finite stop the call, with the network, the step and the sample.

    sum(answer) of each sample finite?      noted where it is answered, read together: one wait for the device

A state that is a guess may be anything, and so may the answer to it: of a window only what the first row was answered
counts, whose state is right; the rows from another such answer on are evaluated again when the window comes to them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ....execution.evaluate import NonFiniteError
from .network_call import is_sample


class FiniteCheck:
    """Which answers of a loop of N steps at `times` were finite."""

    def __init__(self, N: int, times: list[Any]) -> None:
        self.N, self.times = N, times
        self.noted: list[tuple[int, str, int, Tensor]] = []

    def note(self, row: int, network: nn.Module, said: Any, width: int) -> None:
        """An answer of a network in a row."""
        if (good := finite_samples(said)) is not None:
            self.noted.append((row, type(network).__name__, width, good))

    def check(self) -> None:
        """Raises NonFiniteError for the first answer noted that is not finite."""
        for row, name, width, good in self.bad():
            self.noted.clear()
            sample = int((~good).nonzero()[0]) % max(width, 1)
            t = self.times[row]
            raise NonFiniteError(
                f"{name}: its answer is not finite at step {row} of {self.N} (t = {float(t):g}), sample {sample}; "
                "check the weights and the inputs, or run the pipeline in float32 or bfloat16"
            )
        self.noted.clear()

    def bad(self) -> list[tuple[int, str, int, Tensor]]:
        """What was noted that is not finite, by row."""
        flags = [good.all() for *_, good in self.noted]
        fine = (
            torch.stack([f.cpu() if len({g.device for g in flags}) > 1 else f for f in flags]).tolist() if flags else []
        )
        return sorted((each for each, ok in zip(self.noted, fine, strict=True) if not ok), key=lambda each: each[0])


def finite_samples(said: Any) -> Tensor | None:
    """Whether what answers the sample is finite, of each of its samples (M,); None where nothing does."""
    main = next((v for v in tree_flatten(said)[0] if is_sample(v)), None)
    return None if main is None else torch.isfinite(main).flatten(1).all(1)
