"""What a round asks of torch, in units that no machine changes: operator calls, kernels, and waits for the device.

calls = what torch dispatches,  kernels = those that a GPU would be given,  waits = questions that a GPU must answer
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paradigms.solution import Solution
from paradigms.system import System


class Operations(TorchDispatchMode):
    """Counts the operations that torch is asked for, by name.

    Of them `kernels` are those that a GPU would be given: not views, and not what is worked out of numbers on the CPU
    alone. A tensor is taken to be on a GPU where it is in `far` or was made of one that is.
    """

    def __init__(self, far: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.count, self.kernels = Counter[str](), Counter[str]()
        for v in far:
            v.is_far = True  # type: ignore[attr-defined]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count[name] += 1
        made = func(*args, **(kwargs or {}))
        if any(getattr(v, "is_far", False) for v in tree_leaves((args, kwargs))):
            looks = name == "_unsafe_view" or any(
                v.alias_info and not v.alias_info.is_write for v in func._schema.arguments
            )
            self.kernels[name] += not looks
            for v in tree_leaves(made):
                if isinstance(v, Tensor):
                    v.is_far = True  # type: ignore[attr-defined]
        return made


class Far(Tensor):
    """A tensor that counts what is asked of it which a device must be waited for; what is made of it is such a one."""

    asked: ClassVar[Counter[str]] = Counter()
    waits = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "nonzero", "numpy", "unique", "equal")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        picks = args[1] if name in ("__getitem__", "__setitem__") else ()
        if any(isinstance(v, Far) and v.dtype == torch.bool for v in (picks if isinstance(picks, tuple) else (picks,))):
            cls.asked["a mask as an index"] += 1
        elif name == "cpu":
            cls.asked[name] += 1
            return args[0].as_subclass(Tensor)
        elif name in cls.waits:
            cls.asked[name] += 1
        return super().__torch_function__(func, types, args, kwargs or {})


def on_device(system: System) -> list[Tensor]:
    """The tensors of a table, which lie where the states do."""
    tables = [*vars(system).values(), *vars(system.denoiser).values()]
    return [v for v in tables if isinstance(v, Tensor)]


def waits(run: Callable[[], Solution]) -> float | None:
    """How often a round waits for a CUDA device, as torch's debug mode says; None where there is none."""
    if not torch.cuda.is_available():
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            n = run().rounds
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in said) / n
