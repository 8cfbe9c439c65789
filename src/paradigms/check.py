"""Every argument of a solver is checked before any work; a refusal says what was given, needed, and what to type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .assume import unfit
from .execute import Guided
from .given import closest, flag, number, refusal, said, unbound, whole
from .method import AbstractMethod, Guess
from .noise import Generators
from .pace import AbstractPace
from .schedule import Schedule
from .stop import AbstractStop
from .system import System

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
RULES = "ddpm(schedule, 100), ddim(schedule, 50), dpmsolver(schedule, 20), heun(schedule, 20) or flow(50)"


def check_call(
    model: Any,
    system: Any,
    x: Any,
    method: Any = None,
    *,
    window: Any = "auto",
    tolerance: Any = 0.0,
    generator: Any = None,
    noise: Any = None,
    condition: Any = None,
) -> None:
    """Raises ValueError where the arguments that solvers share are no sampling problem, or no way to solve it."""
    check_system(system)
    check_problem(system, x, window, generator, noise, condition)
    check_model(model, condition or {})
    check_method(method)
    check_tolerance(tolerance)


def check_account(verified: Any, compare: Any, max_rounds: Any, watch: Any) -> None:
    """Raises ValueError for what `sample` takes beside that."""
    flag("verified", verified)
    flag("compare", compare)
    if max_rounds is not None:
        whole("max_rounds", max_rounds, "a whole number, at least 1, or None for no limit", 1)
    check_watch(watch)


def check_watch(watch: Any) -> None:
    """Raises ValueError for what cannot be called with an iterator of frames alone."""
    needed, typed = "a function of an iterator of frames that gives one", "watch=tqdm.tqdm"
    if not callable(watch):
        raise refusal("watch", said(watch), needed, typed)
    if why := unbound(watch, None):
        raise refusal("watch", why[0], f"{needed}: {why[1]}", typed)


def check_problem(
    system: System,
    x: Tensor,
    window: int | str | AbstractPace,
    generator: Generators | None,
    noise: Tensor | None,
    condition: Mapping[str, Tensor] | None,
) -> None:
    """Raises ValueError where a sampling problem is not one."""
    check_window(window)
    check_state(x)
    check_noise(system, x, noise, generator)
    check_condition(condition, x)


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
    typed = f"torch.Generator().manual_seed({generator if type(generator) is int else 0})"
    if not isinstance(generator, list | tuple):
        raise refusal("generator", said(generator), "a torch.Generator, or a list of one for each sample", typed)
    if len(generator) != B:
        raise ValueError(f"generator: given {len(generator)}; needed: one, or one for each of the {B} samples")
    for g in generator:
        if not isinstance(g, torch.Generator):
            raise refusal("generator", f"a list with {said(g)} in it", "a torch.Generator for each sample", typed)


def check_condition(condition: Any, x: Tensor) -> None:
    """Raises ValueError for a condition that is not made of tensors by name, a row for each sample."""
    if condition is None:
        return
    B, typed = len(x), "condition={'label': labels}, the names being those that the model takes"
    if not isinstance(condition, Mapping):
        raise refusal("condition", said(condition), "a dict of tensors by name", typed)
    for name, value in condition.items():
        if not isinstance(name, str) or name in ("x", "t"):
            raise refusal("condition", f"the name {name!r}", "a name of the model's own, but neither x nor t", typed)
        if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != B:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"condition {name!r}: given {shape}; needed: a tensor with {B} rows, one a sample")
        if value.device != x.device:
            raise refusal(
                f"condition {name!r}", f"a tensor on {value.device}", f"one on {x.device}, as x", ".to(x.device)"
            )
        check_dense(f"condition {name!r}", value)


def check_window(window: Any) -> None:
    """Raises ValueError for what is no window."""
    number = isinstance(window, int) and not isinstance(window, bool) and window >= 1
    if not (number or (isinstance(window, str) and window == "auto") or isinstance(window, AbstractPace)):
        raise ValueError(f"window: given {said(window)}; needed: a whole number of rows, at least 1, or 'auto'")


def check_dense(name: str, value: Tensor) -> None:
    """Refuses a tensor whose rows cannot be taken, or that has no numbers."""
    if value.layout != torch.strided or value.device.type == "meta":
        raise refusal(name, f"a tensor of {value.layout} on {value.device}", "one that is dense and has numbers")


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity, and say where the first one is."""
    bad = (~torch.isfinite(value)).nonzero()
    if len(bad):
        raise ValueError(f"{name}: not finite at index {tuple(bad[0].tolist())}; needed: finite values")


# ------------------------------------------------------------------------------------------- what is no number


