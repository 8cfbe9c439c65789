"""A sampling problem is one value, checked when it is built: what equation (1) is run on.

x[n+1] = a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n],    D = what the model says of x, read by the system
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .checks.problem import check_condition, check_model, check_noise, check_scale, check_state, check_system
from .execution.chunked import Model
from .execution.evaluate import Evaluator
from .noise import Generators, Noise, replica_generators
from .system import System


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be sampled.

    Args:
        model: Called as `model(x, t, **condition)`, (M, ...) to (M, ...), each batch entry on its own.
        system: the sampler as a table of N rows.
        x: starting noise (B, ...).
        generator: of the noise of SDE rules: one, or one a sample; None is torch's own.
        noise: that noise itself (N, B, ...), in place of a generator.
        condition: tensors (B, ...) by name, passed to the model row by row.

    Raises:
        ValueError: where they are no sampling problem; nothing has been computed by then.
    """

    model: Model
    system: System
    x: Tensor
    generator: Generators | None = None
    noise: Tensor | None = None
    condition: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        check_system(self.system)
        check_state(self.x)
        check_scale(self.system, self.x)
        check_noise(self.system, self.x, self.noise, self.generator)
        check_condition(self.condition, self.x)
        check_model(self.model, self.condition or {})

    @cached_property
    def start(self) -> Tensor:
        """The starting noise (B, ...) as it is computed on: in float32 or better, whatever the model's dtype."""
        return self.x.detach().to(torch.promote_types(self.x.dtype, torch.float32))

    def evaluator(self) -> Evaluator:
        """The model as a denoiser, with the table on the states' device and in their dtype."""
        return Evaluator(self.model, self.system.to(self.start.device, self.start.dtype), self.condition)

    def stream(self) -> Noise:
        """The noise of the rows; drawing from it advances the generator."""
        return Noise(self.system.to(self.start.device, self.start.dtype), self.start, self.generator, self.noise)

    def replica(self) -> Problem:
        """The same problem, whose noise is drawn by copies of the generators: theirs are not advanced."""
        if self.noise is not None:
            return self
        same = copy(self)  # `replace` would check it all again
        object.__setattr__(same, "generator", replica_generators(self.generator, self.x.device))
        return same
