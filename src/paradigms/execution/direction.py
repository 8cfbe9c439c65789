"""Whether a velocity points the way that the chain goes, seen in a few extra rows before the first round.

m = noise - data,    dm = m(x) - m(-x),    dx = 2 x    for states x that are noise alone

At the noisy end the data are all that m does not know of x, so that dm = dx there whatever the data are, and about so a
little later. What else it may be, "=" being about so, see the constants:

| at the noisy end             | at noise 0.9 | at the last row | then                                           |
| dm = -dx                     |              |                 | the velocity has the other sign: refused       |
| dm = dx, at another t alone  |              |                 | the model counts time in other units: refused  |
|                              | not dm = dx  | dm = -dx        | the data lie where the chain begins: warned of |

The last is no proof: data wider than 2.5 in the scale of the states look the same, and data wider than 0.4 everywhere
are not noticed. A Gaussian's velocity is linear and leads to a Gaussian from either end: of a linear one, half of x
giving half of dm, nothing is said. Of a model that was not trained dm is neither, and nothing is said of it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..denoiser import VELOCITIES
from ..system import System
from ..validate import refusal

NUMBERS, MOST = 64, 16  # numbers that the states have between them, so that chance is small; states at most
NOISY = 0.95  # share of noise in the first state, below which nothing can be told from it
# |dm -+ dx| / |dx|: that counts as equal, halfway to an answer of 0; at noise 0.9, 0.1 to 0.4 for the velocities of two
# mixtures and 1.1 or more where time runs the other way
NEAR, ASTRAY = 0.5, 0.7
FAR, CLOSE = 0.7, 0.25  # the same told t as given and in other units, for the latter to be the model's
LATER, WITHIN = 0.9, 0.06  # noise: where the data of a thin set show; a chain without a level so near is not looked at
LINEAR = 0.02  # |dm - 2 dm of x / 2| / |dx| of a Gaussian's velocity, but for what a network leaves of it
UNITS = 1000.0  # timesteps that models count time in, where it is not [0, 1]

Ask = Callable[[Tensor, Tensor, Tensor], Tensor]  # states shown (M, ...), t (M,), samples (M,) -> answers (M, ...)


class DirectionWarning(UserWarning):
    """A velocity looks as if the data were where the chain begins."""


def applies(system: System) -> bool:
    """Whether a table is of a velocity, on states data + noise whose first is noise alone."""
    reader = system.denoiser
    if reader.prediction not in VELOCITIES:
        return False
    total = reader.into * (system.alpha + system.sigma)
    return bool(system.sigma[0] / total[0] >= NOISY) and bool(((total - 1).abs() < 1e-3).all())


def check_direction(system: System, ask: Ask, x: Tensor, samples: Tensor) -> None:
    """Looks at a model through `ask`, at states of noise like x (B, ...), in the conditions of the samples (B,).

    Raises ValueError for a velocity of the other sign, or given time in other units; warns with `DirectionWarning` of
    one whose data seem to lie where the chain begins. A model that fails where it was not to be asked is let alone.
    """
    P = min(-(-NUMBERS // x[0].numel()), MOST)
    noise = torch.randn(P, *x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    samples = samples.repeat(-(-P // len(samples)))[:P]
    sign = 1.0 if system.denoiser.prediction == "flow" else -1.0
    t, N = system.t.double(), len(system)

    def change(row: int, told: float | None = None, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """dm and dx of states that are such a share of noise."""
        states = share * noise * system.sigma[row]
        both = torch.cat([states, -states])
        when = (system.t[row] if told is None else system.t.new_tensor(told)).expand(len(both))
        m = sign * ask(system.denoiser.into[row] * both, when, samples.repeat(2)).to(x)
        plus, minus = m.chunk(2)
        return plus - minus, 2 * states

    def look(row: int, told: float | None = None) -> tuple[float, float]:
        """|dm - dx| / |dx| and |dm + dx| / |dx|."""
        dm, dx = change(row, told)
        size = dx.norm().clamp(min=1e-30)
        return float((dm - dx).norm() / size), float((dm + dx).norm() / size)

    same, opposite = look(0)
    if opposite < NEAR:
        raise other_sign(system)
    if same > FAR:
        scale = 1 / UNITS if float(t.abs().max()) > 2 else UNITS
        if system.t.is_floating_point():
            with contextlib.suppress(Exception):
                same, _ = look(0, float(t[0]) * scale)
        if same < CLOSE:
            raise other_units(float(t[0]), float(t[0]) * scale)
    apart = (system.sigma / (system.alpha + system.sigma) - LATER).abs()
    later = int(apart.argmin())
    if not (0 < later < N - 1 and float(apart[later]) <= WITHIN):
        return
    if look(later)[0] > ASTRAY and look(N - 1)[1] < NEAR:
        (dm, dx), (half, _) = change(later), change(later, share=0.5)
        if float((dm - 2 * half).norm() / dx.norm().clamp(min=1e-30)) <= LINEAR:
            return
        warnings.warn(other_end(system), DirectionWarning, stacklevel=2)


def other_sign(system: System) -> ValueError:
    """The error of a velocity of the other sign."""
    is_flow = system.denoiser.prediction == "flow"
    given, needed = ("data - noise", "noise - data") if is_flow else ("noise - data", "data - noise")
    other = "flow_to_data" if is_flow else "flow"
    return refusal(
        "model",
        f"a velocity that points the other way, {given}: it takes the first row, noise alone, away from the data",
        f"{needed}, which is what prediction={system.denoiser.prediction!r} says",
        f"prediction={other!r}, or lambda x, t: -model(x, t)",
    )


def other_units(told: float, right: float) -> ValueError:
    """The error of a model that counts time otherwise."""
    typed = f"lambda x, t: model(x, t * {right / told:g})"
    return refusal(
        "model",
        f"t = {told:g} at the first row, it does not answer as a velocity of noise does; told t = {right:g} it does",
        "t in the units that it was trained on",
        f"euler(times, scale={'1' if right < told else '1000'}), or {typed}",
    )


def other_end(system: System) -> str:
    """What is said of a velocity whose data seem to lie where the chain begins."""
    rising = system.denoiser.prediction == "flow_to_data"
    typed = "euler(torch.linspace(1, 0, N + 1))" if rising else "euler(torch.linspace(0, 1, N + 1))"
    return (
        f"model: told t = {float(system.t[0]):g} for noise, its velocity looks like one whose data are there and whose "
        f"noise is at t = {float(system.t[-1]):g}; if time runs the other way in it, type {typed}. Data that "
        "are wider than 2.5 in the scale of the states look the same: then ignore this (paradigms.DirectionWarning)"
    )
