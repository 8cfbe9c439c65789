"""The tables of schedulers that were read before, kept for as long as a scheduler says the same."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from ...system import System
from .fingerprint import fingerprint
from .prepare import SchedulerError
from .table import from_scheduler

# Tables; a policy or a pipeline needs one, and a sweep over schedulers a few. Chosen by hand.
KEPT = 64
_tables: OrderedDict[Any, System | str] = OrderedDict()  # of a scheduler that is no table, why


def cached_table(scheduler: Any, steps: int, step: dict[str, Any], times: tuple[float, ...] = ()) -> System:
    """The `System` of a scheduler with `steps` steps; step: what its step is given, times: those that are set.

    What is compared is its mark: the configuration and, for schedulers that were changed by hand, the levels and what
    was put in place of its methods. Raises SchedulerError, a ValueError, for a scheduler that is no table.
    """
    given = tuple((name, fingerprint(step[name])) for name in sorted(step))
    key = fingerprint(scheduler), steps, given, times
    if key not in _tables:
        try:
            # Pipelines and policies draw x[0] themselves, of whatever size.
            _tables[key] = replace(from_scheduler(scheduler, steps, more=step), start=None)
        except SchedulerError as error:
            _tables[key] = str(error)
        while len(_tables) > KEPT:
            _tables.popitem(last=False)
    _tables.move_to_end(key)
    found = _tables[key]
    if isinstance(found, str):
        raise SchedulerError(found)
    return found
