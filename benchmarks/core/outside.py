"""The outside reference: ParaDiGMS as diffusers runs it, driven live through diffusers' own parallel schedulers.

    y[n] = batch_step_no_noise(model(x[n]), t[n], x[n])                  rows [begin, end), one batch
    x'[n+1] = x[begin] + sum_{m = begin..n} (y[m] - x[m] + s[m] z[m])    s^2 = the scheduler's _get_variance
    e[n] = |x'[n+1] - x[n+1]|^2 / (d s[n+1]^2),    s[N] = 0
    begin <- begin + min(1 + first n with e[n] > tolerance^2, window);   rows that enter are copies of the last

Written from the algorithm of StableDiffusionParadigmsPipeline, with its off-by-one (a state is measured in the noise of
the row after) and its division by zero at the end (the last state is never settled). One sample at a time: a batch
there waits for its slowest sample. Source: diffusers 0.3x-0.4x, pipelines StableDiffusionParadigms; Shih et al. 2023.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paradigms.execution.chunked import Model

AGREE = 1e-4
TONGUE = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
TOLERANCES = (0.1, 0.01, 0.001, 1e-4)


class Run(NamedTuple):
    """A sample (1, ...), and the rounds and rows it took."""

    x: Tensor
    rounds: int
    evaluations: int


def available(rule: str) -> bool:
    """Whether diffusers is installed and has a parallel scheduler for a rule such as DDIM-50."""
    return rule.startswith(("DDIM", "DDPM")) and find_spec("diffusers") is not None


def scheduler(rule: str, steps: int, prediction: str) -> Any:
    """diffusers' DDIMParallelScheduler or DDPMParallelScheduler, on the linear schedule, for a rule such as DDIM-50."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
    kind = {"DDIM": "DDIMParallelScheduler", "DDPM": "DDPMParallelScheduler"}[rule.split("-")[0]]
    made = getattr(diffusers, kind)(clip_sample=False, prediction_type=TONGUE[prediction])
    made.set_timesteps(steps)
    return made


class Start(NamedTuple):
    """What a sample begins with: x (1, ...), its noise (N, 1, ...) and its condition (1, ...)."""

    x: Tensor
    noise: Tensor | None
    condition: dict[str, Tensor]


def loop(scheduler: Any, model: Model, start: Start, window: int, tolerance: float) -> Run:
    """One sample; a window of 1 is sequential."""
    x, noise, condition = start
    t, N = scheduler.timesteps, len(scheduler.timesteps)
    variance = torch.tensor([float(scheduler._get_variance(v)) for v in t] + [0.0])
    drawn = torch.zeros(N, *x.shape) if noise is None else variance[:N].sqrt().view(-1, *(1,) * x.ndim) * noise
    unit = 1 / (variance * x[0].numel())
    states = x.expand(N + 1, *x.shape).clone()  # (N + 1, 1, ...)
    begin, end, rounds, evaluations = 0, min(window, N), 0, 0
    while begin < N:
        old, W = states[begin:end, 0], end - begin
        how = {k: v.expand(W, *v.shape[1:]) for k, v in condition.items()}
        with torch.no_grad():
            m = model(old, t[begin:end], **how)
        y = scheduler.batch_step_no_noise(m, t[begin:end], old)
        new = states[begin, 0] + (y - old + drawn[begin:end, 0]).cumsum(0)
        error = (new - states[begin + 1 : end + 1, 0]).flatten(1).square().sum(1) * unit[begin + 1 : end + 1]
        moved = (error > tolerance**2).nonzero()  # inf times 0 is nan, which has not moved
        stride = min(1 + (int(moved[0]) if len(moved) else W), W)
        states[begin + 1 : end + 1, 0] = new
        begin, last = begin + stride, end
        end = min(begin + window, N)
        states[last + 1 : end + 1] = states[last]
        rounds, evaluations = rounds + 1, evaluations + W
    return Run(states[-1], rounds, evaluations)


def agree(scheduler: Any, model: Model, start: Start, reference: Tensor) -> float:
    """The relative error of its sequential run to ours; raises RuntimeError above 1e-4.

    Otherwise the two would be compared on different chains.
    """
    own = loop(scheduler, model, start, 1, 0.0)
    off = float((own.x - reference).norm() / reference.norm())
    if not off <= AGREE:
        raise RuntimeError(f"outside: diffusers' sequential run is {off:.2g} from ours; needed: at most {AGREE:g}")
    return off
