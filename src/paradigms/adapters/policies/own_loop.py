"""A policy's own loop, step by step: timed, and run on the noise of a parallel call to compare with it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ...solution import relative_error
from .arguments import KWARGS
from .interface import NAME, PolicyInterface
from .method_patch import PatchedMethod
from .random_streams import RandomStreams
from .report import PolicyRun
from .warm_start import generator_per_sample


class OwnLoop(PatchedMethod):
    """What stands before a policy's loop, and can still run it; run: the report of what that takes."""

    def __init__(self, seam: PolicyInterface, run: PolicyRun) -> None:
        super().__init__(seam.holder, NAME)
        self.seam, self.run = seam, run

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.seam.network.parameters(), torch.zeros(())).device

    def stepped(self, args: Any, kwargs: Any) -> Tensor:
        """What the policy's own loop gives, timed."""
        began, run = time.perf_counter(), self.run
        with torch.no_grad():
            chunk: Tensor = self.own(*args, **kwargs)
        run.own_calls, run.own_steps = run.own_calls + 1, run.own_steps + self.seam.holder.num_inference_steps
        run.own_seconds += time.perf_counter() - began
        return chunk

    def compare(self, chunk: Tensor, args: Any, kwargs: Any, arguments: dict[str, Any], before: RandomStreams) -> None:
        """The error of a chunk against the policy's own loop from where the random streams were before it."""
        after = RandomStreams(self.device, arguments.get("generator"))
        before.restore()
        seconds = self.run.own_seconds
        try:
            right = self.reference(args, kwargs, arguments)
        finally:
            after.restore()
        off = relative_error(chunk.double(), right.double())
        off = off[torch.isfinite(right).flatten(1).all(1)]  # a broken sample is broken in both
        spent = self.run.own_seconds - seconds
        self.run.compare_seconds += spent
        self.run.compared(max(off.tolist(), default=0.0), spent)

    def reference(self, args: Any, kwargs: Any, arguments: dict[str, Any]) -> Tensor:
        """The own loop's chunk (B, T, A), sample by sample where each has a generator."""
        who = generator_per_sample(arguments.get("generator"))
        if who is None:
            return self.stepped(args, kwargs)
        B, found = len(who), []
        for b, g in enumerate(who):
            one = {k: v[b : b + 1] if isinstance(v, Tensor) and len(v) == B else v for k, v in arguments.items()}
            one |= {"generator": g, **({"batch_size": 1} if "batch_size" in one else {})}
            found.append(self.stepped((), {k: v for k, v in one.items() if k != KWARGS} | dict(arguments[KWARGS])))
        return torch.cat(found)
