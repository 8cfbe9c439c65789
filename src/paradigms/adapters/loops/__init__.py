"""Sampling loops whose steps are no table: a step of one's own, many at once."""

from .sample import sample_loop

__all__ = ["sample_loop"]
