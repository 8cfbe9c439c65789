"""The networks that are measured: as rows in, rows out, on a device, in a dtype, with the chain they are sampled by.

| name         | the network                                                      | weights   | a row      |
| policy-4.2M  | the U-Net of the shipped PushT policy                            | shipped   | 16x2       |
| policy-65.8M | the published U-Net of diffusion policies                        | random    | 16x2       |
| square, kitchen | the U-Nets of those shipped policies                          | shipped   | 16x7, 16x9 |
| scenes       | the shipped image model                                          | shipped   | 3x32x32    |
| sd2          | Stable Diffusion 2's U-Net, guided: two rows of the network each | random    | 4x96x96    |
| church       | LSUN Church's U-Net (google/ddpm-church-256)                     | random    | 3x256x256  |

Random weights change no second and no byte, but the rounds that a chain takes. So policy-65.8M is sampled with its own
cost and the answers of policy-4.2M: both are called, and the large one's answer is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from paradigms.execution.chunked import Model
from paradigms.rules import ddim, ddpm
from paradigms.schedule import cosine, linear, scaled_linear
from paradigms.system import System

from . import shipped

POLICIES = {"policy-4.2M": "pusht-unet", "square": "square-unet", "kitchen": "kitchen-unet"}
LARGE = "policy-65.8M"
PUBLISHED = ("sd2", "church")
NAMES = (*POLICIES, LARGE, "scenes", *PUBLISHED)
NARROW = {"widths": (32, 64, 128), "embed": 32}  # of policy-65.8M where --small is given
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SEED = 0


class MissingError(Exception):
    """What a row needs and this machine lacks; the message says what to type."""


@dataclass(frozen=True)
class Network:
    """A network that is ready. `answers` is what is sampled with; condition: of one sample, (1, ...) by name."""

    name: str
    model: Model
    answers: Model
    shape: tuple[int, ...]
    dtype: torch.dtype
    parameters: int
    chain: Callable[[str, int], System]
    condition: dict[str, Tensor] = field(default_factory=dict)

    def batch(self, M: int, device: torch.device) -> dict[str, Tensor]:
        """M rows of noise at timesteps of its chain, with their conditions: what `model` takes by name."""
        generator = torch.Generator().manual_seed(SEED)
        x = torch.randn(M, *self.shape, generator=generator)
        t = self.chain("ddpm", 100).t
        t = t[torch.arange(M) * 7 % len(t)]
        more = {k: v.expand(M, *v.shape[1:]).contiguous() for k, v in self.condition.items()}
        return {"x": x.to(device), "t": t.to(device), **more}


def load(name: str, device: torch.device, dtype: str = "float32", small: bool = False) -> Network:
    """The network of a name. Raises MissingError where it cannot be made here."""
    if name in PUBLISHED:
        return published(name, device, DTYPES[dtype], small)
    if name == "scenes":
        return scenes(device, DTYPES[dtype])
    return policy(name, device, DTYPES[dtype], small)


def policy(name: str, device: torch.device, dtype: torch.dtype, small: bool) -> Network:
    """The U-Net of a policy with an observation, the same in each call."""
    net, action, seen = shipped.policy_network(POLICIES.get(name, POLICIES["policy-4.2M"]))
    answers = policy_call(net.to(device, dtype), dtype)
    model, own = answers, net
    if name == LARGE:
        torch.manual_seed(SEED)
        own = shipped.policy_networks().UNet1d(action, seen, **(NARROW if small else {}))
        model = policy_call(own.to(device, dtype).eval().requires_grad_(False), dtype)
    observed = torch.rand(1, seen, generator=torch.Generator().manual_seed(SEED)) * 2 - 1

    def both(x: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        model(x, t, obs=obs)
        return answers(x, t, obs=obs)

    return Network(
        name, model, both if name == LARGE else answers, (16, action), dtype, size_of(own), policy_chain,
        {"obs": observed.to(device, dtype)},
    )  # fmt: skip


def policy_call(net: nn.Module, dtype: torch.dtype) -> Model:
    """A policy's U-Net as the sampler calls it."""

    def call(x: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        return net(x.to(dtype), t, global_cond=obs)  # type: ignore[no-any-return]

    return call


def policy_chain(rule: str, steps: int) -> System:
    """The published chain of diffusion policies: squared cosine, 100 levels, data clipped to [-1, 1]."""
    return (ddpm if rule == "ddpm" else ddim)(cosine(100), steps, clip=1.0)


def scenes(device: torch.device, dtype: torch.dtype) -> Network:
    """The shipped image model."""
    net, about = shipped.image_network("scenes")
    net.to(device, dtype)

    def call(x: Tensor, t: Tensor) -> Tensor:
        return net(x.to(dtype), t)  # type: ignore[no-any-return]

    def chain(rule: str, steps: int) -> System:
        return (ddpm if rule == "ddpm" else ddim)(linear(), steps, prediction=about["prediction"])

    return Network("scenes", call, call, tuple(about["shape"]), dtype, size_of(net), chain)


def published(name: str, device: torch.device, dtype: torch.dtype, small: bool) -> Network:
    """A published network by its configuration, with random weights."""
    if find_spec("diffusers") is None:
        raise MissingError("diffusers is not installed; put its wheel on PYTHONPATH, or type: pip install diffusers")
    from ..images.network import SPECS, build, network

    spec = SPECS[name]
    net: Any = network(name, build(spec, small=small, device="meta" if device.type == "meta" else "cpu"), device, dtype)

    def chain(rule: str, steps: int) -> System:
        levels = scaled_linear() if spec.guided else linear()
        return (ddpm if rule == "ddpm" else ddim)(levels, steps, prediction=spec.prediction)

    return Network(name, net.model, net.model, net.shape, dtype, net.parameters, chain)


def size_of(net: nn.Module) -> int:
    """Its parameters."""
    return sum(p.numel() for p in net.parameters())
