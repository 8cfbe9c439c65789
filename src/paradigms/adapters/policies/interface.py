"""Recognises a diffusion policy by its methods: where its loop is, its arguments, how its network is called.

| policy                                    | its loop                                | its network                  |
| LeRobot's `DiffusionPolicy`               | policy.diffusion.conditional_sample     | unet(x, t, global_cond)      |
| diffusion_policy's U-Net policies         | policy.conditional_sample               | model(x, t, local, global)   |
| diffusion_policy's transformer policies   | policy.conditional_sample               | model(x, t, cond)            |

All hold `noise_scheduler` and `num_inference_steps`. A call becomes a `SamplingRequest`; what it draws before its loop
has then been drawn, from the same stream. Sources: the interfaces of LeRobot and diffusion_policy, Chi et al. 2023.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...noise import Generators
from ...system import System
from ..schedulers.cache import cached_table
from ..schedulers.prepare import SchedulerError

NAME = "conditional_sample"


@dataclass(frozen=True)
class SamplingRequest:
    """One call of a policy's loop: x (B, T, A) its first noise; condition: tensors (B, ...) by name.

    known: mask and value (B, T, A), entries of the state that are set before every call of the network, and to what.
    step: further arguments of the scheduler's step.
    """

    x: Tensor
    generator: Generators | None
    condition: dict[str, Tensor]
    known: tuple[Tensor, Tensor] | None = None
    step: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyInterface(ABC):
    """The object whose `conditional_sample` is a policy's loop, and the policy that users hold."""

    holder: Any
    policy: Any

    @property
    def name(self) -> str:
        """The loop's, in words."""
        return f"{type(self.holder).__name__}.{NAME}"

    @property
    @abstractmethod
    def network(self) -> Any:
        """The noise predictor."""

    @property
    @abstractmethod
    def stride(self) -> int | None:
        """How many actions of a chunk are carried out before the next is asked for, where the policy says so."""

    @property
    @abstractmethod
    def known(self) -> tuple[str, ...]:
        """The arguments of the loop that a table knows what to do with."""

    @abstractmethod
    def check(self, given: dict[str, Any]) -> None:
        """Raises ValueError where arguments have wrong shapes."""

    @abstractmethod
    def asked(self, given: dict[str, Any]) -> SamplingRequest:
        """What a call with arguments `given` asks for, its first noise drawn; raises ValueError."""

    @abstractmethod
    def model(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The network's answer (M, T, A) for states x (M, T, A) at timesteps t (M,)."""


@dataclass(frozen=True)
class LeRobot(PolicyInterface):
    """`DiffusionModel` of LeRobot, which a `DiffusionPolicy` holds as `diffusion`."""

    @property
    def network(self) -> Any:
        return self.holder.unet

    @property
    def stride(self) -> int | None:
        return getattr(self.holder.config, "n_action_steps", None)

    @property
    def known(self) -> tuple[str, ...]:
        return "batch_size", "global_cond", "generator", "noise"

    def shape(self, given: dict[str, Any]) -> tuple[int, ...]:
        """(batch_size, horizon, action)."""
        config = self.holder.config
        return given["batch_size"], config.horizon, config.action_feature.shape[0]

    def check(self, given: dict[str, Any]) -> None:
        condition_names(given, ("global_cond",), given["batch_size"])
        x, shape = given.get("noise"), self.shape(given)
        if x is not None and tuple(x.shape) != shape:
            raise ValueError(f"noise: given {tuple(x.shape)}; needed: {shape}, (batch_size, horizon, action)")

    def asked(self, given: dict[str, Any]) -> SamplingRequest:
        self.check(given)
        x, B = given.get("noise"), given["batch_size"]
        if x is None:
            parameter = next(self.holder.parameters())
            x = randn(self.shape(given), given.get("generator"), parameter.dtype, parameter.device)
        return SamplingRequest(x, given.get("generator"), condition_names(given, ("global_cond",), B))

    def model(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        return self.holder.unet(x, t, global_cond=condition.get("global_cond"))


@dataclass(frozen=True)
class Inpainting(PolicyInterface):
    """A policy of diffusion_policy with a U-Net, whose observations may be entries of the state."""

    names: ClassVar[tuple[str, ...]] = ("local_cond", "global_cond")

    @property
    def network(self) -> Any:
        return self.holder.model

    @property
    def stride(self) -> int | None:
        return getattr(self.holder, "n_action_steps", None)

    @property
    def known(self) -> tuple[str, ...]:
        return "condition_data", "condition_mask", "generator", *self.names

    def check(self, given: dict[str, Any]) -> None:
        value, mask = given["condition_data"], given["condition_mask"]
        if value.ndim != 3 or value.shape != mask.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"condition_data: given {tuple(value.shape)}, condition_mask {tuple(mask.shape)} of {mask.dtype}; "
                "needed: both (batch, horizon, action), the mask of torch.bool"
            )
        condition_names(given, self.names, len(value))

    def asked(self, given: dict[str, Any]) -> SamplingRequest:
        self.check(given)
        value, mask = given["condition_data"], given["condition_mask"]
        x = randn(tuple(value.shape), given.get("generator"), value.dtype, value.device)
        condition = condition_names(given, self.names, len(value))
        known = (mask, value) if bool(mask.any()) else None
        return SamplingRequest(x, given.get("generator"), condition, known, dict(given["kwargs"]))

    def model(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        return self.holder.model(x, t, **{name: condition.get(name) for name in self.names})


@dataclass(frozen=True)
class InpaintingTransformer(Inpainting):
    """A policy of diffusion_policy with a transformer, which takes its condition by place."""

    names: ClassVar[tuple[str, ...]] = ("cond",)

    def model(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        return self.holder.model(x, t, condition.get("cond"))


def holder_of_loop(thing: Any) -> Any:
    """The module whose class or which itself has the loop that a module shows, None where it shows none.

    A module may hand on what another has, as torch.compile's does.
    """
    loop = getattr(thing, NAME, None) if isinstance(thing, nn.Module) else None
    while isinstance(thing, nn.Module) and NAME not in vars(thing) and not hasattr(type(thing), NAME):
        behind = getattr(loop, "__self__", getattr(loop, "thing", None))
        thing = behind if behind is not thing else None
    return thing if callable(loop) else None


def interface_of(policy: Any) -> PolicyInterface | None:
    """The seam of a policy, None of what is none."""
    for holder in map(holder_of_loop, (policy, getattr(policy, "diffusion", None))):
        if holder is not None:
            try:
                takes = list(signature(holder).parameters)
            except (TypeError, ValueError):  # a callable that does not say what it takes
                continue
            kinds: dict[str, Any] = {"batch_size": LeRobot, "global_cond": Inpainting, "cond": InpaintingTransformer}
            kind = next((kind for name, kind in kinds.items() if name in takes), None)
            if kind is not None and (kind is LeRobot or takes[:2] == ["condition_data", "condition_mask"]):
                found = kind(holder, policy)
                needed = ("noise_scheduler", "num_inference_steps", "unet" if kind is LeRobot else "model")
                return found if all(hasattr(holder, name) for name in needed) else None
    return None


def table_of_scheduler(scheduler: Any, steps: int, step: dict[str, Any]) -> System:
    """A policy's scheduler as a table of `steps` steps; raises SchedulerError, with what to type, where it is none."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        usual = getattr(getattr(scheduler, "config", None), "num_train_timesteps", 100)
        raise SchedulerError(
            f"num_inference_steps: given {steps!r}; needed: a whole number, at least 1; type: "
            f"policy.num_inference_steps = {usual}"
        )
    try:
        return cached_table(scheduler, steps, step)
    except SchedulerError as error:
        raise SchedulerError(
            f"noise_scheduler: {error}; type: policy.noise_scheduler = diffusers.DDIMScheduler.from_config("
            "policy.noise_scheduler.config), or call the policy without parallelize"
        ) from error


def own_method(holder: Any) -> Any:
    """The loop of a holder, ours looked through."""
    loop = getattr(holder, NAME)
    return getattr(loop, "own", loop)


def signature(holder: Any) -> inspect.Signature:
    """What a holder's loop takes; of one that takes anything and hands it on, what the class below it takes."""
    found = inspect.signature(own_method(holder))
    below = [vars(kind)[NAME] for kind in type(holder).__mro__ if NAME in vars(kind)]
    for function in filter(inspect.isfunction, below):
        if any(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found.parameters.values()):
            break
        found = inspect.signature(function)
        found = found.replace(parameters=list(found.parameters.values())[1:])
    return found


def condition_names(given: dict[str, Any], names: Sequence[str], B: int) -> dict[str, Tensor]:
    """The conditions among the arguments; raises ValueError where one is not (B, ...)."""
    found = {name: given[name] for name in names if given.get(name) is not None}
    for name, v in found.items():
        if not isinstance(v, Tensor) or v.ndim < 2 or len(v) != B:
            shape = tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__
            raise ValueError(f"{name}: given {shape}; needed: a tensor ({B}, ...), the observation of each sample")
    return found


def randn(shape: tuple[int, ...], generator: Generators | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard noise from one generator, the global one, or one a sample, on the device where it draws."""
    if generator is not None and not isinstance(generator, torch.Generator):
        return torch.cat([randn((1, *shape[1:]), g, dtype, device) for g in generator])
    where = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, dtype=dtype, device=where).to(device)
