"""Loops of one's own, in parallel: samplers with a step function that no table describes, see `sample_loop`."""

from .sample import sample_loop

__all__ = ["sample_loop"]
