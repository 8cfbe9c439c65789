"""Diffusion policies in parallel: their loop is a table, which the core samples."""

from .interface import interface_of
from .policy import disable_parallel_sampling, enable_parallel_sampling, parallelize

__all__ = ["disable_parallel_sampling", "enable_parallel_sampling", "interface_of", "parallelize"]
