"""How far two sets of pictures are apart: the Frechet distance of two Gaussians fitted to their features.

    d = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^(1/2) S2 S1^(1/2))^(1/2))

with the means m and covariances S of the features (Heusel et al., 2017, who use it with another network:
the numbers here compare only with each other). The last trace is the sum of the square roots of the
eigenvalues of the symmetric matrix in brackets. Small sets give too large a distance, so compare sets of
equal size.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from paradigms.models.store import find, read, rebuild, refuse

from .classifier import Classifier


def classifier(name_or_path: str | os.PathLike[str]) -> Classifier:
    """The classifier of 'digits' (10 labels) or 'scenes' (12), or of a file; ValueError as for `load`."""
    path = find(name_or_path, "-features")
    about, weights = read(path, "features")
    try:
        model = Classifier(**about["net"])
        rebuild(model, weights)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise refuse(path, "its metadata and its weights do not describe one of our classifiers") from error
    return model


def features(name_or_path: str | os.PathLike[str]) -> Callable[[Tensor], Tensor]:
    """A function from pictures (M, C, H, W) in [-1, 1] to features (M, F); ValueError as for `load`."""
    model = classifier(name_or_path)

    @torch.no_grad()
    def of(pictures: Tensor) -> Tensor:
        device = next(model.parameters()).device
        return torch.cat([model.features(part.to(device, torch.float32)) for part in pictures.split(256)])

    return of


def frechet(f1: Tensor, f2: Tensor) -> float:
    """Frechet distance of two sets of features (n1, F) and (n2, F), computed in float64.

    Raises ValueError unless both are matrices with the same F, at least two rows and finite numbers.
    """
    for f in (f1, f2):
        if f.dim() != 2 or f.shape[1] != f1.shape[-1] or len(f) < 2:
            raise ValueError(
                f"features have shapes {tuple(f1.shape)} and {tuple(f2.shape)}; "
                "give (n1, F) and (n2, F) with n1 and n2 at least 2"
            )
        if not torch.isfinite(f).all():
            raise ValueError("some features are not finite; give finite numbers")
    (m1, s1), (m2, s2) = moments(f1), moments(f2)
    values, vectors = torch.linalg.eigh(s1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    return max(0.0, ((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * overlap).item())


def moments(f: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F) of features (n, F), float64."""
    exact = f.to(torch.float64)
    return exact.mean(0), torch.cov(exact.T).reshape(f.shape[1], f.shape[1])
