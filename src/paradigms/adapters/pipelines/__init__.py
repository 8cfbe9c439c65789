"""Whole diffusers pipelines in parallel: the pipeline's own loop runs, and is rewound."""

from ..report import Run
from .pipeline import disable_parallel_sampling, enable_parallel_sampling, parallelize

__all__ = ["Run", "disable_parallel_sampling", "enable_parallel_sampling", "parallelize"]
