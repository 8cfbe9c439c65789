"""Handwritten 8x8 digits (UCI, as shipped by scikit-learn) in [-1, 1], split once into training and test."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

SPLIT_SEED, TEST = 0, 360


@functools.cache
def digits(test: bool = False) -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, 8, 8) and labels (N,) int64: 1437 for training, or the 360 held out.

    Raises ImportError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("the digits data need scikit-learn: pip install scikit-learn") from error
    data = load_digits()
    pictures = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(data.target, dtype=torch.long)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    rows = order[:TEST] if test else order[TEST:]
    return pictures[rows], labels[rows]
