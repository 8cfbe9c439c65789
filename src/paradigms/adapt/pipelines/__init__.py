"""Whole diffusers pipelines in parallel: `parallelize`."""

from .pipeline import disable_parallel_sampling, enable_parallel_sampling, parallelize
from .report import Run

__all__ = ["Run", "disable_parallel_sampling", "enable_parallel_sampling", "parallelize"]
