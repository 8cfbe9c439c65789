"""Real things as (model, system, noise): what others built, made samplable in parallel."""

from .scheduler import SchedulerError, from_scheduler

__all__ = ["SchedulerError", "from_scheduler"]