def check_system(system: Any) -> None:
    """Raises ValueError for what is no system, and names what makes one of it."""
    if isinstance(system, System):
        return
    if isinstance(system, Schedule):
        raise refusal("system", "a Schedule, the noise levels alone", "a sampler on it", RULES)
    if hasattr(system, "step") and (hasattr(system, "set_timesteps") or hasattr(system, "timesteps")):
        name = system.__name__ if isinstance(system, type) else type(system).__name__
        made = f"{name}()" if isinstance(system, type) else "scheduler"
        raise refusal("system", f"the scheduler {name}", "its table", f"from_scheduler({made}, steps)")
    raise refusal(
        "system", said(system), "a System: a sampler as a table", f"{RULES}, or from_scheduler(scheduler, steps)"
    )


def check_method(method: Any) -> None:
    """Raises ValueError for what is no method; None is the default."""
    if method is None or isinstance(method, AbstractMethod):
        return
    names = methods()
    if isinstance(method, type) and issubclass(method, AbstractMethod):
        raise refusal("method", said(method), "an instance of it", f"{method.__name__}()")
    if isinstance(method, AbstractStop):
        raise refusal(
            "method", said(method), "a method; a criterion is the tolerance", f"tolerance={type(method).__name__}(...)"
        )
    if isinstance(method, Guess):
        raise refusal(
            "method", said(method), "a method, which it is the guess of", f"Picard({type(method).__name__}())"
        )
    if isinstance(method, int | float) and not isinstance(method, bool):
        raise refusal(
            "method", said(method), f"one of {', '.join(names)}", f"tolerance={method} if it is the tolerance"
        )
    raise refusal(
        "method", said(method), f"one of {', '.join(names)}", closest(method, [n[:-2] for n in names], "{0}()")
    )


def methods() -> list[str]:
    """How each method is typed."""
    found, todo = set[str](), [AbstractMethod]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if not inspect.isabstract(kind) and kind.__module__.split(".")[0] == __name__.split(".")[0] and kind.__doc__:
            found.add(f"{kind.__name__}()")
    return sorted(found)


def check_tolerance(tolerance: Any) -> None:
    """Raises ValueError for what is neither a tolerance nor a criterion."""
    if isinstance(tolerance, AbstractStop):
        return
    if isinstance(tolerance, type) and issubclass(tolerance, AbstractStop):
        raise refusal("tolerance", said(tolerance), "an instance of it", f"{tolerance.__name__}(0.01)")
    needed = "a finite number, 0 (to rounding) or more, such as 0.003, or a criterion such as StepNoise(0.1)"
    number("tolerance", tolerance, needed, lambda v: 0 <= v < float("inf"))


def check_model(model: Any, condition: Mapping[str, Any]) -> None:
    """Raises ValueError for what cannot be called as a model, or is in training mode where that matters."""
    needed = "a callable x (M, ...), t (M,), **condition (M, ...) -> (M, ...)"
    if isinstance(model, type):
        raise refusal("model", said(model), "an instance of it", f"{model.__name__}(...)")
    parts = ("unet", "transformer", "components")
    if not isinstance(model, nn.Module) and hasattr(model, "scheduler") and any(hasattr(model, p) for p in parts):
        name = type(model).__name__
        raise refusal("model", f"the pipeline {name}", "a network", "enable_parallel_sampling(pipe), and call the pipe")
    if not callable(model):
        raise refusal("model", said(model), needed)
    check_arguments(model, condition, needed)
    if isinstance(model, Guided):
        model.check(condition)
    if why := unfit(model):
        raise refusal("model", f"one with {why}", "one that says the same of a row whatever the batch", "model.eval()")


def check_arguments(model: Any, condition: Mapping[str, Any], needed: str) -> None:
    """Raises ValueError where a model's signature, if it has one, has no room for x, t and the condition."""
    called = model
    if isinstance(model, nn.Module):
        if model._forward_pre_hooks or type(model).__call__ is not nn.Module.__call__:
            return  # what forward is given is not ours to say
        called = model.forward
    if why := unbound(called, None, None, **dict.fromkeys(condition)):
        raise refusal("model", why[0], f"{needed}; called with ({', '.join(['x', 't', *condition])}) it is: {why[1]}")


def watched(watch: Callable[[Iterator[Any]], Iterable[Any]], frames: Iterator[Any]) -> Iterator[Any]:
    """The frames that `watch` gives of frames; raises ValueError where it gives none, or something else."""
    needed, typed = (
        "an iterator of the frames that it is given",
        "watch=tqdm.tqdm, or a generator: for f in frames: yield f",
    )
    shown, some = watch(frames), False
    if not isinstance(shown, Iterable):
        raise refusal("watch", f"one that gives {said(shown)}", needed, typed)
    for frame in shown:
        if not hasattr(frame, "told"):
            raise refusal("watch", f"one that gives {said(frame)}", needed, typed)
        some = True
        yield frame
    if not some:
        raise refusal("watch", "one that gives no frame", needed, typed)
