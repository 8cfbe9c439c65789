"""Real things made samplable in parallel: schedulers as tables, policies by them, pipelines by rewound loops."""

from .parallel import disable_parallel_sampling, enable_parallel_sampling, parallelize
from .pipelines import Run
from .scheduler import SchedulerError, from_scheduler

__all__ = [
    "Run", "SchedulerError", "disable_parallel_sampling", "enable_parallel_sampling", "from_scheduler", "parallelize",
]  # fmt: skip
