"""An exact denoiser of images: a mixture of J random fields that share one power-law spectrum on the periodic grid.

    data = mu[j] + field,  field ~ N(0, C),  C = F* diag(lam) F,  lam[f] ~ (1 + |f|)^-2        F: the orthonormal FFT
    x = alpha data + sigma noise,   v = alpha^2 lam + sigma^2
    w[j] = softmax_j  Re<F x, alpha F mu[j]>_(1/v) - |alpha F mu[j]|^2_(1/v) / 2
    E[data | x] = F* ( alpha lam / v  F x  +  sigma^2 / v  sum_j w[j] F mu[j] )

The means are fields of the same law kept to |f| <= 3, so that the modes differ where images do, in the large; as noise
falls the posterior has to choose one of them, and an iteration may choose wrongly. Nothing cancels at sigma -> 0, where
the second term goes to 0 and the first to x / alpha, so float32 is enough and the model says x0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import Schedule, linear

# The radial frequency up to which the means differ. Chosen by hand.
LOW = 3.0
MEANS_STD, FIELD_STD = 0.4, 0.3  # of a pixel; 0.5 together


class FieldMixture:
    """The posterior mean of data (C, H, W) of `modes` equally likely random fields, an x0 model on `schedule`.

    Called with x (M, C, H, W), variance preserving, and t (M,), whole or fractional, on the schedule; answers
    E[data | x] like x. Attributes: means (J, C, H, W) and spectrum (H, W), the eigenvalues of C, float64.
    """

    prediction = "x0"

    def __init__(
        self, shape: tuple[int, int, int], modes: int = 8, schedule: Schedule | None = None, seed: int = 0
    ) -> None:
        C, H, W = shape
        self.shape, self.schedule = shape, schedule or linear()
        f = (torch.fft.fftfreq(H).double()[:, None] * H).hypot(torch.fft.fftfreq(W).double() * W)  # (H, W)
        law = (1 + f) ** -2
        self.spectrum = FIELD_STD**2 * law / law.mean()
        low = law * (f <= LOW)
        white = torch.randn(modes, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        means = torch.fft.ifft2(torch.fft.fft2(white) * low.sqrt()).real
        self.means = MEANS_STD * means / means.square().mean((1, 2, 3), keepdim=True).sqrt()
        half = W // 2 + 1
        twice = torch.full((half,), 2.0).double()  # a real field's other half plane is the mirror of this one
        twice[0] = 1
        twice[W // 2 :] = 1 if W % 2 == 0 else 2
        self._lam = self.spectrum[:, :half].expand(C, -1, -1)  # (C, H, half)
        self._modes = torch.fft.rfft2(self.means, norm="ortho")  # (J, C, H, half)
        self._dual = torch.view_as_real(self._modes * twice).flatten(1)  # (J, 2 F)
        self._energy = (self._modes.abs().square() * twice).flatten(1)  # (J, F)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """E[data | x] (M, C, H, W)."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: given {tuple(x.shape)}; needed: (M, {', '.join(map(str, self.shape))})")
        alpha, sigma = (level[:, None, None, None] for level in self.levels(t))
        v = alpha**2 * self._lam + sigma**2  # (M, C, H, half)
        X = torch.fft.rfft2(x, norm="ortho")
        logit = torch.view_as_real(X * (alpha / v).to(x)).flatten(1) @ self._dual.to(x).T  # (M, J)
        logit = logit - (alpha**2 / v / 2).to(x).flatten(1) @ self._energy.to(x).T
        weight = torch.softmax(logit, 1).to(X.dtype)
        mean = (weight @ self._modes.to(X.dtype).flatten(1)).view_as(X)
        return torch.fft.irfft2(
            (alpha * self._lam / v).to(x) * X + (sigma**2 / v).to(x) * mean, s=self.shape[1:], norm="ortho"
        )

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha, sigma (M,) at timesteps t (M,), float64; between two, log-linear in sigma / alpha as in `time_at`."""
        known, place = self.schedule.ratio.to(t.device).log(), t.double()
        low = place.floor().long().clamp(0, len(known) - 2)
        ratio = torch.lerp(known[low], known[low + 1], place - low).exp()
        alpha = (1 + ratio**2).rsqrt()
        return alpha, ratio * alpha
