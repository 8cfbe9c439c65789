"""A copy of a policy on which its own loop can be tried, with a cheap network of known answers in place of its own:

    stub(x, t, seen) = 0.9 x + 0.1 roll(x) + 0.2 sin(t / 10 + sum_i tanh(mean(cos(i) seen_i)))

The copy shares parameters with the policy and nothing else: no hook of the policy's runs, and no buffer, queue,
scheduler or generator of its is touched. It keeps account of the attributes that the loop reads.
"""

from __future__ import annotations

import copy
import types
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...noise import replica_generators
from .interface import NAME, PolicyInterface

PRIVATE = ("_modules", "_parameters", "_buffers")  # of torch's own machinery
HIDDEN = (NAME, "reset", "__getstate__")  # what a parallel policy has on it


class StubNetwork(nn.Module):
    """The network of the docstring above, (M, ...) -> (M, ...), whatever the names of its arguments.

    half: the dtype that it answers in; None is that of its input, in float32 or better.
    """

    def __init__(self, like: nn.Module, half: torch.dtype | None = None) -> None:
        super().__init__()
        p = next((p for p in like.parameters() if p.is_floating_point()), torch.zeros(()))
        dtype = p.dtype if half else torch.promote_types(p.dtype, torch.float32)
        self.__dict__.update(like=like, answers=half)
        here = torch.zeros((), dtype=dtype, device=p.device)  # loops ask where and of which dtype the parameters are
        self.register_parameter("_stub_parameter", nn.Parameter(here, requires_grad=False))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        given = [*args, *(kwargs.pop(k) for k in ("sample", "x", "timestep", "t") if k in kwargs), *kwargs.values()]
        x, t, *seen = given
        angle = torch.as_tensor(t, device=x.device).reshape(-1, 1).to(x.dtype) / 10
        for c in seen:
            if isinstance(c, Tensor) and c.is_floating_point():
                c = c.flatten(1)
                angle = angle + torch.tanh((c * torch.arange(c.shape[1], device=c.device).cos()).mean(1, keepdim=True))
        wave = torch.sin(angle).reshape(-1, *(1,) * (x.ndim - 1))
        return (0.9 * x + 0.1 * x.roll(1, 1) + 0.2 * wave.to(x.dtype)).to(self.__dict__["answers"] or x.dtype)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            value = getattr(self.__dict__.get("like"), name)
            if callable(value):  # which could call the network itself
                raise
            return value


@dataclass
class StubPolicy:
    """The copy's seam and its loop; read: attributes that the loop reads; shared: those that could not be copied.

    broken: what the scheduler raised, where it did.
    """

    seam: PolicyInterface
    loop: Any
    read: set[str]
    shared: set[str]
    broken: list[Exception]


def stub_policy(seam: PolicyInterface, loop: Any, half: torch.dtype | None = None) -> StubPolicy:
    """A copy of a policy's holder and of its loop, see the docstring above; half: as `StubNetwork`'s."""
    stub, holder = StubNetwork(seam.network, half), seam.holder
    kind: Any = type(holder)
    made = kind.__new__(kind)
    memo: dict[int, Any] = {id(holder): made, id(seam.network): stub}
    for module in {*holder.modules(), *(seam.policy.modules() if isinstance(seam.policy, nn.Module) else ())}:
        share_parameters(module, memo, wide=half is None)
    failed: set[str] = set()
    for name, value in vars(holder).items():
        if name in PRIVATE:
            made.__dict__[name] = type(value)()
            for key, each in value.items():
                made.__dict__[name][key] = copy_attribute(each, memo, key, failed)
        elif name not in HIDDEN and not name.startswith("_paradigms"):
            made.__dict__[name] = copy_attribute(value, memo, name, failed)
    if made.noise_scheduler is holder.noise_scheduler:
        raise TypeError(f"{type(holder.noise_scheduler).__name__} cannot be copied")
    for name, value in vars(holder.noise_scheduler).items():
        if isinstance(value, types.FunctionType | types.MethodType):  # put in place of its own, and may know it
            vars(made.noise_scheduler)[name] = rebind_function(value, memo)
    broken: list[Exception] = []
    note_errors(made.noise_scheduler, broken)
    bound = rebind_function(loop, memo)
    read: set[str] = set()
    made.__class__ = noting_subclass(kind, read)
    if not (isinstance(bound, types.MethodType) and bound.__self__ is made):
        made.__dict__[NAME] = bound
    return StubPolicy(replace(seam, holder=made, policy=made), bound, read, failed, broken)


