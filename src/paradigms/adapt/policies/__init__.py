"""Diffusion policies in parallel: `parallelize`."""

from .policy import disable_parallel_sampling, enable_parallel_sampling, parallelize
from .seam import seam

__all__ = ["disable_parallel_sampling", "enable_parallel_sampling", "parallelize", "seam"]
