"""The arguments of a call of a policy's loop: by name, and which of them the table knows nothing of."""

from __future__ import annotations

import dis
import functools
import inspect
from typing import Any

KWARGS = "kwargs"


def named_arguments(takes: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that have none under "kwargs"; raises TypeError as the call would."""
    bound = takes.bind(*args, **kwargs)
    bound.apply_defaults()
    rest = next((name for name, p in takes.parameters.items() if p.kind is p.VAR_KEYWORD), None)
    more = bound.arguments.pop(rest) if rest else {}
    return {**bound.arguments, KWARGS: more}


def ignored_arguments(function: Any) -> frozenset[str]:
    """Optional parameters that a function's code never reads, "kwargs" for those without a name; none if unsure."""
    return unread_through_wrappers(unwrapped_function(function))


@functools.lru_cache(maxsize=64)
def unread_through_wrappers(function: Any) -> frozenset[str]:
    """The same of a function within its wrappers."""
    code = getattr(function, "__code__", None)
    if code is None or {"locals", "vars", "eval", "exec"} & set(code.co_names):
        return frozenset()
    loads = ("LOAD_FAST", "LOAD_CLOSURE", "LOAD_DEREF")
    read = {step.argval for step in dis.get_instructions(code) if any(name in step.opname for name in loads)}
    read = {name for said in read for name in (said if isinstance(said, tuple) else (said,))} | set(code.co_cellvars)
    count = code.co_argcount + code.co_kwonlyargcount
    takes = inspect.signature(function, follow_wrapped=False).parameters
    found = {name for name in code.co_varnames[:count] if takes[name].default is not inspect.Parameter.empty} - read
    if code.co_flags & inspect.CO_VARKEYWORDS:
        rest = code.co_varnames[count + bool(code.co_flags & inspect.CO_VARARGS)]
        found |= set() if rest in read else {KWARGS}
    return frozenset(found)


def trim_arguments(arguments: dict[str, Any], spare: frozenset[str]) -> dict[str, Any]:
    """The arguments without those that the loop never reads."""
    return arguments | {name: {} if name == KWARGS else None for name in spare if name in arguments}


def unwrapped_function(function: Any) -> Any:
    """The function within torch's own wrappers, such as `torch.no_grad()`."""
    while True:
        function = getattr(function, "__func__", function)
        inner = getattr(function, "__wrapped__", None)
        if inner is None or not str(getattr(function, "__globals__", {}).get("__name__")).startswith("torch."):
            return function
        function = inner


def unknown_arguments(given: dict[str, Any], known: tuple[str, ...], step: Any) -> list[str]:
    """Names of arguments that are given, and neither `known` nor what the scheduler's `step` takes."""
    takes = set(inspect.signature(step).parameters) - {"model_output", "timestep", "sample", "generator"}
    rest = {k: v for k, v in given.items() if k != KWARGS and k not in known}
    rest |= {k: v for k, v in given[KWARGS].items() if k not in takes}
    return [k for k, v in rest.items() if v is not None and not (isinstance(v, tuple) and not v)]
