"""The shipped networks by torch alone: their files read without safetensors, their classes without numpy.

A safetensors file is 8 bytes of a header's length, the header as JSON, and numbers: {name: {dtype, shape, offsets}}.
Source: the format's description in its repository.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from paradigms.files import shipped_weights
from paradigms.models.net import UNet

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of ours says of its network, and the weights in float32."""
    content = path.read_bytes()
    first = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:first])
    about = json.loads(header.pop("__metadata__")["paradigms"])
    weights = {}
    for name, told in header.items():
        begin, end = (first + offset for offset in told["data_offsets"])
        flat = torch.frombuffer(bytearray(content[begin:end]), dtype=DTYPES[told["dtype"]])
        weights[name] = flat.reshape(told["shape"]).float()
    return about, weights


@cache
def policy_networks() -> ModuleType:
    """The module of the policies' networks: the file alone, for its package imports numpy."""
    import paradigms

    path = Path(paradigms.__file__).parent / "policies" / "net.py"
    spec = importlib.util.spec_from_file_location("benchmarks_gpu_policy_networks", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # where torch.compile looks for globals
    spec.loader.exec_module(made)
    return made


def image_network(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """scenes or digits, and what its file says."""
    about, weights = read(shipped_weights("images") / f"{name}.safetensors")
    return filled(UNet(**about["net"]), weights), about


def policy_network(name: str) -> tuple[nn.Module, int, int]:
    """A policy's U-Net, and the numbers of an action and of the observations that it is given."""
    about, weights = read(shipped_weights("policies") / f"{name}.safetensors")
    seen = 2 * len(about["observations"][0])  # two observations
    action = len(weights["out.1.bias"])
    return filled(policy_networks().UNet1d(action, seen, **about["sizes"]), weights), action, seen


def filled(net: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The network with its weights, to be asked and not to be trained."""
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)
