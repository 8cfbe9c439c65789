"""Rows of several steps for a model of ComfyUI, whose rules for a batch are these:

a conditioning is active by the sigma of the batch's first row            rows are split by what is active
conditionings, noise and latent of B images are repeated to the batch     rows lie in K groups of B, image by image

[(n, b)] -> for each set of active ranges: (K, B) places, holes filled with a row of the same image, answers put back
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

HELD = ("noise", "latent_image")  # what KSamplerX0Inpaint holds of each image


class ComfyRows:
    """denoised (M, ...) of rows x (M, ...) at sigma (M,), of images `sample` (M,)."""

    def __init__(self, model: Any, B: int, args: dict[str, Any]) -> None:
        self.model, self.B, self.args = model, B, args
        self.bounds = sorted(set(ranges(model)))

    def __call__(self, x: Tensor, sigma: Tensor, sample: Tensor) -> Tensor:
        parts: dict[tuple[bool, ...], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, (s, b) in enumerate(zip(sigma.tolist(), sample.tolist(), strict=True)):
            active = tuple(side for v in self.bounds for side in (s > v, s < v))
            parts[active][b].append(row)
        out = torch.empty_like(x)
        for images in parts.values():
            K = max(map(len, images.values()))
            spare = next(iter(images.values()))
            place = [[(images.get(b) or spare)[min(k, len(images.get(b) or spare) - 1)] for b in range(self.B)]
                     for k in range(K)]  # fmt: skip
            index = torch.tensor(place, device=x.device).flatten()
            said = self.asked(x[index], sigma[index], K)
            for b, rows in images.items():  # and not what is in the holes
                mine = [k * self.B + b for k in range(len(rows))]
                out[rows] = said[mine].to(out)
        return out

    def asked(self, x: Tensor, sigma: Tensor, K: int) -> Tensor:
        """The model's answer to K groups of B rows, with what it holds of B images repeated."""
        held = {k: v for k in HELD if isinstance(v := getattr(self.model, k, None), Tensor) and len(v) == self.B}
        args = {k: v.repeat(K, *[1] * (v.ndim - 1)) if is_of_images(v, self.B) else v for k, v in self.args.items()}
        try:
            for k, v in held.items():
                setattr(self.model, k, v.repeat(K, *[1] * (v.ndim - 1)))
            return self.model(x, sigma, **args)  # type: ignore[no-any-return]
        finally:
            for k, v in held.items():
                setattr(self.model, k, v)


def is_of_images(v: Any, B: int) -> bool:
    """Whether an argument is a tensor with a row for each image."""
    return isinstance(v, Tensor) and v.ndim > 0 and len(v) == B


def ranges(model: Any) -> Iterator[float]:
    """The sigmas at which a conditioning or ControlNet of a model begins or ends."""
    inner = model
    while inner is not None and not isinstance(getattr(inner, "conds", None), dict):
        inner = getattr(inner, "inner_model", None)
    for conds in (getattr(inner, "conds", None) or {}).values():
        for cond in conds or ():
            yield from (float(cond[k]) for k in ("timestep_start", "timestep_end") if cond.get(k) is not None)
            control = cond.get("control")
            while control is not None:
                yield from map(float, getattr(control, "timestep_range", None) or ())
                control = getattr(control, "previous_controlnet", None)
