"""A copy of a policy on which its own loop can be tried, with a cheap network of known answers in place of its own:

    stub(x, t, seen) = 0.9 x + 0.1 roll(x) + 0.1 sin(2 x) + 0.2 sin(t / 10 + sum_k tanh(mean_i(cos(i + k) seen_k,i)))

k are numbers made of the names of its arguments, by which the policy's network knows them: each of them counts, numbers
and truths too, so that a loop which gives the network something else is found.
The copy shares parameters with the policy and nothing else: no hook of the policy's runs, and no buffer, queue,
scheduler or generator of its is touched. It keeps account of the attributes that the loop reads.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
import types
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...noise import replica_generators
from ..schedulers.fingerprint import TORCHS, fingerprint, fingerprint_fields
from ..schedulers.scheduler_copy import rebind_cell, rebind_function
from .interface import NAME, PolicyInterface

PRIVATE = ("_modules", "_parameters", "_buffers")  # of torch's own machinery
HIDDEN = (NAME, "reset", "__getstate__")  # what a parallel policy has on it


class StubNetwork(nn.Module):
    """The network of the docstring above, (M, ...) -> (M, ...), with the arguments of another.

    half: the dtype that it answers in; None is that of its input, in float32 or better. read: the names of the other's
    fields that were looked at.
    """

    def __init__(self, like: nn.Module, half: torch.dtype | None = None) -> None:
        super().__init__()
        p = next((p for p in like.parameters() if p.is_floating_point()), torch.zeros(()))
        dtype = p.dtype if half else torch.promote_types(p.dtype, torch.float32)
        self.__dict__.update(like=like, answers=half, read=set())
        here = torch.zeros((), dtype=dtype, device=p.device)  # loops ask where and of which dtype the parameters are
        self.register_parameter("_stub_parameter", nn.Parameter(here, requires_grad=False))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        (_, x), (_, t), *seen = self.named(args, kwargs).items()
        angle = torch.as_tensor(t, device=x.device).reshape(-1, 1).to(x.dtype) / 10
        for name, c in seen:
            if c is None:
                continue
            k = zlib.crc32(name.encode()) % 1000
            if not isinstance(c, Tensor):  # texts and objects by what they look like
                c = torch.tensor([float(c) if isinstance(c, int | float) else zlib.crc32(repr(c).encode()) % 1000])
            c = torch.atleast_2d(c.to(x.device, x.dtype)).flatten(1)
            weights = (torch.arange(c.shape[1], device=x.device) + k).cos().to(x.dtype)
            angle = angle + torch.tanh((c * weights).mean(-1, keepdim=True))
        wave = torch.sin(angle).reshape(-1, *(1,) * (x.ndim - 1))
        answer = 0.9 * x + 0.1 * x.roll(1, 1) + 0.1 * torch.sin(2 * x) + 0.2 * wave.to(x.dtype)
        return answer.to(self.__dict__["answers"] or x.dtype)

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by the names that the other network has for them; x and t come first."""
        with contextlib.suppress(TypeError, ValueError):
            bound = inspect.signature(self.__dict__["like"].forward).bind(*args, **kwargs)
            bound.apply_defaults()
            return {k: v for name, given in bound.arguments.items() for k, v in flat_arguments(name, given)}
        first = [kwargs.pop(k) for k in ("sample", "x", "timestep", "t") if k in kwargs]
        return {str(i): v for i, v in enumerate((*args, *first))} | kwargs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            value = getattr(self.__dict__.get("like"), name)
            if callable(value):  # which could call the network itself
                raise
            self.__dict__["read"].add(name)
            return value


def flat_arguments(name: str, given: Any) -> list[tuple[str, Any]]:
    """One argument of a network, or the several that `*args` and `**kwargs` are, by name."""
    if isinstance(given, tuple | list):
        return [(f"{name}{i}", v) for i, v in enumerate(given)]
    return [(f"{name}{k}", v) for k, v in given.items()] if isinstance(given, dict) else [(name, given)]


