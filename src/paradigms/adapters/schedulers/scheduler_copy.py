"""A scheduler's copy that leaves it alone: functions that a user put on it are of the copy, too.

scheduler.step = wrapper(scheduler.step)      copied by itself, the copy's step would step the scheduler
"""

from __future__ import annotations

import copy
import types
from typing import Any

from torch import Tensor

# What a function that was put on a scheduler may hold beside other functions; a pipeline is too large to be copied.
SIMPLE = (Tensor, str, bytes, int, float, bool, complex, type(None), type, list, tuple, dict, set, types.ModuleType)


def copy_scheduler(scheduler: Any) -> Any:
    """The copy; raises TypeError where a function on the scheduler holds what is not copied."""
    put_on = {k: v for k, v in getattr(scheduler, "__dict__", {}).items() if isinstance(v, types.FunctionType)}
    for name, function in put_on.items():
        if (held := unknown_object(function, scheduler)) is not None:
            raise TypeError(f"{name} was put on it, and holds an object ({type(held).__name__})")
    made = copy.deepcopy(scheduler)
    for name, function in put_on.items():
        vars(made)[name] = rebind_function(function, {id(scheduler): made})
    return made


def unknown_object(function: Any, scheduler: Any) -> Any:
    """What a function holds in its closure that is neither a function nor simple nor the scheduler, or None."""
    if isinstance(function, types.MethodType):
        return None if function.__self__ is scheduler else function.__self__
    function = getattr(function, "_torchdynamo_orig_callable", function)
    for cell in getattr(function, "__closure__", None) or ():
        v = cell.cell_contents
        if isinstance(v, types.FunctionType | types.MethodType):
            v = unknown_object(v, scheduler)
        if v is not scheduler and not isinstance(v, SIMPLE):
            return v
    return None


def rebind_function(function: Any, memo: dict[int, Any]) -> Any:
    """A function or method as it is of the copy: what it knows of the policy, by closure or name, is the copy's."""
    function = getattr(function, "_torchdynamo_orig_callable", function)  # what torch.compile was given
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
