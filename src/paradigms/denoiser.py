"""Turns the model's output m into a denoised estimate D, so that a rule need not know what the model predicts:

    D = p[n] (into[n] x) + q[n] m,    m = model(into[n] x, t[n])
    epsilon: p = 1/A, q = -S/A    v: p = A, q = -S    flow: p = 1, q = -S    x0: p = 0, q = 1
    flow_to_data: p = 1, q = S

A and S are the signal and the noise in what the model is shown. `flow` is the velocity noise - data, `flow_to_data` the
velocity data - noise of models whose data are at t = 1. A clip or a threshold moves D towards its limit:

    D <- D + gain[n] (limit(D) - D)

gain is 1, but where a rule clips the data and not the noise direction (DDIM as in diffusers) it is the larger number
that says the same in one D. There alpha dD/dx falls to 1 - gain, and a + b dD/dx stays between 0 and a. So equation
(1) stays linear in D: clip first, then freeze.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .validate import check_choice, check_number, in_words, is_number, refusal

# What a model may predict; the equations above say how each is read.
PREDICTIONS = ("epsilon", "v", "flow", "x0", "flow_to_data")
# The names of these predictions in other libraries, for a message that says what to type.
OTHER_NAMES = {
    "sample": "x0", "x_start": "x0", "pred_x0": "x0", "data": "x0", "noise": "epsilon", "pred_noise": "epsilon",
    "v_prediction": "v", "pred_v": "v", "velocity": "v", "flow_prediction": "flow", "rectified_flow": "flow",
}  # fmt: skip
# The predictions that are velocities: their direction can be mistaken, see `execution/direction.py`.
VELOCITIES = ("flow", "flow_to_data")


@dataclass(frozen=True, eq=False)
class Denoiser:
    """What the model says, read as an estimate of the data at each row of a chain: made by `make_denoiser`.

    Args:
        into: What states are multiplied by before the model sees them (N,).
        p, q: The estimate is p times what the model was shown plus q times what it said (N,).
        gain: What a limit's correction is multiplied by (N,), see `denoiser.py`.
        clip: The estimate is kept within [-clip, clip]; None for no limit.
        threshold: (quantile, maximum) of a dynamic threshold, in place of a clip.
        prediction: What the model says, by its name; None where only the table knows.
    """

    into: Tensor
    p: Tensor
    q: Tensor
    gain: Tensor
    clip: float | None = None
    threshold: tuple[float, float] | None = None
    prediction: str | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Denoiser:
        """The same reader with its coefficients on `device` in `dtype`."""
        return replace(self, **{k: getattr(self, k).to(device, dtype) for k in ("into", "p", "q", "gain")})

    def show(self, x: Tensor, n: Tensor) -> Tensor:
        """What the model is given for states x (M, ...) at rows n (M,): x itself where `into` is 1 throughout."""
        return x if self._as_it_is else _each(self.into[n], x) * x

    def read(self, shown: Tensor, m: Tensor, n: Tensor) -> Tensor:
        """D (M, ...) from what the model was shown and said, both (M, ...), at rows n (M,)."""
        rows = self._columns[:, n]
        return self.read_rows(shown, m, *rows.reshape(*rows.shape, *(1,) * (m.ndim - 1)).unbind())

    def read_rows(self, shown: Tensor, m: Tensor, p: Tensor, q: Tensor, gain: Tensor) -> Tensor:
        """The same, by the numbers of the rows, which multiply states as they are."""
        D = (p * shown).addcmul_(q, m)
        if not self.limited:
            return D
        limited = dynamic_threshold(D, *self.threshold) if self.threshold else D.clamp(-self.clip, self.clip)  # type: ignore[operator]
        return D.addcmul_(gain, limited.sub_(D))

    @cached_property
    def _as_it_is(self) -> bool:
        return bool((self.into == 1).all())

    @cached_property
    def _columns(self) -> Tensor:
        """p, q and gain as one tensor (3, N)."""
        return torch.stack([self.p, self.q, self.gain])

    @property
    def limited(self) -> bool:
        """Whether D is kept within limits."""
        return self.clip is not None or self.threshold is not None

    @property
    def least(self) -> Tensor:
        """The smallest alpha dD/dx (N,) that a model of data may have: 1 - gain where the limit moves, else 0."""
        return (1 - self.gain).clamp(max=0) if self.limited else torch.zeros_like(self.gain)

    def within(self, D: Tensor) -> Tensor:
        """D (M, ...) as `read` it, brought back within the limits: the size of the sample that it leads to.

        A gain above 1 leaves D far on the other side of a limit, where no sample is.
        """
        most = 1.0 if self.threshold else self.clip  # a threshold divides by what it clamps to
        return D if most is None else D.clamp(-most, most)


def make_denoiser(
    alpha: Tensor,
    sigma: Tensor,
    into: Tensor,
    *,
    prediction: str = "epsilon",
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
    clip_gain: Tensor | None = None,
) -> Denoiser:
    """Makes the reader of a model's output for the rows of a chain.

    Args:
        alpha, sigma: Signal and noise in the state of each row (N,).
        into: What a state is multiplied by before the model sees it (N,); 1 for most models.
        prediction: What the model says: "epsilon", "v", "flow" or "x0".
        clip: The estimate is kept within [-clip, clip]; None for no limit.
        threshold: (quantile, maximum) of a dynamic threshold, in place of a clip.
        clip_gain: What the correction of a limit is multiplied by (N,); 1 if None.

    Raises:
        ValueError: An unknown prediction, a limit that is none, or two limits.
    """
    check_choice("prediction", prediction, PREDICTIONS, OTHER_NAMES)
    check_limits(clip, threshold)
    given = {"alpha": alpha, "sigma": sigma, "into": into, "clip_gain": alpha if clip_gain is None else clip_gain}
    for name, v in given.items():
        if not isinstance(v, Tensor) or v.ndim != 1 or v.shape != alpha.shape or not v.is_floating_point():
            raise refusal(name, in_words(v), "a floating-point tensor (N,), a number for each row")
    A, S, one = into * alpha, into * sigma, torch.ones_like(alpha)
    if prediction == "epsilon" and bool((A == 0).any()):
        raise ValueError("prediction: given 'epsilon'; at zero SNR noise says nothing of the data: use 'v' or 'x0'")
    p, q = {
        "epsilon": (one / A, -S / A),
        "v": (A / (A**2 + S**2), -S / (A**2 + S**2)),
        "flow": (one / (A + S), -S / (A + S)),
        "x0": (0 * one, one),
        "flow_to_data": (one / (A + S), S / (A + S)),
    }[prediction]
    return Denoiser(into, p, q, one if clip_gain is None else clip_gain, clip, threshold, prediction)


def check_limits(clip: Any, threshold: Any) -> None:
    """Refuses limits that are none, and two at once."""
    if clip is not None:
        check_number("clip", clip, "a positive number such as 1.0, or None", lambda v: 0 < v < math.inf)
    if threshold is None:
        return
    needed = "(quantile in (0, 1], maximum >= 1), such as (0.995, 1.5), or None"
    if not isinstance(threshold, tuple | list) or len(threshold) != 2:
        raise refusal("threshold", in_words(threshold), needed)
    for v, ok in zip(threshold, (lambda v: 0 < v <= 1, lambda v: 1 <= v < math.inf), strict=True):
        if not is_number(v, ok):
            raise refusal("threshold", in_words(v), needed)
    if clip is not None:
        raise refusal(
            "clip", f"{in_words(clip)} beside threshold {threshold}", "one limit", "clip=None or threshold=None"
        )


def dynamic_threshold(D: Tensor, quantile: float, most: float) -> Tensor:
    """D (M, ...) clamped to its quantile s of |D|, 1 <= s <= most, and divided by s. Source: Saharia et al. 2022."""
    size = D.abs().flatten(1)  # (M, d)
    place = quantile * (size.shape[1] - 1)
    low, high = (size.kthvalue(int(k) + 1, dim=1).values for k in (place, min(int(place) + 1, size.shape[1] - 1)))
    s = _each(torch.lerp(low, high, place - int(place)).clamp(1, most), D)
    return torch.maximum(torch.minimum(D, s), -s) / s


def _each(v: Tensor, x: Tensor) -> Tensor:
    return v.reshape(-1, *(1,) * (x.ndim - 1))
