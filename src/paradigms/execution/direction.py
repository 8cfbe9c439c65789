"""Whether a velocity points the way that the chain goes, seen in a few extra rows before the first round.

m = noise - data,    dm = m(x) - m(-x),    dx = 2 x,    g = <dm, dx> / |dx|^2    for states x that are noise alone

At the noisy end the data are all that m does not know of x, so that dm = dx there whatever the data are. What else it
may be, "=" being about so, see the constants:

| at the noisy end             | at noise 0.9 | at the last row | then                                           |
| dm = -dx                     |              |                 | the velocity has the other sign: refused       |
| dm = dx, at another t alone  |              |                 | the model counts time in other units: refused  |
|                              | g < -0.3     | dm = -dx        | the data lie where the chain begins: warned of |

The last is no proof: data that are wider than 3 in the scale of the states look the same. Of a model that was not
trained dm is neither, and nothing is said of it.
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

FEW = 4  # samples that are looked at
NOISY = 0.95  # share of noise in the first state, below which nothing can be told from it
NEAR, AGAINST = 0.5, -0.3  # |dm -+ dx| / |dx| that counts as equal: halfway to an answer of 0; g against the state
FAR, CLOSE = 0.7, 0.25  # the same told t as given and in other units, for the latter to be the model's
LATER = 0.9  # noise: where the data of a thin set show
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
    """Looks at a model through `ask`, at first states x (B, ...) of the samples (B,).

    Raises ValueError for a velocity of the other sign, or told of time in other units; warns with `DirectionWarning` of
    one whose data seem to lie where the chain begins. A model that fails where it was not to be asked is let alone.
    """
    x, samples = x[:FEW], samples[:FEW]
    sign = 1.0 if system.denoiser.prediction == "flow" else -1.0
    t, N = system.t.double(), len(system)

    def look(row: int, told: float | None = None) -> tuple[float, float, float]:
        """g, |dm - dx| / |dx| and |dm + dx| / |dx|."""
        states = x * (system.sigma[row] / system.sigma[0])
        both = torch.cat([states, -states])
        when = (system.t[row] if told is None else system.t.new_tensor(told)).expand(len(both))
        m = sign * ask(system.denoiser.into[row] * both, when, samples.repeat(2)).to(x)
        plus, minus = m.chunk(2)
        dm, dx = plus - minus, 2 * states
        size = dx.norm().clamp(min=1e-30)
        same, opposite = (float((dm - way * dx).norm() / size) for way in (1, -1))
        return float((dm * dx).sum() / size**2), same, opposite

    _, same, opposite = look(0)
    if opposite < NEAR:
        raise other_sign(system)
    if same > FAR:
        scale = 1 / UNITS if float(t.abs().max()) > 2 else UNITS
        if system.t.is_floating_point():
            with contextlib.suppress(Exception):
                same = look(0, float(t[0]) * scale)[1]
        if same < CLOSE:
            raise other_units(float(t[0]), float(t[0]) * scale)
    later = int((system.sigma / (system.alpha + system.sigma) <= LATER + 1e-6).int().argmax())
    if 0 < later < N - 1 and look(later)[0] < AGAINST and look(N - 1)[2] < NEAR:
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
        f"noise is at t = {float(system.t[-1]):g}; if time runs the other way in it, type {typed}. Data that are wider "
        "than 3 in the scale of the states look the same: then ignore this (paradigms.DirectionWarning)"
    )
