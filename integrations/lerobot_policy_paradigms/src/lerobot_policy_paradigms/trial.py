"""A policy's first observation is sampled both ways; only a policy for which they agree is parallel from then on.

error = |ours - its own| / |its own|,  from the same noise;  parallel where error <= MOST tolerance
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

LOG = logging.getLogger("lerobot_policy_paradigms")
MOST = 4.0  # as `paradigms` doubts a sample whose estimate is so much beyond the tolerance
LEAST = 1e-4  # what float32 and batches of another length may leave at tolerance 0

Loop = Callable[[], Tensor]


class Trials:
    """What is known of each policy's loop, by the object that holds it: whether it may be parallel."""

    def __init__(self, tolerance: float) -> None:
        self.most = max(MOST * tolerance, LEAST)
        self.agreed: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
        self.told: set[str] = set()

    def __call__(self, holder: Any, own: Loop, ours: Loop, report: Callable[[], Any]) -> Tensor:
        """A sample: LeRobot's own for the first observation and wherever both disagreed, else ours."""
        agreed = self.agreed.get(holder)
        if agreed is not None:
            return ours() if agreed else own()
        name, began = type(holder).__name__, time.perf_counter()
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
            reference = own()
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        try:
            found = ours()
        except Exception as error:
            self.agreed[holder] = False
            LOG.warning("%s stays step by step: %s: %s", name, type(error).__name__, error)
            return reference
        off = float((found - reference).float().norm() / reference.float().norm().clamp(min=1e-30))
        self.agreed[holder] = off <= self.most
        took = f"{seconds:.3g} s, ours {time.perf_counter() - began:.3g} s"
        said = f"its first observation {off:.2g} from its own loop ({took})"
        if off <= self.most:
            LOG.info("%s is sampled in parallel, %s: %s", name, said, report())
        else:
            LOG.warning("%s stays step by step, %s, more than %.2g", name, said, self.most)
        return reference

    def plain(self, what: str, why: str, own: Loop) -> Tensor:
        """A sample by LeRobot's own loop, and why, told once."""
        if (line := f"{what} is sampled step by step: {why}") not in self.told:
            self.told.add(line)
            LOG.info(line)
        return own()
