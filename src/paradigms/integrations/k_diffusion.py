"""k-diffusion's samplers, in parallel: the same call with another function, for models denoised = model(x, sigma).

    from paradigms.integrations.k_diffusion import sample_dpmpp_2m
    x = sample_dpmpp_2m(model, x, sigmas, extra_args={"class_cond": labels}, callback=shown)

States are data + sigma noise, and the rules those of `from_levels`: euler (ddim), euler_ancestral (ddim with eta),
heun, dpmpp_2m (dpmsolver), lms. The library itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..rules import from_levels
from ..solution import Solution
from ..solve import TOLERANCE, sample
from ..stopping.base import AbstractStop
from ..system import System
from ..validate import check_choice, in_words, named_arguments, refusal
from .rows import rows_of

SAMPLERS = {"euler": "ddim", "euler_ancestral": "ddim", "heun": "heun", "dpmpp_2m": "dpmsolver", "lms": "lms"}


@named_arguments
@torch.no_grad()
def sample_paradigms(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    disable: bool | None = None,
    *,
    sampler: str = "dpmpp_2m",
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: Callable[[Tensor, Tensor], Tensor] | None = None,
    order: int = 4,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int | str = "auto",
    report: Callable[[Solution], Any] | None = None,
) -> Tensor:
    """One of k-diffusion's samplers, many steps at once; the arguments that it has are k-diffusion's.

    Args:
        model: callable, model(x (M, ...), sigma (M,), **extra_args) -> denoised (M, ...), each row by itself.
        x: (B, ...), sigmas[0] times noise, or a noised picture.
        sigmas: (N + 1,), falling; the last may be 0.
        extra_args: passed on by name; tensors whose first axis is B, in dicts and lists too, are taken to be
            rows of the samples, and repeated for those of a call.
        callback: called for every step, in order, as soon as all samples are past it, with x, i, sigma, sigma_hat and
            denoised of that step.
        disable: no progress bar where true, as tqdm's.
        sampler: "euler", "euler_ancestral", "heun", "dpmpp_2m" or "lms".
        eta, s_noise, noise_sampler: of "euler_ancestral".
        order: of "lms".
        tolerance, window: as `paradigms.sample`'s.
        report: called with the `Solution`.

    Returns:
        The sample (B, ...). One seed of torch's own stream gives that of k-diffusion.

    Raises:
        ValueError: for arguments that cannot be used.

    Source: Karras et al. 2022; Lu et al. 2022b.
    """
    check_choice("sampler", sampler, SAMPLERS)
    if callback is not None and not callable(callback):
        raise refusal("callback", in_words(callback), "a function of a dict, or None")
    rule = SAMPLERS[sampler]
    how = {"eta": eta} if sampler == "euler_ancestral" else {"order": order} if rule == "lms" else {}
    system = from_levels(None, 1.0, sigmas, rule, prediction="x0", **how)
    system = replace(system, c=s_noise * system.c)
    noise = None
    if noise_sampler is not None and any(system.drawn):
        steps = zip(sigmas[:-1], sigmas[1:], system.drawn, strict=True)
        noise = torch.stack([noise_sampler(s, after) if drawn else torch.zeros_like(x) for s, after, drawn in steps])
    condition, rebuilt = rows_of(dict(extra_args or {}), len(x))
    found = sample(
        _Denoiser(model, rebuilt), system, x, tolerance=tolerance, window=window, noise=noise, condition=condition,
        key=_key(model), watch=_watch(system, sigmas, rule, callback, disable),
    )  # fmt: skip
    if report is not None:
        report(found)
    return found.x.to(x.dtype)


sample_euler = partial(sample_paradigms, sampler="euler")
sample_euler_ancestral = partial(sample_paradigms, sampler="euler_ancestral")
sample_heun = partial(sample_paradigms, sampler="heun")
sample_dpmpp_2m = partial(sample_paradigms, sampler="dpmpp_2m")
sample_lms = partial(sample_paradigms, sampler="lms")


class _Denoiser:
    """model(x, sigma, **extra_args), its extra arguments made of the rows of a call."""

    def __init__(self, model: Any, rebuilt: Callable[[Mapping[str, Tensor]], dict[str, Any]]) -> None:
        self.model, self.rebuilt = model, rebuilt

    def __call__(self, x: Tensor, sigma: Tensor, **condition: Tensor) -> Tensor:
        return self.model(x, sigma, **self.rebuilt(condition))  # type: ignore[no-any-return]


def _key(model: Any) -> Any:
    """What "auto" remembers a model by: itself, where it can be."""
    try:
        hash(model)
    except TypeError:
        return None
    return model


def _watch(
    system: System, sigmas: Tensor, rule: str, callback: Callable[[dict[str, Any]], Any] | None, disable: bool | None
) -> Callable[[Iterator[Any]], Iterable[Any]]:
    """What looks at the frames: a progress bar, and the callback for every step that all samples are past."""
    bar = _progress(len(sigmas) - 1, disable)
    if callback is None and bar is None:
        return iter
    each = 2 if rule == "heun" else 1  # rows of a step

    def watch(frames: Iterator[Any]) -> Iterator[Any]:
        path: list[list[tuple[Tensor, Tensor]]] = []
        told = 0
        for frame in frames:
            path = path or [[] for _ in frame.begin]
            for b, stride in enumerate(frame.stride.tolist()):
                path[b] += [(frame.x[w, b], frame.D[w, b]) for w in range(stride)]
            while told * each < min(map(len, path)):
                step, path_row = told, told * each
                x, D = (torch.stack([states[path_row][k] for states in path]) for k in (0, 1))
                denoised = x - float(sigmas[step]) * D if rule == "lms" else D
                if callback is not None:
                    callback(
                        {"x": x, "i": step, "sigma": sigmas[step], "sigma_hat": sigmas[step], "denoised": denoised}
                    )
                for states in path:
                    states[path_row] = (x[:0], x[:0])  # shown already: no longer kept
                told += 1
                if bar is not None:
                    bar.update(1)
            yield frame
        if bar is not None:
            bar.close()

    return watch


def _progress(steps: int, disable: bool | None) -> Any:
    """A bar of tqdm, where it is there and wanted."""
    if disable:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    bar = tqdm(total=steps, disable=disable)
    return None if bar.disable else bar
