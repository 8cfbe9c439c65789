"""Adapters: diffusers' schedulers as tables; pipelines, robot policies and loops of one's own sampled in parallel."""

from .loops import sample_loop
from .parallelize import disable_parallel_sampling, enable_parallel_sampling, parallelize
from .pipelines import Run
from .schedulers.prepare import SchedulerError
from .schedulers.table import from_scheduler

__all__ = [
    "Run", "SchedulerError", "disable_parallel_sampling", "enable_parallel_sampling", "from_scheduler", "parallelize",
    "sample_loop",
]  # fmt: skip
