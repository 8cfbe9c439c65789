"""Any scheduler as a table: equation (3) of `probe.py` brought into the form of equation (1).

    m[j] = (D[j] - P x[j]) / Q                                        the model's answer, in terms of D
    x[j] = (x[j+1] - sum_k b[j,k] D[j-k] - c[j] z[j]) / a[j]          earlier states, by their own row, oldest first

What is left is x[n+1] = a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n]. Which D has the fewest taps depends on the rule:

| D = P x + Q m                         | rules                                                                        |
| the denoised estimate                 | one step, DPM-Solver++, UniPC: taken where no other form has fewer taps      |
| m as it is                            | LMS, PNDM, DEIS: histories of noise estimates                                |
| the mix of x and m later rows use     | iPNDM; single-step SDE, whose earlier state cannot be had back for its noise |

A scheduler is refused where noise of an earlier row stays in all three. Every table is compared with a run of its
scheduler on a non-linear model before it is given away.

States between the first and the last are kept as the model is shown them, into[n] x[n]: the sample is the same, and a
chain whose scheduler counts in sigma of up to 157 then takes about half the rounds of Picard, measured on 50 steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Denoiser
from ...solve import sequential
from ...system import System
from ...validate import named_arguments
from .levels import levels_agree, tolerance_unit
from .prepare import check_scheduler, prepare_scheduler, refuse_scheduler
from .probe import Reading, Tap, read_steps, walk_scheduler
from .scheduler_copy import copy_scheduler

# What cancels in float64, of the terms that cancel. Chosen by hand.
TINY = 1e-10
# Of the weight of a limit: what a table may add to a row that uses a limit and nothing else of D. Chosen by hand.
FAINT = 1e-6
# The c of a row that draws noise and uses none, so that the stream of draws stays the scheduler's. Chosen by hand.
DRAWN = 1e-30
# How far a table's sample may be from its scheduler's. Chosen by hand.
EQUAL = 1e-5


@named_arguments
def from_scheduler(
    scheduler: Any,
    steps: int | None = None,
    *,
    timesteps: Sequence[int] | Tensor | None = None,
    sigmas: Sequence[float] | Tensor | None = None,
    mu: float | None = None,
    strength: float | None = None,
    original_inference_steps: int | None = None,
    eta: float | None = None,
    use_clipped_model_output: bool | None = None,
    s_churn: float | None = None,
    s_tmin: float | None = None,
    s_tmax: float | None = None,
    s_noise: float | None = None,
    more: Mapping[str, Any] | None = None,
) -> System:
    """Reads the table of a diffusers scheduler off the scheduler itself; the result equals running it.

    The scheduler is left as it was. A scheduler that calls the model twice a step has two rows a step.

    Args:
        scheduler: Any diffusers scheduler whose step is linear in the model's output and the noise.
        steps: As its `set_timesteps` takes it; None where `timesteps` or `sigmas` say it.
        timesteps, sigmas, mu, strength, original_inference_steps: Arguments of its `set_timesteps`.
        eta, use_clipped_model_output, s_churn, s_tmin, s_tmax, s_noise: Arguments of its `step`; None is its default.
        more: Arguments that only some scheduler has, by name.

    Returns:
        A `System`. Starting noise and sample are in the scheduler's units.

    Raises:
        ValueError: (as `SchedulerError`) It cannot be written as a table. The message says why, and what to type.

    Example:
        >>> import diffusers, paradigms as pd
        >>> len(pd.from_scheduler(diffusers.DDIMScheduler(), steps=50))
        50
    """
    given = {
        "timesteps": timesteps, "sigmas": sigmas, "mu": mu, "strength": strength,
        "original_inference_steps": original_inference_steps, "eta": eta,
        "use_clipped_model_output": use_clipped_model_output, "s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax,
        "s_noise": s_noise,
    }  # fmt: skip
    check_scheduler(scheduler, steps, more, {k: v for k, v in given.items() if v is not None})
    how = {k: v for k, v in given.items() if v is not None} | dict(more or {})
    ready, step = prepare_scheduler(scheduler, steps, how)
    try:
        reading = read_steps(copy_scheduler(ready), step)
        system = _table(reading, float(getattr(ready, "init_noise_sigma", 1.0)))
        error = _difference(ready, system, step)
    except NotImplementedError as reason:
        raise refuse_scheduler(scheduler, str(reason)) from reason
    except Exception as reason:  # whatever a scheduler raises on a plain state, it is no table
        raise refuse_scheduler(
            scheduler, f"it cannot be run on a plain state: {type(reason).__name__}: {reason}"
        ) from reason
    if not error <= EQUAL:
        raise refuse_scheduler(
            scheduler, f"its table is off by {error:.1e}, so it is not linear in the model and the noise"
        )
    return system


# ------------------------------------------------------------------------------------------ equation (3) to (1)


def _table(reading: Reading, start: float) -> System:
    """The table with the fewest taps; of equals the one of the denoised estimate."""
    one = torch.ones_like(reading.P)
    limited = reading.clip is not None or reading.threshold is not None
    levels, std = _levels(reading, start)
    readable = bool(torch.isfinite(reading.P / reading.Q).all())
    if limited and not readable:
        raise NotImplementedError("it limits an estimate that holds nothing of what the model says")
    forms = [(reading.P, reading.Q)] if readable and (limited or levels) else []
    if not limited:
        forms += [(0 * one, one), (_mix(reading), one)]
    found, reason = [], ""
    for P, Q in forms:
        try:
            found.append((*_eliminate(reading, P, Q), P, Q))
        except NotImplementedError as error:
            reason = str(error)
    if not found:
        raise NotImplementedError(reason)
    a, b, c, G, P, Q = min(found, key=lambda form: form[1].shape[1])
    alpha, sigma = levels if levels and P is reading.P else (0 * one, 1 / reading.into)
    b, gain = _gain(b, G) if limited else (b, one)
    reader = Denoiser(reading.into, P / reading.into, Q, gain, reading.clip, reading.threshold)
    c = torch.where((c == 0) & (reading.draws > 0), DRAWN, c)
    return as_shown(System(reading.t, a, b, c, std, alpha, sigma, reader, start))


def as_shown(system: System) -> System:
    """The same chain with every state between the first and the last times into[n], which is 1 for the rows after."""
    into = system.denoiser.into
    k = torch.cat([into.new_ones(1), into[1:]])
    after = torch.cat([into[1:], into.new_ones(1)])  # the scale of x[n+1]
    a, b, c, std = system.a * after / k, system.b * after[:, None], system.c * after, system.std * after
    reader = replace(system.denoiser, into=into / k)
    return replace(system, a=a, b=b, c=c, std=std, alpha=system.alpha * k, sigma=system.sigma * k, denoiser=reader)


def _levels(reading: Reading, start: float) -> tuple[tuple[Tensor, Tensor] | None, Tensor]:
    """alpha and sigma (N,), None where they are not known, and std (N,)."""
    alpha, sigma = reading.alpha, reading.sigma
    B = reading.M / reading.Q
    X = reading.X - B * reading.P
    variance = reading.Z.square().sum((1, 2))
    alpha_next, sigma_next = X @ alpha + B.sum(1), ((X @ sigma) ** 2 + variance).sqrt()
    if not levels_agree(alpha, alpha_next):
        return None, torch.where(variance > 0, variance.sqrt(), start / len(alpha))
    return (alpha, sigma), tolerance_unit(alpha, sigma, alpha_next, sigma_next, least=start / len(alpha))


def _mix(reading: Reading) -> Tensor:
    """P (N,) of the mix P x[j] + m[j] that rows after j use; 0 where they use none, or not in one proportion."""
    P = torch.zeros_like(reading.P)
    for j in range(len(P) - 1):
        x, m = reading.X[j + 1 :, j], reading.M[j + 1 :, j]
        if bool((m != 0).any()):
            ratio = x[m != 0] / m[m != 0]
            P[j] = ratio[0] if torch.allclose(ratio, ratio[:1], rtol=TINY, atol=TINY) else 0
    return P


def _eliminate(reading: Reading, P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a (N,), b (N, K), c (N,), and G (N, N) on g[j]; raises NotImplementedError where (1) has no room for a term."""
    N = len(P)
    B = reading.M / Q
    X = reading.X - B * P
    X = torch.where(X.abs() <= TINY * (reading.X.abs() + (B * P).abs()), 0, X)
    rest = torch.cat([B, reading.G, reading.Z.flatten(1)], 1)  # (N, 4N)
    largest = rest.abs()
    for j in range(N - 1):
        later = X[j + 1 :, j].nonzero()[:, 0] + j + 1  # rows that go back to x[j]
        if not len(later):
            continue
        if X[j, j] == 0:
            raise NotImplementedError(f"row {int(later[0])} goes back to the state of row {j}, which is not kept")
        w = X[later, j] / X[j, j]
        X[later, j + 1] += w
        moved = w[:, None] * rest[j]
        rest[later] -= moved
        largest[later] = largest[later].maximum(moved.abs())
    rest = torch.where(rest.abs() <= TINY * largest, 0, rest)
    B, G, Z = rest.split([N, N, 2 * N], 1)
    Z = Z.unflatten(1, (N, 2))
    own = Z.diagonal().T  # (N, 2)
    past = Z.abs().sum(2).tril(-1)
    if bool((past > 1e-7 * own.abs().amax()).any()):
        row = int(past.amax(1).argmax())
        raise NotImplementedError(f"row {row} uses noise that an earlier row drew; a table has room for a row's own")
    if bool((own != 0).all(1).any()):
        raise NotImplementedError("it adds two noises in one step; a table has room for one")
    return X.diagonal().clone(), _taps(B), own.sum(1), G


