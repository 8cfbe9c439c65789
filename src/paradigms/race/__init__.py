"""A race of the sequential and the parallel sampler on one clock, on a page of this machine or in one static file."""
