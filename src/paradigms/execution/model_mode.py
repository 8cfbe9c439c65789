"""What of a model may be switched between two calls: what was found out about it holds only while this is the same.

of each module            its class, whether it trains, a forward of its own, how many hooks it has
of a function or object   its code, and its attributes that are true, false or a text
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator, Sequence
from types import MethodType
from typing import Any

from torch import nn
from torch.jit import ScriptModule

from .model_modules import unfit_module


def mode_of(model: Any, inside: Sequence[nn.Module]) -> Hashable:
    """The mode of a model and of the modules inside."""
    held = vars(model.__self__ if isinstance(model, MethodType) else model) if hasattr(model, "__dict__") else {}
    switches = tuple((k, v) for k, v in held.items() if isinstance(v, bool | str))
    return getattr(model, "__func__", None), switches, tuple(map(module_mode, inside))


def module_mode(m: nn.Module) -> Hashable:
    """The mode of one module, whatever is in it."""
    own = vars(m)
    hooks = len(own.get("_forward_hooks", ())), len(own.get("_forward_pre_hooks", ()))
    return type(m), m.training, id(own.get("forward")), hooks


@contextlib.contextmanager
def unfit_calls(inside: Sequence[nn.Module]) -> Iterator[list[str]]:
    """Within it the list grows by why a module that is called by this thread is unfit for batches."""
    found, thread = list[str](), threading.get_ident()

    def note(m: nn.Module, _: Any) -> None:
        if threading.get_ident() == thread and (why := unfit_module(m)):
            found.append(why)

    handles = [m.register_forward_pre_hook(note) for m in inside if not isinstance(m, ScriptModule)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
