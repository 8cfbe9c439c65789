"""Whether a loop decides something by the numbers that it is given or computes, which no table does:

    if observation.mean() > 3: ...        torch.where(x > 1, 1, x)        action = x.numpy()

Within `Decisions`, all that comes from given tensors is followed. A result of it that is no floating tensor, such as a
truth or a number of Python's, is a decision. A loop on made-up observations would show one of its branches only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.weak import WeakIdKeyDictionary

# What a tensor's numbers leave torch by, and the sums that pass over what is not finite.
READ = {
    "item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "__contains__", "equal",
    "allclose", "is_nonzero", "nan_to_num", "nan_to_num_", "nansum", "nanmean", "nanmedian", "nanquantile",
}  # fmt: skip


class Decisions(TorchFunctionMode):
    """Within it tensors that come from `given` are followed; found: the names of the functions that decided."""

    def __init__(self, given: Iterable[Any]) -> None:
        super().__init__()
        self.followed: Any = WeakIdKeyDictionary()
        self.found: list[str] = []
        for v in given:
            self.follow(v)

    def watch(self, call: Callable[[], Any]) -> Any:
        """What a call gives that is made within this."""
        try:
            try:
                self.__enter__()
                return call()
            finally:
                self.leave()
        finally:
            self.leave()  # twice is as once: an interrupt may have come between

    def leave(self) -> None:
        """Ends it, if it has not ended."""
        if any(mode is self for mode in _get_current_function_mode_stack()):
            self.__exit__(None, None, None)

    def follow(self, value: Any) -> None:
        """From now on a tensor is followed."""
        if isinstance(value, Tensor) and value.is_floating_point():
            self.followed[value] = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            made, name = func(*args, **kwargs), getattr(func, "__name__", "")
        inputs = [
            v for given in (*args, *kwargs.values()) for v in (given if isinstance(given, list | tuple) else [given])
        ]
        if not any(isinstance(v, Tensor) and v in self.followed for v in inputs):
            return made
        self.follow(inputs[0])  # which may have been changed in place
        for v in made if isinstance(made, list | tuple) else [made]:
            self.follow(v)
            if name in READ or (isinstance(v, Tensor) and not v.is_floating_point() and not v.is_complex()):
                self.found.append(name)
        return made
