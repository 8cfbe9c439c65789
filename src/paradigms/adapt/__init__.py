"""Real things made samplable in parallel: schedulers as tables, whole pipelines by rewinding their loops."""

from .pipelines import Run, disable_parallel_sampling, enable_parallel_sampling, parallelize
from .scheduler import SchedulerError, from_scheduler

__all__ = [
    "Run", "SchedulerError", "disable_parallel_sampling", "enable_parallel_sampling", "from_scheduler", "parallelize",
]  # fmt: skip