class StubPolicy:
    """The copy's seam and its loop.

    An attribute is copied when the loop first reads it: a policy may hold what is large, or cannot be copied.

    Attributes:
        read: The attributes that the loop reads, and network: those that it reads of its network.
        shared: Those that could not be copied.
        broken: What the scheduler raised, where it did.
    """

    def __init__(self, seam: PolicyInterface, loop: Any, half: torch.dtype | None = None) -> None:
        """half: as `StubNetwork`'s."""
        self.stub = stub = StubNetwork(seam.network, half)
        holder = seam.holder
        kind: Any = type(holder)
        made = kind.__new__(kind)
        self.memo: dict[int, Any] = {id(holder): made, id(seam.network): stub}
        self.read, self.shared, self.broken = set[str](), set[str](), list[Exception]()
        self.network: set[str] = stub.__dict__["read"]
        self.pending: dict[str, tuple[dict[str, Any], Any]] = {}  # where an attribute goes, and what it is copied from
        self.began: dict[str, Hashable] = {}  # the marks of attributes when they were copied
        for module in {*holder.modules(), *(seam.policy.modules() if isinstance(seam.policy, nn.Module) else ())}:
            share_parameters(module, self.memo, wide=half is None)
        for name, value in vars(holder).items():
            if name in PRIVATE:
                made.__dict__[name] = type(value)()
                self.pending |= {key: (made.__dict__[name], each) for key, each in value.items()}
            elif name not in HIDDEN and not name.startswith("_paradigms"):
                self.pending[name] = made.__dict__, value
        for name in TORCHS & self.pending.keys():
            self.copied(name)
        made.__class__ = noting_subclass(kind, self)
        self.seam = replace(seam, holder=made, policy=made)
        self.prepare_scheduler(holder.noise_scheduler, made.noise_scheduler)
        self.loop = rebind_function(loop, self.memo)
        if not (isinstance(self.loop, types.MethodType) and self.loop.__self__ is made):
            made.__dict__[NAME] = self.loop

    def prepare_scheduler(self, own: Any, scheduler: Any) -> None:
        """Lets the scheduler's copy be its own, and note what it raises."""
        if scheduler is own:
            raise TypeError(f"{type(own).__name__} cannot be copied")
        for name, value in vars(own).items():
            if isinstance(value, types.FunctionType | types.MethodType):  # put in place of its own, and may know it
                vars(scheduler)[name] = rebind_function(value, self.memo)
        note_errors(scheduler, self.broken)

    def copied(self, name: str) -> None:
        """Copies an attribute that is read for the first time."""
        where, value = self.pending.pop(name)
        where[name] = copy_attribute(value, self.memo, name, self.shared)
        self.began[name] = fingerprint(where[name], self.stub)

    def look(self, name: str, caller: str) -> None:
        """An attribute is about to be read, by code of a module."""
        if name in self.pending:
            self.copied(name)
        if name in PRIVATE:
            where = self.seam.holder.__dict__[name] if hasattr(self, "seam") else None
            for each in [k for k, (into, _) in self.pending.items() if into is where]:
                self.copied(each)
        elif name == "__dict__" and caller.partition(".")[0] not in ("torch", __name__.partition(".")[0]):
            self.read |= self.pending.keys()
            for each in list(self.pending):
                self.copied(each)
        elif not name.startswith("__"):
            self.read.add(name)

    @property
    def changed(self) -> list[str]:
        """The attributes that the loop changed, its scheduler apart."""
        holder = self.seam.holder
        now = {name: fingerprint(v, self.stub) for name, v in fingerprint_fields(holder)}
        found = {name for name in now | self.began if now.get(name) != self.began.get(name)}
        return sorted(found - {"noise_scheduler", NAME} - TORCHS)


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


def noting_subclass(kind: Any, stub: StubPolicy) -> type:
    """A subclass of the same name whose instances tell `stub` which attributes are read and set."""

    def look(self: Any, name: str) -> Any:
        stub.look(name, sys._getframe(1).f_globals.get("__name__", ""))
        return kind.__getattribute__(self, name)

    def place(self: Any, name: str, value: Any) -> None:
        stub.pending.pop(name, None)
        kind.__setattr__(self, name, value)

    named = {"__getattribute__": look, "__setattr__": place, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), named)
