"""The paper's loop, and nothing else: Shih et al. 2023, algorithm 1 (ParaDiGMS), on this library's own table.

    y[n]   = a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n]       the sampler's step from x[n]: `system.step`
    x[n+1] = x[begin] + sum_{m=begin..n} (y[m] - x[m])         all steps of the window at once: Picard iteration

`paradigms.sample(..., Picard(), tolerance=StepNoise(...))` does the same for batches, on any device, with checks, and
in the memory of the window. tests/documents/test_textbook.py holds that both take the same rounds to the same sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import paradigms as pd


def picard(
    model: Any, system: pd.System, start: Tensor, z: Tensor, window: int, tolerance: float
) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (first step of the window, steps finished, states) of each round, for one sample.

    Args:
        start: The noise x[0], (...).
        z: The noise of each step, (N, ...).
        window: Steps evaluated at once.
        tolerance: How far a state may still move, in units of the noise of its step.
    """
    N, taps = len(system), system.taps
    x = start.expand(N + 1, *start.shape).clone()  # all states begin as copies of the first
    D = x.new_zeros(taps - 1 + N, *start.shape)  # denoised estimates
    begin, end = 0, min(window, N)
    while begin < N:
        n = torch.arange(begin, end)
        # 1. Evaluate every state of the window, as one batch.
        shown = system.denoiser.show(x[begin:end], n)
        answers = model(shown, system.t[n])
        D[taps - 1 :][begin:end] = system.denoiser.read(shown, answers, n)
        # 2. Take every step from its own state, and add the steps up.
        y = system.step(x[begin:end], D[begin : end + taps - 1], z[begin:end], n)
        new = x[begin] + (y - x[begin:end]).cumsum(0)
        # 3. Find the first state that still moved. It counts as finished, too:
        #    it was computed from states that did not move.
        moved = (new - x[begin + 1 : end + 1]).flatten(1).square().mean(1).sqrt()
        still = int((moved <= tolerance * system.std[n]).long().cumprod(0).sum())
        stride = min(still + 1, end - begin)
        x[begin + 1 : end + 1] = new
        yield begin, stride, x
        # 4. Slide the window past the finished steps.
        begin, last = begin + stride, end
        end = min(begin + window, N)
        # 5. The states that enter are copies of the last one.
        x[last + 1 : end + 1] = x[last]


def main() -> None:
    """100 steps of DDPM on the landscapes that ship: rounds of the window, and the error against one step at a time."""
    from paradigms.models import load

    scenes = load("scenes")
    system = pd.ddpm(pd.linear(), steps=100, prediction=scenes.prediction).to("cpu", torch.float32)
    noise = torch.randn(len(system) + 1, *scenes.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rounds = list(picard(scenes.model, system, noise[0], noise[1:], window=16, tolerance=0.1))
    reference = pd.sequential(scenes.model, system, noise[:1], noise=noise[1:, None])
    error = float((rounds[-1][2][-1] - reference[0]).norm() / reference.norm())
    print(f"{len(rounds)} rounds for {len(system)} steps, relative error {error:.4f}")


if __name__ == "__main__":
    main()
