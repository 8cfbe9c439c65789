"""A short mark of a value, by which a change of it is noticed.

| value                              | its mark                                                                     |
| numbers, text, None, dtypes        | itself                                                                       |
| a tensor, an array                 | who it is, torch's count of changes in place, and a checksum if it is small  |
| lists, dicts, sets, queues         | the marks of what they hold                                                  |
| a scheduler                        | its configuration, its class, its fields but those that its steps set        |
| a function                         | who it is, its code, what it closes over, its defaults, the globals it names |
| modules, other objects             | who they are, the marks of their class and of their fields                   |
| what has no fields                 | what pickle would keep of it                                                 |

At most MOST values are looked at, DEEP levels far; code of LIBRARIES is marked by who it is.
"""

from __future__ import annotations

import dis
import functools
import pickle
import sys
import types
import warnings
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Levels and values of one mark. Chosen by hand: a policy's configuration has about 60 fields, and 5,000 values take
# some milliseconds, little beside a call of a policy.
DEEP, MOST = 4, 5000
# Numbers of a tensor or an array whose checksum is taken, as some ways of changing it are not counted by torch (`data`,
# NumPy). Chosen by hand: a scheduler's levels are 1,000.
SMALL = 4096
ATOMS = (str, bytes, int, float, bool, complex, type(None), torch.dtype, torch.device)
REGISTERS = ("_parameters", "_buffers", "_modules")  # of a module
TORCHS = frozenset(vars(nn.Module()))  # its hooks and its mode are not the loop's
LIBRARIES = sys.stdlib_module_names | {
    "torch", "numpy", "diffusers", "transformers", "huggingface_hub", "einops", "scipy", "PIL", "tqdm",
}  # fmt: skip
# Modules that say something else at every call, whatever the policy holds.
OUTSIDE = {"time", "os", "random", "datetime", "secrets", "uuid", "socket"}
RUN = ("set_timesteps", "step", "scale_model_input")  # what a loop calls of its scheduler
CALLED = {"__call__", "forward", "__getitem__", "__getattr__"}  # methods that no code calls by name


class Marks:
    """The marks of values that are looked at together.

    known: objects that are marked by who they are. outside: the modules of OUTSIDE that functions use.
    """

    def __init__(self, *known: Any) -> None:
        self.known = {id(v) for v in known}
        self.seen: dict[
            int, tuple[int, Any]
        ] = {}  # how far an object was looked into; it is kept, so its id is its own
        self.left, self.outside, self.named = MOST, set[str](), set[str]()

    def of(self, value: Any, deep: int = DEEP) -> Hashable:
        """The mark of a value, which is looked into so many levels far."""
        if isinstance(value, ATOMS):
            return type(value), repr(value) if isinstance(value, float | complex) else value
        if isinstance(value, types.ModuleType):
            self.outside |= {value.__name__.partition(".")[0]} & OUTSIDE
            return id(value)
        self.left -= 1
        if id(value) in self.known or deep <= self.seen.get(id(value), (0,))[0] or self.left < 0:
            return id(value)
        self.seen[id(value)] = deep, value
        return self.within(value, deep - 1)

    def within(self, value: Any, deep: int) -> Hashable:
        """The mark of a value that is more than a number or a text."""
        if isinstance(value, Tensor):
            return id(value), tuple(value.shape), None if value.is_inference() else value._version, checksum(value)
        if isinstance(value, torch.Generator):
            return id(value), bytes(value.get_state().tolist())
        if isinstance(value, types.MethodType):
            return self.of(value.__func__, deep + 1), self.of(value.__self__, deep)
        if isinstance(value, types.FunctionType):
            return self.function(value, deep)
        if isinstance(value, types.BuiltinFunctionType):
            return value.__name__, self.of(value.__self__, deep)
        if isinstance(value, functools.partial):
            return id(value), self.each(enumerate([value.func, value.args, value.keywords]), deep)
        if isinstance(value, type):
            return self.class_of(value, deep)
        if hasattr(value, "set_timesteps") and hasattr(value, "step"):
            return self.scheduler(value, deep)
        if isinstance(value, Mapping):
            return id(value), len(value), self.each(((repr(k), v) for k, v in value.items()), deep)
        if isinstance(value, list | tuple | deque | set | frozenset):
            kept = id(value) if isinstance(value, list | deque) else None  # a tuple may be made anew by a property
            return kept, len(value), self.each(enumerate(value), deep)
        fields = fingerprint_fields(value)
        inside = self.each(fields, deep) if fields else pickled(value)
        return id(value), self.of(type(value), deep), inside

    def each(self, named: Iterable[tuple[Any, Any]], deep: int) -> Hashable:
        """The marks of named values."""
        return tuple((name, self.of(v, deep)) for name, v in named)

    def function(self, function: Any, deep: int) -> Hashable:
        """The mark of a function: who it is, and what it may find outside of its arguments."""
        if is_library(function) or deep < 0:
            return id(function)
        names = names_in(function.__code__)
        self.named |= names
        held = [cell.cell_contents for cell in function.__closure__ or () if is_filled(cell)]
        held += [function.__defaults__, function.__kwdefaults__, *vars(function).values()]
        globals_named = ((name, function.__globals__[name]) for name in sorted(names & function.__globals__.keys()))
        found = [(k, self.of_global(v, names, deep)) for k, v in globals_named]
        return id(function), id(function.__code__), self.each(enumerate(held), deep), tuple(found)

    def of_global(self, value: Any, names: frozenset[str], deep: int) -> Hashable:
        """The mark of a global; of a module of the user's, of what is named of it."""
        if isinstance(value, types.ModuleType) and not is_library(value):
            return self.each(((k, v) for k, v in vars(value).items() if k in names), deep)
        return self.of(value, deep)

    def class_of(self, kind: type, deep: int) -> Hashable:
        """The mark of a class and its bases: values, and functions; those that may be called are looked into."""
        found: list[Hashable] = [id(kind)]
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] in {"torch", "builtins", "typing", "abc"}:
                continue
            for name, v in vars(base).items():
                v = v.fget if isinstance(v, property) else getattr(v, "__func__", v)
                called = name in self.named or name in CALLED
                plain = name.startswith("__") or (isinstance(v, types.FunctionType) or hasattr(v, "__get__"))
                found.append((name, id(v) if is_library(base) or (plain and not called) else self.of(v, deep)))
        return tuple(found)

    def scheduler(self, value: Any, deep: int) -> Hashable:
        """The mark of a scheduler: its configuration, its class, and what its steps do not set."""
        config, kind = repr(list(getattr(value, "config", {}).items())), self.class_of(type(value), deep)
        own: Any = type(value)
        set_by_steps = fields_set(own, kind) | {"_internal_dict"}
        fields = ((k, v) for k, v in vars(value).items() if k not in set_by_steps)
        # an equal scheduler has an equal table, so tensors and functions alone are told apart by who they are
        return kind, config, tuple((k, checksum(v) if isinstance(v, Tensor) else self.of(v, deep)) for k, v in fields)


