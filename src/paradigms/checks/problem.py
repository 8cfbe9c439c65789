"""Checks of the problem before any work; a refusal says what was given, what is needed, and what to type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..execution.guidance import Guided
from ..execution.model_modules import unfit_for_batches
from ..schedule import Schedule
from ..system import FLOATS, System
from ..validate import NUMBERS_SHOWN, check_dense, in_words, number_in, refusal, why_unbound

# The scale of x is judged if it has this many numbers or more: the standard deviation of fewer is not known well
# enough. Chosen by hand.
LEAST_NUMBERS = 32
# A standard deviation of this or more is certainly not 1. Chosen by hand.
LARGE_STD = 5.0
# A standard deviation between 1 over this and this may be 1. Chosen by hand.
UNIT_STD = 1.5
# States may be as small and as large as this power of the smallest and the largest number of their dtype: 1e-15 to 1e15
# in float32. A power of 0.5 is the end of what squares hold. Chosen by hand.
HELD_POWER = 0.4
# Samplers that a message names as examples of a `System`.
EXAMPLES = "ddpm(schedule, 100), ddim(schedule, 50), dpmsolver(schedule, 20), heun(schedule, 20) or flow(50)"


def check_state(x: Any) -> None:
    """Raises ValueError for what is no starting noise."""
    needed = "a floating-point tensor (batch, ...)"
    if type(x).__module__ == "numpy":
        raise refusal("x", f"numpy's {type(x).__name__}", needed, "torch.from_numpy(x)")
    if not isinstance(x, Tensor) or x.ndim < 2 or x.dtype not in FLOATS or x.numel() == 0:
        given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        dtype = f"; it is of {x.dtype}" if isinstance(x, Tensor) and x.dtype not in FLOATS else ""
        raise ValueError(f"x: given {given}; needed: {needed}, such as system.noise((1, 3, 32, 32)){dtype}")
    check_dense("x", x)
    check_finite("x", x)
    check_squares(x)


def check_squares(x: Tensor) -> None:
    """Raises ValueError for numbers whose squares the dtype cannot hold, for by those rows are judged."""
    limits = torch.finfo(torch.promote_types(x.dtype, torch.float32))
    low, high, largest = limits.tiny**HELD_POWER, limits.max**HELD_POWER, float(x.detach().abs().max())
    if not (largest == 0 or low <= largest <= high):
        needed = f"0, or a largest number from {low:.0e} to {high:.0e}, for squares are taken of them"
        raise refusal("x", f"numbers of at most {largest:.3g}", needed, "system.noise(shape, generator)")


def check_scale(system: System, x: Tensor) -> None:
    """Raises ValueError for noise of standard deviation 1 where the chain begins with much more, and the reverse.

    Of few numbers, and of what lies between, nothing is said: x may be a picture with noise on it.
    """
    start = system.start
    if start is None or x.numel() < LEAST_NUMBERS:
        return
    std = float(x.detach().double().square().mean().sqrt())
    unscaled, scaled_too = start >= LARGE_STD and 1 / UNIT_STD < std < UNIT_STD, start < UNIT_STD and std > LARGE_STD
    if unscaled or scaled_too:
        typed = "system.noise(shape, generator)" + (f", or x * {start:g}" if unscaled else "")
        raise refusal("x", f"numbers of size {std:.3g}", f"noise of standard deviation {start:.4g}, as x[0]", typed)


def check_noise(system: System, x: Tensor, noise: Any, generator: Any) -> None:
    """Raises ValueError for noise that is none, or that comes from two places."""
    if noise is not None:
        shape = (len(system), *x.shape)
        if type(noise).__module__ == "numpy":
            raise refusal("noise", f"numpy's {type(noise).__name__}", f"a tensor {shape}", "torch.from_numpy(noise)")
        if not isinstance(noise, Tensor) or tuple(noise.shape) != shape or noise.dtype not in FLOATS:
            given = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
            dtype = f" of {noise.dtype}" if isinstance(noise, Tensor) and noise.dtype not in FLOATS else ""
            raise refusal("noise", f"{given}{dtype}", f"{shape}, one row a step, of a floating dtype")
        check_dense("noise", noise)
        check_finite("noise", noise)
        if generator is not None:
            raise refusal("generator", "one beside noise", "one of both", "generator=None, or noise=None")
    check_generator(generator, len(x))


def check_generator(generator: Any, B: int) -> None:
    """Raises ValueError for what is neither one generator nor one for each of B samples."""
    if generator is None or isinstance(generator, torch.Generator):
        return
    seed = generator if type(generator) is int else number_in(generator)
    typed = f"torch.Generator().manual_seed({seed if type(seed) is int else 0})"
    if not isinstance(generator, list | tuple):
        raise refusal("generator", in_words(generator), "a torch.Generator, or a list of one for each sample", typed)
    if len(generator) != B:
        raise refusal("generator", f"a list of {len(generator)}", f"one, or one for each of the {B} samples")
    for g in generator:
        if not isinstance(g, torch.Generator):
            raise refusal("generator", f"a list with {in_words(g)} in it", "a torch.Generator for each sample", typed)


def check_condition(condition: Any, x: Tensor) -> None:
    """Raises ValueError for a condition that is not made of tensors by name, a row for each sample."""
    if condition is None:
        return
    B, typed = len(x), "condition={'label': labels}, the names being those that the model takes"
    if not isinstance(condition, Mapping):
        raise refusal("condition", in_words(condition), "a dict of tensors by name", typed)
    for name, value in condition.items():
        if not isinstance(name, str) or name in ("x", "t", "self"):
            needed = "a name of the model's own, but neither x, t nor self"
            raise refusal("condition", f"the name {name!r}", needed, typed)
        if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != B:
            needed = f"a tensor with {B} rows, one a sample"
            raise refusal(f"condition {name!r}", in_words(value), needed, rows_of(value, B))
        if value.device != x.device:
            raise refusal(
                f"condition {name!r}", f"a tensor on {value.device}", f"one on {x.device}, as x", ".to(x.device)"
            )
        check_dense(f"condition {name!r}", value)


def rows_of(value: Any, B: int) -> str | None:
    """What makes a condition of B rows of a value that is meant for all of them, or that is no tensor."""
    number = value if isinstance(value, int | float) else number_in(value)
    if isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1:
        return f".expand({', '.join([str(B), *['-1'] * (value.ndim - 1)])})"
    if number is not None:
        return f"torch.full(({B},), {number!r})"
    if isinstance(value, list | tuple) and len(value) == B and all(isinstance(v, int | float) for v in value):
        return f"torch.tensor({list(value)!r})" if B <= NUMBERS_SHOWN else "torch.tensor(...) of it"
    if type(value).__module__ == "numpy" and len(value.shape) > 0 and len(value) == B:
        return "torch.from_numpy(...) of it"
    return None


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity, and say where the first one is."""
    bad = (~torch.isfinite(value)).nonzero()
    if len(bad):
        where = tuple(bad[0].tolist())
        raise refusal(name, f"{value[where].item()} at index {where}", "finite values")