def share_parameters(module: nn.Module, memo: dict[int, Any], wide: bool) -> None:
    """Lets copies of a module share its parameters, where `wide` in float32 or better, and have no hooks."""
    for name, value in vars(module).items():
        if name.endswith("hooks") or "_hooks_" in name:
            memo[id(value)] = OrderedDict()
    for p in module.parameters(recurse=False):
        narrow = p.is_floating_point() and p.element_size() < 4
        memo[id(p)] = nn.Parameter(p.detach().float(), requires_grad=False) if wide and narrow else p


def copy_attribute(value: Any, memo: dict[int, Any], name: str, failed: set[str]) -> Any:
    """A copy of an attribute; itself, with its name noted, where there can be none."""
    if isinstance(value, torch.Generator):
        return replica_generators(value, value.device)
    try:
        return rebind_cell(value, memo)
    except Exception:  # a lock, a file, a generator of Python's: whatever cannot be copied
        failed.add(name)
        return value


def note_errors(scheduler: Any, broken: list[Exception]) -> None:
    """Lets a scheduler note what it raises, how it is called included; what users put on it is the copy's by now."""
    for name in ("step", "set_timesteps"):
        own = getattr(scheduler, name)
        vars(scheduler)[name] = NotingMethod(own, broken)


class NotingMethod:
    """A method that notes what it raises; its signature stays."""

    def __init__(self, own: Any, broken: list[Exception]) -> None:
        self.__wrapped__, self.broken = own, broken

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.__wrapped__(*args, **kwargs)
        except Exception as error:
            self.broken.append(error)
            raise

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)


def noting_subclass(kind: Any, read: set[str]) -> type:
    """A subclass of the same name whose instances note which attributes are read."""

    def look(self: Any, name: str) -> Any:
        if not name.startswith("__") and name not in PRIVATE:
            read.add(name)
        return kind.__getattribute__(self, name)

    return type(kind.__name__, (kind,), {"__getattribute__": look, "__module__": kind.__module__})


def rebind_function(function: Any, memo: dict[int, Any]) -> Any:
    """A function or method as it is of the copy: what it knows of the policy, by closure or name, is the copy's."""
    if isinstance(function, types.MethodType):
        return types.MethodType(rebind_function(function.__func__, memo), copy.deepcopy(function.__self__, memo))
    if not isinstance(function, types.FunctionType):
        return copy.deepcopy(function, memo)
    held = [c.cell_contents for c in function.__closure__ or ()]
    named = {k: function.__globals__.get(k) for k in function.__code__.co_names}
    known = {k: rebind_cell(v, memo) for k, v in named.items() if id(getattr(v, "__self__", v)) in memo}
    inside = [rebind_cell(v, memo) for v in held]
    if not known and all(mine is own for mine, own in zip(inside, held, strict=True)):
        return function
    cells, around = tuple(types.CellType(v) for v in inside), function.__globals__ | known
    made = types.FunctionType(function.__code__, around, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


def rebind_cell(value: Any, memo: dict[int, Any]) -> Any:
    """What a closure holds, as it is of the copy."""
    if isinstance(value, types.FunctionType | types.MethodType):
        return rebind_function(value, memo)
    return memo[id(value)] if id(value) in memo else copy.deepcopy(value, memo)