def fingerprint(value: Any, *known: Any) -> Hashable:
    """The mark of a value; objects that are `known` are marked by who they are."""
    return Marks(*known).of(value)


def fingerprint_fields(thing: Any) -> list[tuple[str, Any]]:
    """The fields of an object; of a module what it registers and what users set, and not its hooks."""
    slots = [
        s for k in type(thing).__mro__ for s in ([k.__slots__] if isinstance(k, str) else vars(k).get("__slots__", ()))
    ]
    held = {s: getattr(thing, s) for s in slots if hasattr(thing, s) and s not in ("__dict__", "__weakref__")}
    held |= getattr(thing, "__dict__", {})
    if not isinstance(thing, nn.Module):
        return list(held.items())
    own = [(k, v) for k, v in held.items() if k not in TORCHS]
    return own + [item for register in REGISTERS for item in held[register].items()]


def checksum(value: Tensor) -> Hashable:
    """Of a tensor's numbers; None where there are many."""
    if value.numel() > SMALL or value.device.type == "meta" or value.is_complex():
        return None
    with torch.no_grad():
        v = value.detach().flatten().double()
        return (
            tuple(value.shape),
            value.dtype,
            repr(float((v * torch.arange(len(v), device=v.device).add(1).cos()).sum())),
        )


def pickled(value: Any) -> bytes | None:
    """What pickle would keep of an object without fields, such as an array or a generator of random numbers."""
    if getattr(value, "size", 0) > SMALL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pickle.dumps(value)
    except Exception:  # many have no such form
        return None


def is_library(thing: Any) -> bool:
    """Whether a function, a class or a module is of a library, whose code no one changes."""
    around = getattr(thing, "__globals__", {"__name__": getattr(thing, "__module__", None)})
    name = thing.__name__ if isinstance(thing, types.ModuleType) else around.get("__name__")
    return str(name).partition(".")[0] in LIBRARIES


def is_filled(cell: Any) -> bool:
    """Whether a closure's cell holds something yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


@functools.lru_cache(maxsize=1024)
def names_in(code: types.CodeType) -> frozenset[str]:
    """The names of globals and attributes in a code and in those within it."""
    inner = (names_in(c) for c in code.co_consts if isinstance(c, types.CodeType))
    return frozenset(code.co_names).union(*inner)


@functools.lru_cache(maxsize=64)
def fields_set(kind: Hashable, mark: Hashable) -> frozenset[str]:
    """The fields that a scheduler's steps set; mark: its class's, so that a method that is replaced is read anew.

    They are read from its code, for a trial step would run what a user wrote, and 11 of diffusers' 42 take more
    arguments than it could give or leave fields out.
    """
    todo, done, found = list(RUN), set[str](), set[str]()
    while todo:
        name = todo.pop()
        done.add(name)
        for base in kind.__mro__:  # type: ignore[attr-defined]
            function: Any = vars(base).get(name)
            while hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            code = getattr(getattr(function, "fset", None) or function, "__code__", None)
            if code is not None:
                found |= {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}
                todo += names_in(code) - done
    return frozenset(found)
