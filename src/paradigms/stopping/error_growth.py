"""How much more a change grows along the chain than the model of Gaussian data predicts:

    rho[n] = |a dX + b dD| / |a dX + b j[n] dX|
    S[n+1] = rho[n] (S[n] + each[n])

Between two evaluations of row n, the state changed by dX and the model's answer by dD. j[n] is the slope dD/dX of
Gaussian data, one number for each frequency band. rho is 1 where nothing was measured, and far above 1 near a boundary
between two modes of the data.

The mean of the data given the state is the gradient of a convex function of the state, whatever the data are, so
dX dD is never negative. Of a model that is no denoiser it may be:

    along[n] = |b| dX dD / (|dX| |a dX + b j dX|),    against = sum max(-along, 0) / sum |along|

Where `against` is large and rho, too, the secants say nothing of what a smaller change would become: a sine of the
state turns more often, and an error grows more, than a large dX shows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..methods.spectrum import Spectrum
from ..methods.work import Update, WindowState
from ..system import System
from .arithmetic import Arithmetic, Number

if TYPE_CHECKING:
    from .table_facts import RowFacts

# The smallest rho: if a row seems to shrink a change by more, it may have been measured in another direction. Chosen by
# hand.
LEAST_GROWTH = 0.5
# The largest rho, the same bound as `table_facts.LARGEST_GROWTH`. Chosen by hand.
LARGEST_GROWTH = 100.0
# A state must have moved by this many times its rounding for rho to be measured. Chosen by hand.
MEASURABLE_CHANGE = 25.0

# The sums of dX dX and of dX dD by band (k, B, F), and the norm of dD (k, B), of the k rows evaluated before.
Secant = tuple[Tensor, Tensor, Tensor]


class Change(NamedTuple):
    """How a row and its answer changed between two evaluations.

    Attributes:
        XX: The sum of dX dX.
        usual: That of (a + b j)^2 dX dX.
        XD: The sum of dX dD.
        D: The norm of dD.
        x: The norm of the state.
    """

    XX: Number
    usual: Number
    XD: Number
    D: Number
    x: Number

    def growth(self, m: Arithmetic, row: RowFacts, rounding: float) -> Number:
        """rho of a row; no number where its state moved too little, for the relative rounding of state and answer."""
        found = row.a**2 * self.XX + row.b * (2 * row.a * self.XD + row.b * self.D * self.D)
        square = found / m.maximum(m.maximum(self.usual, 1e-12 * self.XX), 1e-300)
        square = m.where(square == square, square, 1.0)
        rho = m.sqrt(m.minimum(m.maximum(square, LEAST_GROWTH**2), LARGEST_GROWTH**2))
        rho = m.where(row.least < 0, m.maximum(rho, 1.0), rho)  # a limit that moves bends what it shrinks
        return m.where(m.sqrt(self.XX) > MEASURABLE_CHANGE * rounding * self.x, rho, math.nan)

    def along(self, m: Arithmetic, row: RowFacts) -> Number:
        """How much of the row's growth comes from the answer along the state's change; 0 where that says nothing."""
        allowed = row.least / m.maximum(row.alpha, 1e-12) * self.XX  # a limit that moves turns answers so far
        each = abs(row.b) * (self.XD - allowed) / m.sqrt(m.maximum(self.XX * self.usual, 1e-300))
        return m.where((row.alpha > 0) & (abs(each) < math.inf), each, 0.0)  # of alpha 0 it is no estimate of the data


def observed_secants(work: WindowState, sweep: Update, s: Spectrum) -> Secant | None:
    """The `Secant` of the k rows of the window that were evaluated before; None where there is none."""
    k = work.revisited_rows
    if not k or work.before is None:
        return None
    dX = s.forward(work.x[:k] - work.before()[:k])
    dD = s.forward(sweep.D[:k] - work.D[-len(sweep.D) :][:k])
    return s.sums(dX, dX), s.sums(dX, dD), torch.linalg.vector_norm(dD, dim=(2, 3))


def gaussian_slope(system: System, variance: Tensor) -> Tensor:
    """j (N, F), the slope of the model of Gaussian data of `variance` (F,)."""
    alpha, sigma = system.alpha[:, None], system.sigma[:, None]
    return alpha * variance / (alpha**2 * variance + sigma**2).clamp(min=1e-30)
