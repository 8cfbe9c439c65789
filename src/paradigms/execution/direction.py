"""Checks that a velocity points the way that the chain goes, with a few extra rows before the first round.

m = noise - data,    dm = m(x) - m(-x),    dx = 2 x    for states x that are noise alone

At the noisy end x says nothing of the data, so that the data cancel in dm. There dm = dx whatever the data are, and
nearly so a little later. These are the cases that are told apart ("=" is approximate, within the constants below):

| at the noisy end             | at noise 0.9 | at the last row | then                                           |
| dm = -dx                     |              |                 | the velocity has the other sign: refused       |
| dm = dx, at another t alone  |              |                 | the model counts time in other units: refused  |
|                              | not dm = dx  | dm = -dx        | the data lie where the chain begins: warned of |

The last case is no proof: data wider than 2.5 in the scale of the states look the same, and data that are wider than
0.4 everywhere are not noticed. The velocity of a Gaussian is linear and leads to a Gaussian from either end. So nothing
is said of a linear velocity, one where half of x gives half of dm. For a model that was not trained, dm is neither dx
nor -dx, and nothing is said of it either.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Container

import torch
from torch import Tensor

from ..denoiser import VELOCITIES
from ..system import System
from ..validate import refusal

# The states that are asked have at least this many numbers together, so that chance is small. Chosen by hand.
LEAST_NUMBERS = 64
# At most this many states are asked. Chosen by hand.
MOST_STATES = 16
# If the first state has a smaller share of noise, nothing is concluded from it. Chosen by hand.
LEAST_NOISE = 0.95
# dm = dx if |dm - dx| / |dx| is below this, and likewise dm = -dx: halfway to an answer of 0.
EQUAL = 0.5
# At noise 0.9 dm is not dx if |dm - dx| / |dx| is above this. It was 0.1 to 0.4 for the velocities of two mixtures, and
# 1.1 or more where time ran the other way.
UNEQUAL = 0.7
# The time is in other units if |dm - dx| / |dx| is above this at the time that was given. Chosen by hand.
WRONG_UNITS = 0.7
# And if it is below this at the same time in the other units. Chosen by hand.
RIGHT_UNITS = 0.25
# The share of noise at which the second look is taken: there a small set of data shows. Chosen by hand.
LATER_NOISE = 0.9
# A chain without a row whose share of noise is so near to it is not looked at. Chosen by hand.
LATER_DISTANCE = 0.06
# A velocity is linear if |dm - 2 dm(x / 2)| / |dx| is at most this: 0 for the velocity of a Gaussian, and somewhat more
# for a network that has learned it. Chosen by hand.
LINEAR_ERROR = 0.02
# How many timesteps models count time in, where time is not in [0, 1]; 1000 is usual.
TIMESTEPS = 1000.0

# States as the model is shown them (M, ...), t (M,), samples (M,) -> answers (M, ...).
Ask = Callable[[Tensor, Tensor, Tensor], Tensor]


class DirectionWarning(UserWarning):
    """A velocity looks as if the data were where the chain begins."""


def applies(system: System) -> bool:
    """Whether a table is of a velocity, on states data + noise whose first is noise alone."""
    reader = system.denoiser
    if reader.prediction not in VELOCITIES:
        return False
    total = reader.into * (system.alpha + system.sigma)
    return bool(system.sigma[0] / total[0] >= LEAST_NOISE) and bool(((total - 1).abs() < 1e-3).all())


def is_unchecked(system: System, known: Container[object]) -> bool:
    """Whether the direction of a table's velocity is to be checked: not among what is known of its model."""
    return applies(system) and direction_key(system) not in known


def direction_key(system: System) -> tuple[object, ...]:
    """What a checked direction is remembered by: the prediction, and the units of time that the model is given."""
    return "direction", system.denoiser.prediction, float(system.t[0]), float(system.t[-1])


def check_direction(system: System, ask: Ask, x: Tensor, samples: Tensor) -> None:
    """Looks at a model through `ask`, at states of noise like x (B, ...), in the conditions of the samples (B,).

    Raises ValueError for a velocity of the other sign, or given time in other units; warns with `DirectionWarning` of
    one whose data seem to lie where the chain begins. A model that fails where it was not to be asked is let alone.
    """
    P = min(-(-LEAST_NUMBERS // x[0].numel()), MOST_STATES)
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
    if opposite < EQUAL:
        raise other_sign(system)
    if same > WRONG_UNITS:
        scale = 1 / TIMESTEPS if float(t.abs().max()) > 2 else TIMESTEPS
        if system.t.is_floating_point():
            with contextlib.suppress(Exception):
                same, _ = look(0, float(t[0]) * scale)
        if same < RIGHT_UNITS:
            raise other_units(float(t[0]), float(t[0]) * scale)
    apart = (system.sigma / (system.alpha + system.sigma) - LATER_NOISE).abs()
    later = int(apart.argmin())
    if not (0 < later < N - 1 and float(apart[later]) <= LATER_DISTANCE):
        return
    if look(later)[0] > UNEQUAL and look(N - 1)[1] < EQUAL:
        (dm, dx), (half, _) = change(later), change(later, share=0.5)
        if float((dm - 2 * half).norm() / dx.norm().clamp(min=1e-30)) <= LINEAR_ERROR:
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
