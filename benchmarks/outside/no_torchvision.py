"""torchvision of PyPI is of a CUDA build of torch, and does not load beside a CPU's for want of two operators. With
their names declared its transforms, which are Python, work. The operators themselves are not there."""

from __future__ import annotations

import sys

import torch

OPERATORS = "nms", "qnms"  # what torchvision 0.28 describes to torch as it is imported
_declared: list[torch.library.Library] = []  # they are there for as long as this is


def ensure() -> None:
    """Makes `import torchvision` work where it is installed."""
    try:
        import torchvision
    except ModuleNotFoundError:
        return
    except (ImportError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declared.append(torch.library.Library("torchvision", "DEF"))
        for name in OPERATORS:
            _declared[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