def _taps(B: Tensor) -> Tensor:
    """b (N, K) of B (N, N): the diagonals down to the last that is not 0."""
    row, column = (B.abs() > TINY * B.abs().amax(1, keepdim=True)).nonzero().unbind(1)
    K = int((row - column).max()) + 1 if len(row) else 1
    b = B.new_zeros(len(B), K)
    for k in range(K):
        b[k:, k] = B.diagonal(-k)
    return b


def _gain(b: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    """b (N, K), and how far a limit of D[j] moves it (N,): G[n,j] / B[n,j], the same in all rows n that use it.

    A row that ends at the level it began at would not use D, but DDIM's still uses the limit: it gets a b that is
    small beside the limit's weight, so that there is something to multiply.
    """
    own, n = G.diagonal(), torch.arange(len(b))
    b = b.clone()
    b[:, 0] = torch.where(b[:, 0].abs() < FAINT * own.abs(), FAINT * own, b[:, 0])
    B = torch.stack([torch.diag_embed(b[k:, k], -k) for k in range(b.shape[1])]).sum(0)
    most = B.abs().argmax(0)
    gain = torch.where(B[most, n] == 0, 1.0, G[most, n] / B[most, n])
    if not torch.allclose(G, gain * B, rtol=1e-6, atol=1e-9):
        raise NotImplementedError("it limits the data estimate in one place and not in another")
    return b, gain


def _difference(ready: Any, system: System, step: dict[str, Any]) -> float:
    """The relative distance of the table's sample from the scheduler's, on one noise and a model that bends."""
    shape, generator, row = (1, 3, 4, 4), torch.Generator().manual_seed(0), 0
    x = system.noise(shape, generator, dtype=torch.float64)
    z = torch.randn((len(system), *shape), generator=generator, dtype=torch.float64)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x + x.flip(-1) / 2) + torch.sin(t.double() / 300).reshape(-1, 1, 1, 1) / 2

    def state(n: int, y: Tensor | None) -> Tensor:
        nonlocal row
        row = n
        return x.clone() if y is None else y

    with torch.no_grad(), Tap(shape, lambda: z[row].clone()):
        *_, theirs = walk_scheduler(ready, state, lambda n, t, shown: model(shown, t[None]), step)
    ours = sequential(model, system, x, noise=z)
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-30))
