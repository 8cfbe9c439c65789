"""The table of a policy's scheduler, read once and kept for as long as the scheduler says the same."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from ...system import System
from .fingerprint import fingerprint
from .prepare import SchedulerError
from .table import from_scheduler

KEPT = 64  # tables; a policy needs one, and a sweep over schedulers a few
_tables: OrderedDict[Any, System] = OrderedDict()


def cached_table(scheduler: Any, steps: int, step: dict[str, Any]) -> System:
    """The `System` of a scheduler with `steps` steps, and `step` what its step is given.

    What is compared is its mark: the configuration and, for schedulers that were changed by hand, the levels and what
    was put in place of its methods. Raises ValueError for a scheduler that is no table.
    """
    key = fingerprint(scheduler), steps, repr(sorted(step.items()))
    if key not in _tables:
        try:
            # A policy's loop draws x[0] itself, of whatever size.
            _tables[key] = replace(from_scheduler(scheduler, steps, more=step), start=None)
        except SchedulerError as error:
            raise SchedulerError(
                f"noise_scheduler: {error}; type: policy.noise_scheduler = diffusers.DDIMScheduler.from_config("
                "policy.noise_scheduler.config), or call the policy without parallelize"
            ) from error
        while len(_tables) > KEPT:
            _tables.popitem(last=False)
    _tables.move_to_end(key)
    return _tables[key]
