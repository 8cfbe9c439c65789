"""Whole diffusers pipelines in parallel: `parallelize`."""

from ..report import Run
from .pipeline import disable_parallel_sampling, enable_parallel_sampling, parallelize

__all__ = ["Run", "disable_parallel_sampling", "enable_parallel_sampling", "parallelize"]
