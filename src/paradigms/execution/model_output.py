"""Finds the one tensor in what a model returned:

m,  (m,),  [m, None],  {"sample": m},  diffusers' outputs with .sample,  dataclasses with one tensor   ->   m
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..validate import in_words, refusal

# Binary places of the mantissa of each dtype, the leading 1 included (IEEE 754; bfloat16 as float32 without 16 bits).
MANTISSA_PLACES = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24}
# Mantissas are counted if an answer has this many times as many numbers as the dtype has mantissas. Chosen by hand.
NUMBERS_A_MANTISSA = 8
# Of that many numbers this share of all mantissas must occur. Chosen by hand.
MANTISSAS_THAT_OCCUR = 0.9
# How far a mantissa may lie from the grid, in units of the grid. The factor's own rounding is 1e-4 of them at most
# (float16 in float32). Chosen by hand.
OFF_GRID = 0.05
# An answer is of a dtype if this share of its numbers use the last place of the dtype. Of random numbers half do; the
# share is well below that. Chosen by hand.
LAST_PLACE_SHARE = 1 / 16


def output_tensor(returned: Any, x: Tensor) -> Tensor:
    """m, like x (M, ...), without its graph.

    Raises ValueError for no tensor or several, another shape or device, and what is not of a floating dtype.
    """
    m = returned if isinstance(returned, Tensor) else single_tensor(returned, x)
    if m.shape != x.shape:
        raise ValueError(
            f"model: given {tuple(x.shape)}, it returned {tuple(m.shape)}; "
            f"needed: the same shape{variance_advice(m, x)}"
        )
    if m.layout != torch.strided:
        raise refusal("model", f"an answer of {m.layout}", "a dense one", "model(x, t).to_dense()")
    if m.dtype not in (torch.float64, *MANTISSA_PLACES):
        raise refusal("model", f"an answer of {m.dtype}", "a floating-point one", casting_advice(m.dtype))
    if m.device != x.device:
        raise refusal("model", f"x on {x.device} and an answer on {m.device}", "an answer where x is", ".to(x.device)")
    return m.detach() if m.requires_grad else m


def grain(m: Tensor) -> float | None:
    """The relative rounding of a dtype coarser than m's that every number of m is of, or is but for one factor; else 0.

    Such is the answer of a network in float32 that a function gives in float64. Numbers must use the last place of the
    dtype, or 0, 1 and -1 would be answers of few places; None where too few do, as where they all are whole.
    """
    parts = torch.frexp(m.double()).mantissa
    for dtype, places in MANTISSA_PLACES.items():
        if torch.finfo(dtype).eps <= torch.finfo(m.dtype).eps:
            return 0.0
        whole = parts * 2.0**places
        if torch.equal(whole, whole.round()):
            odd = (whole.remainder(2) == 1).double().mean()
            return torch.finfo(dtype).eps if float(odd) >= LAST_PLACE_SHARE else None
        if scaled(parts, places):
            return torch.finfo(dtype).eps
    return 0.0


def scaled(parts: Tensor, places: int) -> bool:
    """Whether mantissas are those of a dtype of so many places, times one factor: nearly all of them, and no others.

    A factor changes mantissas, and neither how many there are nor that they lie on a grid. Another answer of as few
    different numbers, such as one of equal samples, lies on none.
    """
    all_of_them, parts = 2 ** (places - 1), parts[parts != 0].abs()
    if parts.numel() < NUMBERS_A_MANTISSA * all_of_them:
        return False
    found = parts.unique()
    if not MANTISSAS_THAT_OCCUR * all_of_them <= len(found) <= all_of_them:
        return False
    gaps = found.diff()
    steps = gaps / gaps.min()  # those that the factor carried over a power of 2 lie half as far apart
    return bool(((steps - steps.round()).abs() < OFF_GRID).all())


def precision(m: Tensor) -> torch.dtype:
    """The least precise dtype that holds all of m: what a model that casts its answer at the end computed in."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(m.to(dtype).to(m.dtype), m):
            return dtype
    return m.dtype


def single_tensor(returned: Any, x: Tensor) -> Tensor:
    """The one tensor that an output for x holds."""
    sample = getattr(returned, "sample", None)
    if isinstance(sample, Tensor):  # a diffusers network's output holds the answer there, whatever else it holds
        return sample
    found = [v for v in output_parts(returned) if isinstance(v, Tensor)]
    if len(found) == 1:
        return found[0]
    if returned is None:
        raise refusal("model", "an answer that is None", "one tensor; does the function end without `return`?")
    if found:
        first = "lambda x, t: model(x, t)[0] for the first of several"
        raise refusal("model", f"an answer that is {in_words(returned)} of {len(found)} tensors", "one tensor", first)
    if type(returned).__module__ == "numpy":
        what, typed = f"an answer that is numpy's {type(returned).__name__}", "torch.from_numpy(answer).to(x)"
        raise refusal("model", what, "one tensor", typed)
    raise refusal("model", f"an answer that is {in_words(returned)}", f"one tensor, {tuple(x.shape)} as x")


def output_parts(returned: Any) -> Iterable[Any]:
    """What an output is made of."""
    if isinstance(returned, Mapping):
        return returned.values()
    if isinstance(returned, tuple | list):
        return returned
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return [getattr(returned, f.name) for f in dataclasses.fields(returned)]
    return []


def variance_advice(m: Tensor, x: Tensor) -> str:
    """What to type where the answer holds a variance beside the mean."""
    if m.ndim == x.ndim > 1 and m.shape[1] == 2 * x.shape[1] and m.shape[2:] == x.shape[2:]:
        return f"; where it says the variance too, type lambda x, t: model(x, t)[:, :{x.shape[1]}]"
    return ""


def casting_advice(dtype: torch.dtype) -> str:
    """What makes a floating dtype of another."""
    return ".real" if dtype.is_complex else ".float()"