def check_system(system: Any) -> None:
    """Raises ValueError for what is no system, and names what makes one of it."""
    if isinstance(system, System):
        return
    if isinstance(system, Schedule):
        raise refusal("system", "a Schedule, the noise levels alone", "a sampler on it", EXAMPLES)
    if hasattr(system, "step") and (hasattr(system, "set_timesteps") or hasattr(system, "timesteps")):
        name = system.__name__ if isinstance(system, type) else type(system).__name__
        made = f"{name}()" if isinstance(system, type) else "scheduler"
        raise refusal("system", f"the scheduler {name}", "its table", f"from_scheduler({made}, steps)")
    raise refusal(
        "system",
        in_words(system),
        "a System: a sampler as a table",
        f"{EXAMPLES}, or from_scheduler(scheduler, steps)",
    )


def check_model(model: Any, condition: Mapping[str, Any]) -> None:
    """Raises ValueError for what cannot be called as a model, or is in training mode where that matters."""
    needed = "a callable x (M, ...), t (M,), **condition (M, ...) -> (M, ...)"
    if isinstance(model, type):
        raise refusal("model", in_words(model), "an instance of it", f"{model.__name__}(...)")
    parts = ("unet", "transformer", "components")
    if not isinstance(model, nn.Module) and hasattr(model, "scheduler") and any(hasattr(model, p) for p in parts):
        name = type(model).__name__
        raise refusal("model", f"the pipeline {name}", "a network", "enable_parallel_sampling(pipe), and call the pipe")
    if not callable(model):
        raise refusal("model", in_words(model), needed)
    check_arguments(model, condition, needed)
    if isinstance(model, Guided):
        model.check(condition)
    if why := unfit_for_batches(model):
        raise refusal("model", f"one with {why}", "one that says the same of a row whatever the batch", "model.eval()")


def check_arguments(model: Any, condition: Mapping[str, Any], needed: str) -> None:
    """Raises ValueError where a model's signature, if it has one, has no room for x, t and the condition."""
    called = model
    if isinstance(model, nn.Module):
        if model._forward_pre_hooks or type(model).__call__ is not nn.Module.__call__:
            return  # what forward is given is not ours to say
        called = model.forward
    if why := why_unbound(called, None, None, **dict.fromkeys(condition)):
        raise refusal("model", why[0], f"{needed}; called with ({', '.join(['x', 't', *condition])}) it is: {why[1]}")
